"""Prompts from a file or standard input, a `Row` at a time.

Strict on purpose: a batch spends money, so whatever is not plainly meant is an `InputError` that names file, line
and column, and `check_input` reads to the end before anything is spent. Nothing is held but 8 bytes for a key: else a
million rows take the memory of one.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from .._exceptions import InputError
from .._models import DEFAULT_MODEL, GenerateRequest, describe_invalid
from ._columns import FIELDS, meant
from ._keys import KeyHashes
from ._manifest import MANIFEST_NAMES
from ._records import (
    FaultError,
    Record,
    csv_records,
    json_records,
    read_lines,
    sniffed_records,
    text_records,
    unreadable,
)

STDIN = "-"

_READERS = {".txt": text_records, ".jsonl": json_records, ".csv": csv_records}
_RESERVED = frozenset(MANIFEST_NAMES) - frozenset(FIELDS)
_SPOOL_BYTES = 1 << 20  # what standard input may keep in memory before it goes to a temporary file
_SHOWN = 80  # characters of an odd value that a message quotes
MAX_OWN = 20  # own columns whose names are kept for a message


@dataclass(frozen=True, slots=True)
class RowDefaults:
    """What a row gets that names none of its own. Raises: InvalidRequestError for what no request could carry."""

    model: str | None = None
    aspect_ratio: str | None = None
    quantity: int | None = None

    def __post_init__(self) -> None:
        GenerateRequest.of(".", model=self.model, aspect_ratio=self.aspect_ratio, quantity=self.quantity)


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt: `index` counts rows from 0, `line` lines from 1; `extra` goes to the manifest."""

    index: int
    line: int
    key: str | None
    request: GenerateRequest
    extra: dict[str, Any]


@dataclass(slots=True)
class ModelCounts:
    """What one model is asked for. Its price: `images` times the model's cost, plus `surcharge` credits."""

    rows: int = 0
    images: int = 0
    surcharge: int = 0  # a credit an image for each reference after the first


@dataclass(slots=True)
class InputCounts:
    """What an input asks for; `own` names the rows' own columns, the first `MAX_OWN`."""

    rows: int = 0
    images: int = 0
    by_model: dict[str, ModelCounts] = field(default_factory=dict)
    keys: KeyHashes = field(default_factory=KeyHashes)
    own: list[str] = field(default_factory=list)

    def add(self, request: GenerateRequest) -> None:
        """Count one more request."""
        model = self.by_model.setdefault(request.model or DEFAULT_MODEL, ModelCounts())
        self.rows += 1
        self.images += request.quantity
        model.rows += 1
        model.images += request.quantity
        model.surcharge += request.quantity * max(0, len(request.reference_images) - 1)

    def add_own(self, columns: Iterable[str]) -> None:
        """Keep the names that are new."""
        for name in columns:
            if name not in self.own and len(self.own) < MAX_OWN:
                self.own.append(name)


def read_rows(
    source: str | Path, *, defaults: RowDefaults | None = None, stdin: BinaryIO | None = None
) -> Iterator[Row]:
    """Yield the rows of a `.txt`, `.jsonl` or `.csv` file, or of standard input for `-`.

    Standard input is JSON lines when its first line that is not blank starts with `{`, CSV when that names a column
    prompt, else a prompt a line.
    Relative reference images stand in the input's own folder (for standard input, the working directory).

    Raises: InputError, at the first row that can't be used, and for an input without any.
    """
    name = "standard input" if str(source) == STDIN else str(source)
    folder = Path.cwd() if str(source) == STDIN else Path(source).absolute().parent
    defaults = defaults or RowDefaults()
    line: int | None = None
    try:
        with _opened(source, stdin) as stream:
            for index, (line, record) in enumerate(_records(source, stream)):
                yield _row(index, line, record, defaults, folder)
        if line is None:
            raise FaultError("no prompt in it; write at least one and run again")
    except FaultError as fault:
        raise _told(fault, name, line) from fault.__cause__


def check_input(
    source: str | Path, *, defaults: RowDefaults | None = None, stdin: BinaryIO | None = None
) -> InputCounts:
    """Read an input to its end and count it, so that bad input is known before anything is spent.

    Standard input can be read once only: give this, and then `read_rows`, the file that `spool` returns, rewound.

    Raises: InputError.
    """
    counts = InputCounts()
    for row in read_rows(source, defaults=defaults, stdin=stdin):
        counts.add(row.request)
        counts.add_own(row.extra)
        if row.key is not None:
            counts.keys.add(row.key)
    return counts


def spool(stream: BinaryIO | None = None) -> tempfile.SpooledTemporaryFile[bytes]:
    """Standard input, or another stream, as a temporary file that can be rewound. The caller closes it."""
    file = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - handed to the caller
    shutil.copyfileobj(stream or sys.stdin.buffer, file)
    file.seek(0)
    return file


def _told(fault: FaultError, source: str, row_line: int | None) -> InputError:
    line = fault.line or row_line
    column = f"column {fault.column}" if (fault.column or "").isdecimal() else fault.column
    place = ", ".join(filter(None, (source, f"line {line}" if line else None, column)))
    return InputError(f"{place}: {fault.reason}", source=source, line=line, column=fault.column)


def _opened(source: str | Path, stdin: BinaryIO | None) -> AbstractContextManager[BinaryIO]:
    if str(source) == STDIN:
        return nullcontext(stdin or sys.stdin.buffer)
    try:
        return Path(source).open("rb")
    except FileNotFoundError as error:
        raise FaultError("no such file; check the path") from error
    except IsADirectoryError as error:
        raise FaultError("this is a folder; name the .txt, .jsonl or .csv file in it") from error
    except OSError as error:
        raise unreadable(error) from error


def _records(source: str | Path, stream: BinaryIO) -> Iterator[Record]:
    if str(source) == STDIN:
        return sniffed_records(read_lines(stream))
    suffix = Path(source).suffix
    read = _READERS.get(suffix.lower())
    if read is None:
        kind = f"{suffix} files" if suffix else "files without a suffix"
        raise FaultError(f"{kind} can't be read; use .txt, .jsonl or .csv, or - for standard input")
    return read(read_lines(stream))


def _row(index: int, line: int, record: dict[str, Any], defaults: RowDefaults, folder: Path) -> Row:
    try:
        known, extra = _sorted_out(record)
        return Row(index, line, _key(known.get("key")), _request(known, defaults, folder), extra)
    except FaultError as fault:
        as_given = next((name for name in record if FIELDS.get(name) == fault.column), fault.column)
        raise FaultError(f"{fault.reason}; fix the line and run again", column=as_given) from fault.__cause__


def _sorted_out(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a record into our fields, under our names, and the row's own columns."""
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in record.items():
        ours = FIELDS.get(name)
        if ours is None:
            if name in _RESERVED:
                raise FaultError("the manifest has its own column of this name, so rename yours", column=name)
            if (near := meant(name)) is not None:
                raise FaultError(f"did you mean {near!r}? It is too near for a column of your own", column=name)
            extra[name] = value
        elif ours in known:
            raise FaultError("this row gives the same field under two names", column=name)
        elif value is not None and value != "":
            known[ours] = value
    return known, extra


def _request(known: dict[str, Any], defaults: RowDefaults, folder: Path) -> GenerateRequest:
    if "prompt" not in known:
        raise FaultError("the prompt is missing or blank", column="prompt")
    try:
        return GenerateRequest(
            prompt=known["prompt"],
            model=_stripped(known.get("model", defaults.model)),
            aspect_ratio=_stripped(known.get("aspect_ratio", defaults.aspect_ratio)),
            quantity=_quantity(known.get("quantity", defaults.quantity)),
            reference_images=_references(known.get("reference_images", []), folder),
        )
    except ValidationError as error:
        column = str(error.errors()[0]["loc"][0])
        raise FaultError(describe_invalid(error).removeprefix(f"{column}: "), column=column) from error


def _key(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value and (value.strip() or None)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise FaultError(f"must be a text (got {_shown(value)})", column="key")


def _stripped(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _quantity(value: Any) -> int:
    if value is None:
        return 1
    try:
        number = int(value)
        whole = isinstance(value, str) or (number == value and not isinstance(value, bool))
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise FaultError(f"must be a whole number (got {_shown(value)})", column="quantity")
    if number < 1:
        raise FaultError(f"must be at least 1 (got {number})", column="quantity")
    return number


def _references(value: Any, folder: Path) -> tuple[str | Path, ...]:
    if not value:
        return ()
    given = _listed(value, folder) if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise FaultError("must be a list of URLs, data URIs and paths", column="reference_images")
    return tuple(_reference(one.strip(), folder) for one in given)


def _listed(text: str, folder: Path) -> Any:
    """What one text names: a file as it stands, a JSON list, or items set apart by `|`, or else by spaces."""
    if _is_file(folder / text):
        return [text]
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise FaultError(f"not a JSON list ({error})", column="reference_images") from error
    parts = text.split("|") if "|" in text else text.split()
    return [part for part in parts if part.strip()]


def _reference(text: str, folder: Path) -> str | Path:
    if text[:8].lower().startswith(("http://", "https://", "data:")):
        return text
    path = folder / text
    if not _is_file(path):
        raise FaultError(f"no image file at {_shown_end(str(path))}", column="reference_images")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long to be one, a NUL in it
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _shown_end(path: str) -> str:
    """A path's file name says more than the folders above it."""
    return repr(path if len(path) <= _SHOWN else f"…{path[-_SHOWN:]}")
