"""What is done with one row, and how it ended, written down.

Rows are independent: whatever becomes of one, the others go on. Only what concerns the account or the disk as a whole
pulls the brake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import anyio

from .._client import BATCH_PRIORITY, Client
from .._exceptions import (
    AuthenticationError,
    BatchError,
    BlockedError,
    ConnectError,
    ContentRejectedError,
    DownloadError,
    GenerationError,
    GenerationTimeoutError,
    InsufficientCreditsError,
    JobCancelledError,
    NanoBananaError,
    PermissionDeniedError,
    SubmissionUncertainError,
)
from .._job import Destination, Job, JobStatus
from ._brake import Brake
from ._feeding import Feed
from ._fetching import IMAGES, Fetcher, stem
from ._journal_rows import JobState, JournalRow
from ._judging import Doubt, Judgement
from ._network import Network
from ._seams import LedgerMaker, RowJournal, RowJudge, SubmissionLedger
from ._telling import Teller
from ._turnstile import Turn

Work: TypeAlias = Callable[[JournalRow], Awaitable[bool]]  # whether the row is to be handed out again

# What concerns every row: the key, the account, the budget, the journal.
_HALTS = (AuthenticationError, PermissionDeniedError, BlockedError, InsufficientCreditsError, BatchError)


class Rows:
    """Takes rows as far as this run can. `gives_up` lets go of paid ones whose ids the service denies."""

    def __init__(
        self,
        client: Client,
        journal: RowJournal,
        folder: Path,
        *,
        new_ledger: LedgerMaker,
        judge: RowJudge,
        brake: Brake,
        network: Network,
        teller: Teller,
        leave_timeout: float,
        gives_up: bool,
        priority: float = BATCH_PRIORITY,
        group: str | None = None,
    ) -> None:
        self._client = client
        self._journal = journal
        self._images = folder / IMAGES
        self._new_ledger = new_ledger
        self._brake = brake
        self._judge = judge
        self._network = network
        self._teller = teller
        self._fetcher = Fetcher(client, journal, folder, network, teller)
        self._leave_timeout = leave_timeout
        self._gives_up = gives_up
        self._priority = priority
        self._group = group
        self._submitted: dict[Job, SubmissionLedger] = {}
        brake.on_pull(self._withdraw_waiting)

    async def tend(self, row: JournalRow, work: Work, feed: Feed) -> None:
        """`work` on one row; nothing but cancellation leaves here."""
        again = False
        self._teller.begin(row)
        try:
            again = await self._done(row, work)
        except JobCancelledError as error:  # stopped; or the client was closed over our head
            if not self._brake.pulled:
                self._brake.pull(error)
        except Exception as error:
            self._brake.pull(error)
        finally:
            self._teller.leave(row.index)
            feed.done(row.index, again=again)

    async def pick_up(self, row: JournalRow) -> bool:
        """A row of an earlier run: paid, so it is only watched and fetched."""
        await self._fetcher.pick_up(row)
        return False

    async def submit(self, row: JournalRow) -> bool:
        """Send a ready row, and see it through."""
        ledger = self._new_ledger(row)
        job = Job(
            row.request,
            priority=self._priority,
            group=self._group,
            destination=Destination(self._images, stem(row)),
            ledger=ledger,
        )
        self._submitted[job] = ledger
        try:
            return await self._see_through(job, ledger)
        finally:
            del self._submitted[job]
            if job.done():
                ledger.leave()

    # ---- a submission and what comes of it

    async def _see_through(self, job: Job, ledger: SubmissionLedger) -> bool:
        try:
            await self._queue(job, ledger)
            await self._result(job, ledger)
        except SubmissionUncertainError as error:
            return await self._settle(ledger, error)
        except (GenerationTimeoutError, DownloadError) as error:
            await self._fetcher.go_on(ledger.row, error)
        except GenerationError as error:
            if isinstance(error, JobCancelledError) or not ledger.inside:
                raise
            await self._end(ledger.row, error)  # accepted and ended in one answer, without an id
            await ledger.answered(error.credits_used)
        else:
            self._teller.ended(ledger.row.index, JobState.STORED)
        return False

    async def _queue(self, job: Job, ledger: SubmissionLedger) -> None:
        """Ask for a slot, once the row before has been answered; one that was stopped meanwhile asks for none."""
        await ledger.line_up()
        try:
            await self._client.enqueue(job)
        except BaseException:
            ledger.leave()
            raise

    async def _result(self, job: Job, ledger: SubmissionLedger) -> None:
        """Wait for the job. Cancelled, let go of it: but the answer to a POST on its way is recorded first."""
        try:
            await job.result()
        except asyncio.CancelledError:
            self._brake.pull()
            job.add_done_callback(lambda _: ledger.leave())
            with anyio.move_on_after(self._leave_timeout, shield=True):
                await ledger.outside()
            ledger.close()
            job.cancel("the batch was left")
            raise

    def _withdraw_waiting(self) -> None:
        """Jobs that have not begun their submission; the others find the brake pulled, or are past it."""
        for job, ledger in list(self._submitted.items()):
            if job.status is JobStatus.QUEUED and not ledger.inside:
                job.cancel("the batch submits nothing more")

    async def _settle(self, ledger: SubmissionLedger, error: SubmissionUncertainError) -> bool:
        """The answer was lost: what became of it is asked while nobody else submits."""
        row, turn = ledger.row, ledger.turn
        assert turn is not None  # nothing is submitted without one
        self._teller.doubts(row.index, f"an answer was lost ({error.__cause__ or error}); the balance is asked")
        judgement = await self._judged(Doubt(row, ledger.cost, str(error)), turn)
        if judgement.again:
            self._teller.moved(row.index, judgement.state)
            return True
        self._teller.ended(row.index, judgement.state, judgement.message)
        return False

    async def _judged(self, doubt: Doubt, turn: Turn) -> Judgement:
        """What goes wrong with a judgement is not what becomes of the row: it stays an intent, for the next start."""
        try:
            return await self._judge.settle(doubt, turn)
        except (*_HALTS, JobCancelledError):
            raise
        except NanoBananaError as error:
            raise BatchError(f"a lost answer can't be judged ({error}); the next run does") from error

    # ---- how it ended

    async def _done(self, row: JournalRow, work: Work) -> bool:
        try:
            return await work(row)
        except (*_HALTS, JobCancelledError):
            raise
        except ConnectError:  # the row was never sent: it stays ready
            await self._network.back()
            return True
        except NanoBananaError as error:
            await self._end(row, error)
            return False

    async def _end(self, row: JournalRow, error: NanoBananaError) -> None:
        name, price = error.generation_id or row.generation_id, error.credits_used
        if name is not None and not isinstance(error, GenerationError) and not self._gives_up:
            message = f"{error}; it is paid, so the next run looks again, or gives it up with --retry-failed"
            is_made = row.state is JobState.COMPLETED
            self._teller.ended(row.index, row.state if is_made else JobState.RUNNING, message)
            return
        state = JobState.REJECTED if isinstance(error, ContentRejectedError) else JobState.FAILED
        await self._journal.ended(row.index, state, str(error), generation_id=name, credits=price)
        self._teller.ended(row.index, state, str(error))
