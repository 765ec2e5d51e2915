"""A row's ledger over the shared book."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from pathlib import Path

import anyio

from ..._answers import Submission
from ..._exceptions import JobCancelledError, JournalError
from ..._job import Job
from ..._models import Generation
from ...batch._brake import Brake
from ...batch._budget import Prices
from ...batch._journal_rows import JournalRow
from ...batch._manifest import relative_files
from ...batch._turnstile import Turn, Turnstile
from ._book import ShardLostError
from ._shard import HeldError, MisplacedError, Shard

_LOGGER = logging.getLogger(__name__)

HELD_INTERVAL = 0.1  # seconds between tries while a lost answer is judged


class ShardLedger:
    """The steps of one row's job. `superseded`: somebody else has brought the row further."""

    def __init__(self, row: JournalRow, shard: Shard, *, brake: Brake, prices: Prices, turnstile: Turnstile) -> None:
        self.row = row
        self.cost: int | None = None
        self.turn: Turn | None = None
        self.superseded = False
        self.nonce = ""
        self._shard = shard
        self._brake = brake
        self._prices = prices
        self._turnstile = turnstile
        self._place = turnstile.place()
        self._closed = False
        self._outside = asyncio.Event()
        self._outside.set()

    @property
    def inside(self) -> bool:
        """A submission is being prepared or under way."""
        return not self._outside.is_set()

    def line_up(self, go: Callable[[], None]) -> None:
        """Call `go` when the submission before this one is answered: of a killed worker one at most is in doubt."""
        self._place.line_up(go)

    async def outside(self) -> None:
        """Wait until no submission is under way."""
        await self._outside.wait()

    def close(self) -> None:
        """The slice ends: record nothing but an answer that is still to come."""
        self._closed = True

    def leave(self) -> None:
        """Let the next one through. Idempotent."""
        turn, self.turn = self.turn, None
        if turn is not None:
            self._turnstile.leave(turn)
        self._place.pass_on()
        self._outside.set()

    # ---- the hooks

    async def intend(self, job: Job) -> None:
        """Reserve the cost and record the intent, if the shard is still ours.

        The lease is looked at once more when the book has answered: between that answer and the POST nothing else is
        awaited but the request's place at the gate, and what waits there is cancelled with the lease.

        Raises: BudgetExceededError, ShardLostError, JournalError, JobCancelledError; nothing is sent then.
        """
        self._outside.clear()
        self.turn = await self._turnstile.enter(on_overdue=self._place.pass_on)
        self.cost = self._prices.of(self.row.request)
        while not await self._intended(job):
            await self._brake.rest(HELD_INTERVAL)
        self._check_wanted(job)
        if not self._shard.claim.lease.good:
            raise ShardLostError("the lease ended before the request was sent")

    async def withdrawn(self, job: Job) -> None:
        """The server refused it, or it never left."""
        try:
            if self.nonce:
                await self._shard.withdraw(self.row, self.nonce)
        finally:
            self.leave()
        if self._brake.pulled:
            job.cancel("the batch submits nothing more")

    async def accepted(self, job: Job, submission: Submission) -> None:
        """The service took it: the book has its id when this returns."""
        told = submission.generation_id
        try:
            word = await self._shard.accept(self.row.index, self.nonce, submission)
        except JournalError as error:
            message = f"row {self.row.index} is paid, but its id could not be recorded; nanobanana get {told} brings it"
            _LOGGER.error("%s", message)
            raise JournalError(message, generation_id=told, credits_used=submission.credits_used) from error
        finally:
            self._prices.learn(self.row.request, submission.credits_used)
            self.leave()
        if word == "twice":
            _LOGGER.error("row %s was paid twice: nanobanana get %s brings it", self.row.index, told)
        elif word == "late":
            _LOGGER.warning("row %s is paid, its batch is over: the next run takes note of %s", self.row.index, told)

    async def finished(self, job: Job, generation: Generation) -> None:
        """Its links are known, or that there are none."""
        if not self._closed:
            await self._shard.completed(self.row.index, generation)

    async def stored(self, job: Job, files: list[Path]) -> None:
        """Its files are on disk."""
        if not self._closed:
            await self._shard.stored(self.row.index, relative_files(self._shard.storage.folder, files))

    async def answered(self, credits: int | None) -> None:  # noqa: A002
        """It was taken and ended in one answer; the row's end has told what it took."""
        self.leave()

    # ---- inside

    async def _intended(self, job: Job) -> bool:
        """Whether the intent stands; False while a lost answer is judged."""
        self._check_wanted(job)
        self.nonce = secrets.token_hex(8)
        try:
            with anyio.CancelScope(shield=True):  # a call that is dropped on its way might still come in
                await self._shard.intend(self.row, self.cost, self.nonce)
        except HeldError:
            self.nonce = ""
            return False
        except MisplacedError as error:
            self.nonce = ""
            self.superseded = True
            raise JobCancelledError(f"row {self.row.index} was brought further by another worker") from error
        return True

    def _check_wanted(self, job: Job) -> None:
        if job.cancelled or self._brake.pulled:
            raise JobCancelledError(f"row {self.row.index} was not sent: the batch submits nothing more")
