"""A row's ledger: puts every step into the journal, holds the budget, and keeps one submission unanswered at a time.

The one at a time is what lets the balance judge a lost answer (`_settling`). An answer takes a fraction of a second
and a generation many, so a hundred slots are fed through it; a submission that hangs longer than PATIENCE lets the
others pass, and its own judgement then rests on what they cost.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from .._job import Job
from .._models import Generation, GenerationStatus, Submission
from ._budget import Budget
from ._journal import Journal
from ._journal_rows import JournalRow
from ._manifest import relative_files

PATIENCE = 10.0  # seconds without an answer after which a submission no longer holds up the others


class Turnstile:
    """Lets one submission through at a time. A judgement in progress (`hold`) lets nobody through."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder: object | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self.overtaken: set[object] = set()

    async def enter(self, who: object) -> None:
        """Wait for one's turn."""
        await self._lock.acquire()
        self._holder = who
        self._overdue = asyncio.get_running_loop().call_later(PATIENCE, self._let_others_pass, who)

    def hold(self, who: object) -> None:
        """Keep the turn however long it takes."""
        if self._holder is who and self._overdue is not None:
            self._overdue.cancel()

    def leave(self, who: object) -> None:
        """Give the turn back; does nothing for who hasn't got it."""
        self.overtaken.discard(who)
        if self._holder is who:
            self._holder = None
            if self._overdue is not None:
                self._overdue.cancel()
            self._lock.release()

    def _let_others_pass(self, who: object) -> None:
        self.leave(who)
        self.overtaken.add(who)


class RowLedger:
    """The four steps and the withdrawal of one row's job."""

    def __init__(
        self,
        row: JournalRow,
        cost: int | None,
        *,
        journal: Journal,
        budget: Budget,
        turnstile: Turnstile,
        folder: Path,
    ) -> None:
        self.row = row
        self.cost = cost
        self._journal = journal
        self._budget = budget
        self._turnstile = turnstile
        self._folder = folder

    async def intend(self, job: Job) -> None:
        """Reserve the cost and record the intent. Raises: BudgetExceededError, JournalError; nothing is sent then."""
        await self._turnstile.enter(self)
        try:
            self._budget.reserve(self.row.index, self.cost)
            await self._journal.intend(self.row.index, self.cost)
        except BaseException:
            self._budget.release(self.row.index)
            self._turnstile.leave(self)
            raise

    async def withdrawn(self, job: Job) -> None:
        """The server refused it, or it never left."""
        try:
            await self._journal.withdrawn(self.row.index)
        finally:
            self._budget.release(self.row.index)
            self._turnstile.leave(self)

    async def accepted(self, job: Job, submission: Submission) -> None:
        """The service took it: its id is on disk when this returns."""
        remaining = None if self._turnstile.overtaken - {self} else submission.remaining_credits
        try:
            await self._journal.accepted(self.row.index, submission.generation_id, submission.credits_used, remaining)
        finally:
            self._budget.settle(self.row.index, submission.credits_used)
            self._turnstile.leave(self)

    async def finished(self, job: Job, generation: Generation) -> None:
        """Its links are known; how a failed one ended is recorded with its error."""
        if generation.status is GenerationStatus.COMPLETED and generation.image_urls:
            await self._journal.completed(self.row.index, generation)

    async def stored(self, job: Job, files: list[Path]) -> None:
        """Its files are on disk."""
        await self._journal.stored(self.row.index, relative_files(self._folder, files))

    def hold(self) -> None:
        """Let nobody submit while this one is judged."""
        self._turnstile.hold(self)

    def leave(self) -> None:
        """Let the next one through, whatever became of this one."""
        self._turnstile.leave(self)
