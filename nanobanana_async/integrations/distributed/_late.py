"""What workers told of a batch when it was over, or when Redis had forgotten it, taken over by the next run.

A worker that slept (its machine was suspended, say) wakes with the answer to a submission, or with an image, of a row
that was judged `lost` or `uncertain` meanwhile. What it tells is true, so the judgement gives way.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from ...batch._journal import Journal
from ...batch._journal_rows import JobState, JournalRow
from ._book import Book
from ._handing import Plan
from ._pages import rows_of
from ._rows import RowRecord

_LOGGER = logging.getLogger(__name__)

PAST = "distributed_past"  # a setting: the batches of which something may come late
MOST = 20

_RANKS = {JobState.RUNNING: 1, JobState.COMPLETED: 2, JobState.STORED: 4}
_ENDED = 3  # failed, rejected, expired
_FACTS = ("credits", "urls", "created_at", "expires_at", "files")
_OPEN = (JobState.READY, JobState.INTENT, JobState.UNCERTAIN, JobState.LOST)


class Latecomers:
    """The names of past batches in a journal, and what Redis keeps of them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def expect(self, batch: str) -> None:
        """Something may come of this one."""
        names = [name for name in await self._names() if name != batch]
        await self._journal.set_setting(PAST, json.dumps([*names, batch][-MOST:]))

    async def expect_none(self) -> None:
        """Nothing is in doubt."""
        await self._journal.set_setting(PAST, "")

    async def take_over(self, book: Book, plan: Plan | None) -> set[int]:
        """Write what came late into the journal, or into the book if workers have the row again; which rows it was."""
        changed = set[int]()
        for batch in await self._names():
            told = await book.late(batch)
            if told:
                changed |= await self._take(book, plan, told)
        return changed

    async def _take(self, book: Book, plan: Plan | None, told: dict[int, RowRecord]) -> set[int]:
        snapshots = []
        for row in await rows_of(self._journal, set(told), *JobState):
            if not is_news(row, told[row.index]):
                continue
            record = with_known(row, told[row.index])
            _LOGGER.info("row %s was %s; %s came late", row.index, row.state, record.generation_id)
            shard = None if plan is None else plan.shard_of(row.index)
            if plan is None or shard is None:
                attempts = max(1, row.attempts)
                snapshots.append(replace(record, attempts=attempts, cost=row.cost).snapshot(row.index))
            elif record.generation_id:
                answer = (record.generation_id, record.credits, None)
                if await book.accept(plan.batch, shard, row.index, "", answer) == "twice":
                    _tell_twice(row.index, record.generation_id)
        await self._journal.mirror(snapshots)
        return {snapshot.index for snapshot in snapshots}

    async def _names(self) -> list[str]:
        text = await self._journal.get_setting(PAST)
        return list(json.loads(text)) if text else []


def is_news(row: JournalRow, told: RowRecord) -> bool:
    """Whether what came late is more than what is known of a row. Pure."""
    if row.generation_id is not None:
        if told.generation_id == row.generation_id:
            return _RANKS.get(told.state, _ENDED) > _RANKS.get(row.state, _ENDED)
        if told.generation_id is not None:
            _tell_twice(row.index, told.generation_id)
        return False
    return told.generation_id is not None or row.state in _OPEN


def with_known(row: JournalRow, told: RowRecord) -> RowRecord:
    """What came late, with what was known of the same generation and is not told once more. Pure."""
    if row.generation_id is None:
        return told
    return replace(told, **{name: getattr(row, name) for name in _FACTS if getattr(told, name) in (None, ())})


def _tell_twice(index: int, generation_id: str) -> None:
    _LOGGER.error("row %s was paid twice: nanobanana get %s brings it", index, generation_id)
