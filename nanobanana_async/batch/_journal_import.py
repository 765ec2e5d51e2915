"""Rows into the journal, in one transaction: all of an input, or nothing of it.

Known rows are compared, new ones inserted. Memory is that of a chunk, whatever the input's length.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterable
from typing import Any

from .._exceptions import InputError
from ._inputs import Row
from ._journal_codec import StoredRow, to_stored
from ._journal_rows import Added

_CHUNK_ROWS = 1000
_CHUNK_SIZE = 4 << 20  # characters; reference images as data URIs are megabytes a row
_INSERT_INPUT = "INSERT INTO input VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_JOB = "INSERT INTO job (idx, model, quantity, surcharge) VALUES (?, ?, ?, ?)"
_ASKED = "SELECT key, prompt, model, aspect_ratio, quantity, refs FROM input JOIN job USING (idx) WHERE idx = ?"
_ASKED_NAMES = ("key", "prompt", "model", "aspect ratio", "quantity", "reference images")
_SEEN = "CREATE TEMP TABLE seen (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID"


class AbandonedError(Exception):
    """Nobody waits for this import any more."""


class Import:
    """Takes the rows of one `add_rows`. Setting `abandoned` ends it at the next row, with nothing written."""

    def __init__(self, rows: Iterable[Row], *, dedupe: bool, source: str | None) -> None:
        self.abandoned = threading.Event()
        self._rows = rows
        self._dedupe = dedupe
        self._source = source
        self._pending: list[StoredRow] = []
        self._pending_size = 0
        self._top = -1  # the highest index there is; a row beyond it is new without a look
        self._added = self._known = self._duplicates = 0

    def __call__(self, connection: sqlite3.Connection) -> Added:
        """Drain the rows. Raises: InputError, and whatever the rows raise."""
        (self._top,) = connection.execute("SELECT ifnull(max(idx), -1) FROM input").fetchone()
        if self._dedupe:
            _remember_known(connection)
        for row in self._rows:
            if self.abandoned.is_set():
                raise AbandonedError
            self._take(connection, row)
        self._flush(connection)
        if self._dedupe:
            connection.execute("DROP TABLE temp.seen")
        return Added(self._added, self._known, self._duplicates)

    def _take(self, connection: sqlite3.Connection, row: Row) -> None:
        new = to_stored(row)
        if row.index <= self._top:
            self._flush(connection)
            if self._is_known(connection, new):
                self._known += 1
                return
        if self._dedupe and not _is_first(connection, new):
            self._duplicates += 1
            return
        self._top = max(self._top, row.index)
        self._added += 1
        self._pending.append(new)
        self._pending_size += new.size
        if len(self._pending) >= _CHUNK_ROWS or self._pending_size >= _CHUNK_SIZE:
            self._flush(connection)

    def _flush(self, connection: sqlite3.Connection) -> None:
        pending, self._pending, self._pending_size = self._pending, [], 0
        try:
            connection.executemany(_INSERT_INPUT, (row.input for row in pending))
            connection.executemany(_INSERT_JOB, (row.job for row in pending))
        except (OverflowError, UnicodeEncodeError) as error:
            raise self._unstorable(pending) from error

    def _is_known(self, connection: sqlite3.Connection, new: StoredRow) -> bool:
        """Whether this very row is there; its line and its own columns follow the input. Raises: InputError."""
        found = connection.execute("SELECT fingerprint, line, extra FROM input WHERE idx = ?", (new.index,)).fetchone()
        if found is None:
            return False
        if found[0] != new.fingerprint:
            raise self._changed(connection, new)
        if found[1:] != (new.line, new.extra):
            connection.execute("UPDATE input SET line = ?, extra = ? WHERE idx = ?", (new.line, new.extra, new.index))
        return True

    def _changed(self, connection: sqlite3.Connection, row: StoredRow) -> InputError:
        """The prompt may stand in the input as before, and an option say another model."""
        _, _, _, key, prompt, aspect_ratio, _, references = row.input
        _, model, quantity, _ = row.job
        now = (key, prompt, model, aspect_ratio, quantity, references)
        before = connection.execute(_ASKED, (row.index,)).fetchone()
        parts = [name for name, *both in zip(_ASKED_NAMES, now, before, strict=True) if both[0] != both[1]]
        which = f"in its {', '.join(parts)} " if parts else ""
        reason = f"differs {which}from the one this batch was started with; put that back, in input and options, "
        return self._fault(row, f"{reason}or use another folder")

    def _unstorable(self, rows: list[StoredRow]) -> InputError:
        row = next(row for row in rows if not all(map(_is_storable, itertools.chain(row.input, row.job))))
        return self._fault(row, "holds a number too large, or half a character; fix it and run again")

    def _fault(self, row: StoredRow, reason: str) -> InputError:
        place = f"{self._source}: " if self._source else ""
        message = f"{place}row {row.index} (line {row.line}) {reason}"
        return InputError(message, source=self._source, line=row.line)


def _remember_known(connection: sqlite3.Connection) -> None:
    # On disk if need be: a set of a million fingerprints would be most of the memory of a batch. Sorted, for a
    # B-tree is filled fastest from left to right.
    connection.execute(_SEEN)
    connection.execute("INSERT OR IGNORE INTO temp.seen SELECT fingerprint FROM input ORDER BY fingerprint")


def _is_first(connection: sqlite3.Connection, row: StoredRow) -> bool:
    return connection.execute("INSERT OR IGNORE INTO temp.seen VALUES (?)", (row.fingerprint,)).rowcount == 1


def _is_storable(value: Any) -> bool:
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return not isinstance(value, str) or value.isascii() or value.encode("utf-8", "replace").decode() == value
