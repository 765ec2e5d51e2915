"""A journal's rows by their states, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ...batch._journal import Journal
from ...batch._journal_rows import JobState, JournalRow

_PAGE = 500


async def every(journal: Journal, *states: JobState, first: int = 0) -> AsyncIterator[JournalRow]:
    """All rows in any of these states from index `first` on, in index order."""
    cursor = first - 1
    while rows := await journal.unfinished(*states, limit=_PAGE, after=cursor):
        cursor = rows[-1].index
        for row in rows:
            yield row


async def rows_of(journal: Journal, indexes: set[int], *states: JobState) -> list[JournalRow]:
    """Those of these rows that are in any of these states."""
    found, last = list[JournalRow](), max(indexes)
    async for row in every(journal, *states, first=min(indexes)):
        if row.index in indexes:
            found.append(row)
        if row.index >= last or len(found) == len(indexes):
            break
    return found
