"""What became of rows elsewhere, taken over into the journal: for a batch whose rows many workers share."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ._journal_codec import encode_list, plain
from ._journal_rows import JobState

_MIRROR = """
    UPDATE job SET
        state = ?, attempts = ?, cost = ?, credits = ?, generation_id = ?, urls = ?, created_at = ?, expires_at = ?,
        files = ?, error = ?
    WHERE idx = ?
"""
_SET = "INSERT INTO setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that is known of one row's present attempt."""

    index: int
    state: JobState
    attempts: int
    cost: int | None
    credits: int | None
    generation_id: str | None
    urls: tuple[str, ...]
    created_at: datetime | None
    expires_at: datetime | None
    files: tuple[str, ...]
    error: str | None


def mirror(connection: sqlite3.Connection, rows: Sequence[Snapshot], settings: Mapping[str, str]) -> None:
    """Rows and settings in one transaction. Taking the same over twice changes nothing."""
    connection.executemany(_MIRROR, map(_columns, rows))
    connection.executemany(_SET, settings.items())


def _columns(row: Snapshot) -> tuple[object, ...]:
    return (
        row.state.value,
        row.attempts,
        row.cost,
        row.credits,
        plain(row.generation_id),
        plain(encode_list(row.urls)) if row.urls else None,
        row.created_at.isoformat() if row.created_at else None,
        row.expires_at.isoformat() if row.expires_at else None,
        encode_list(row.files) if row.files else None,
        plain(row.error),
        row.index,
    )
