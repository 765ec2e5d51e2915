r"""Text, JSON lines and CSV: bytes in, records out, each with the number of its first line.

A line ends at \n or \r\n and nowhere else, for U+2028 and its like may stand inside a prompt.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeAlias

from ._columns import meant

Line: TypeAlias = tuple[int, str]  # its number, from 1, and its text without the line's end
Record: TypeAlias = tuple[int, dict[str, Any]]  # the number of its first line, and its fields by column

_CELL_LIMIT = 32 << 20  # characters; nine reference images of 1.5 MB as data URIs fit, csv's own 128 KiB hold none


class FaultError(Exception):
    """What is wrong, and where as far as it is known here: whoever knows the file tells it to the user."""

    def __init__(self, reason: str, *, line: int | None = None, column: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.column = column


def unreadable(error: OSError) -> FaultError:
    """What the system said, with what to do."""
    return FaultError(f"can't be read ({error.strerror or error}); check the file and its permissions")


def read_lines(stream: Iterable[bytes]) -> Iterator[Line]:
    """Decode UTF-8, with or without a byte order mark. Raises: FaultError, with the offset in the file."""
    offset = 0
    try:
        for number, raw in enumerate(stream, 1):
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(error, number, offset) from error
            offset += len(raw)
            if number == 1:
                text = text.removeprefix("\ufeff")
            yield number, text.rstrip("\r\n")
    except OSError as error:
        raise unreadable(error) from error


def text_records(lines: Iterable[Line]) -> Iterator[Record]:
    """A prompt a line; blank lines are skipped."""
    for number, text in lines:
        if text and not text.isspace():
            yield number, {"prompt": text}


def json_records(lines: Iterable[Line]) -> Iterator[Record]:
    """An object a line; blank lines are skipped. Raises: FaultError."""
    for number, text in lines:
        if not text or text.isspace():
            continue
        record = _parsed(text, number)
        if not isinstance(record, dict):
            reason = f'a row must be an object like {{"prompt": "…"}} (got {text.strip():.40})'
            raise FaultError(f"{reason}; fix the line and run again", line=number)
        yield number, record


def sniffed_records(lines: Iterator[Line]) -> Iterator[Record]:
    """JSON lines when the first line that is not blank starts with `{`, CSV when it names a column prompt, else text.

    Raises: FaultError.
    """
    before: list[Line] = []  # blank ones, which CSV counts
    for first in lines:
        before.append(first)
        if first[1].strip():
            return _reader_of(first[1])(itertools.chain(before, lines))
    return iter(())


def _reader_of(first: str) -> Callable[[Iterable[Line]], Iterator[Record]]:
    if first.lstrip().startswith("{"):
        return json_records
    names = [name.strip(' "') for name in first.split(",")]
    return csv_records if any("prompt" in (name, meant(name)) for name in names) else text_records


def csv_records(lines: Iterable[Line]) -> Iterator[Record]:
    """A record a row, by the names in the first row; a cell may span lines. Raises: FaultError."""
    # The limit is the whole process's; it is only ever raised, which no other reader of CSV minds.
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_LIMIT))
    rows = _csv_rows(lines)
    header_line, header = next(rows, (1, ["prompt"]))
    columns = [name.strip() for name in header]
    _check_columns(columns, header_line)
    for line, cells in rows:
        if len(cells) > len(columns):
            reason = f"{len(cells)} cells for {len(columns)} columns; put cells with commas in double quotes"
            raise FaultError(reason, line=line)
        yield line, dict(itertools.zip_longest(columns, cells, fillvalue=""))


def _csv_rows(lines: Iterable[Line]) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank (spreadsheets leave rows of bare commas), each with the number of its first line."""
    reader = csv.reader((text + "\n" for _, text in lines), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            advice = "look for a double quote that is not closed, or not doubled inside a cell"
            raise FaultError(f"not CSV ({error}); {advice}", line=line) from error
        if cells is None:
            return
        if any(cells):
            yield line, cells


def _check_columns(columns: list[str], line: int) -> None:
    for name in columns:
        if (near := meant(name)) is not None:
            raise FaultError(f"did you mean {near!r}? Rename it in the first row", line=line, column=name)
    if "prompt" not in columns:
        found = ", ".join(columns)
        reason = f"no column is named prompt (found: {found:.80}); name one in the first row"
        raise FaultError(reason, line=line, column="prompt")
    for number, name in enumerate(columns, 1):
        if not name:
            raise FaultError("this column has no name; name it or remove it", line=line, column=str(number))
        if columns.index(name) != number - 1:
            raise FaultError("two columns have this name; rename one", line=line, column=name)


def _not_utf8(error: UnicodeDecodeError, line: int, offset: int) -> FaultError:
    byte, where = error.object[error.start], offset + error.start
    return FaultError(f"not UTF-8 (byte 0x{byte:02x} at offset {where}); save the file as UTF-8", line=line)


def _parsed(text: str, line: int) -> Any:
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:  # only an escape can bring half of a surrogate pair, which no UTF-8 file can hold
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        reason = f"not JSON ({error.msg}); fix the line and run again"
        raise FaultError(reason, line=line, column=str(error.colno)) from error
    except (ValueError, RecursionError) as error:
        raise FaultError(f"not JSON ({error}); fix the line and run again", line=line) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


# What Python reads but JSON does not know (NaN, 1e999) would come back in the manifest and break its readers.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
