"""What is done with one row, and how it ended, written down.

Rows are independent: whatever becomes of one, the others go on. Only what concerns the account or the disk as a whole
pulls the brake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
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
from ._fetching import IMAGES, Fetcher, stem, without_references
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
    """Takes rows as far as this run can. `gives_up` lets go of paid ones whose ids the service denies.

    A row that is sent needs no task of its own: rows are queued one after the other, and then they are their jobs'.
    Only what goes wrong with one is seen to in a task.
    """

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
        self._sent: dict[Job, SubmissionLedger] = {}  # and not seen to yet
        self._left = False
        self._turned_away: BlockedError | None = None
        brake.on_pull(self._withdraw_waiting)

    async def go_through(self, earlier: Feed, ready: Feed) -> None:
        """Pick up rows of `earlier` runs, and send those that are `ready` while they go on."""

        def on_back() -> None:
            earlier.wake()
            ready.wake()

        self._network.on_back = on_back
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pick_up_all, earlier)
            await earlier.handed_out()
            await self._submit_all(ready)

    async def _pick_up_all(self, feed: Feed) -> None:
        """They are paid, so they are only watched and fetched."""
        async with anyio.create_task_group() as tasks:
            while (row := await feed.next()) is not None:
                self._teller.begin(row)
                tasks.start_soon(self._tend, without_references(row), self._pick_up, feed)

    async def _submit_all(self, feed: Feed) -> None:
        """Send rows, and see them through.

        Cancelled, let go of them: but the answer to a POST on its way is recorded first.
        """
        failed: asyncio.Queue[Job] = asyncio.Queue()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._see_to_all, failed, feed)
                while (row := await feed.next()) is not None:
                    self._teller.begin(row)
                    try:
                        await self._line_up(row, partial(self._ended, feed, failed))
                    except Exception as error:
                        self._brake.pull(error)
                        self._done_with(row, feed)
                await feed.all_done()
                tasks.cancel_scope.cancel()
            if self._turned_away is not None:
                self._brake.pull(self._turned_away)
        except asyncio.CancelledError:
            async with anyio.create_task_group() as leaving:  # a task of its own: this one may be cancelled again
                leaving.start_soon(self._leave)
            raise

    async def _pick_up(self, row: JournalRow) -> bool:
        await self._fetcher.pick_up(row)
        return False

    # ---- a submission and what comes of it

    async def _line_up(self, row: JournalRow, on_end: Callable[[Job], None]) -> None:
        """Wait until the row before has been answered; whoever reads its answer sends this one, there and then."""
        ledger = self._new_ledger(row)
        job = Job(
            row.request,
            priority=self._priority,
            group=self._group,
            destination=Destination(self._images, stem(row)),
            ledger=ledger,
        )
        self._sent[job] = ledger
        job.add_done_callback(on_end)
        sent = asyncio.Event()
        job.add_done_callback(lambda _: sent.set())  # stopped while it waited
        ledger.line_up(partial(self._send, job, ledger, sent))
        await sent.wait()

    def _send(self, job: Job, ledger: SubmissionLedger, sent: asyncio.Event) -> None:
        """Ask for a slot; one that was stopped meanwhile asks for none."""
        sent.set()
        if self._left or job.done():  # before there was anything to leave
            ledger.leave()
            return
        try:
            self._client.enqueue_nowait(job)
        except RuntimeError as error:  # the client was closed over our head
            job.cancel(f"not queued ({error})")
        except Exception as error:
            job.fail(error)

    def _ended(self, feed: Feed, failed: asyncio.Queue[Job], job: Job) -> None:
        """A job is done: so is its row, unless there is something to be seen to."""
        ledger = self._sent[job]
        if self._left:
            ledger.leave()
        elif job.error is not None:
            failed.put_nowait(job)
        else:
            self._let_go(job, ledger)
            try:
                self._teller.ended(ledger.row.index, JobState.STORED)
            except Exception as error:  # of whoever listens
                self._brake.pull(error)
            finally:
                self._done_with(ledger.row, feed)

    async def _leave(self) -> None:
        """Cancelled: what has ended is not seen to any more, what runs is not waited for."""
        self._left = True
        self._brake.pull()
        for job, ledger in self._sent.items():
            if job.done():
                ledger.leave()
        with anyio.move_on_after(self._leave_timeout, shield=True):
            for ledger in list(self._sent.values()):
                await ledger.outside()
        for job, ledger in self._sent.items():
            job.cancel("the batch was left")
            ledger.close()

    def _let_go(self, job: Job, ledger: SubmissionLedger) -> None:
        del self._sent[job]
        ledger.leave()

    async def _see_to_all(self, failed: asyncio.Queue[Job], feed: Feed) -> None:
        """Start their tasks here: anyio can't start one from a callback."""
        async with anyio.create_task_group() as tasks:
            while True:
                job = await failed.get()
                ledger = self._sent[job]
                tasks.start_soon(self._tend, ledger.row, partial(self._see_to, job, ledger), feed)

    async def _see_to(self, job: Job, ledger: SubmissionLedger, row: JournalRow) -> bool:
        """A job that did not come to its end."""
        try:
            await job.result()
        except SubmissionUncertainError as error:
            return await self._settle(ledger, error)
        except (GenerationTimeoutError, DownloadError) as error:
            await self._fetcher.go_on(row, error)
        except JobCancelledError:
            if not ledger.superseded:
                raise
        except GenerationError as error:
            if not ledger.inside:
                raise
            await self._end(row, error)  # accepted and ended in one answer, without an id
            await ledger.answered(error.credits_used)
        finally:
            self._let_go(job, ledger)
        return False

    def _withdraw_waiting(self) -> None:
        """Jobs that have not begun their submission; the others find the brake pulled, or are past it."""
        for job, ledger in list(self._sent.items()):
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

    async def _tend(self, row: JournalRow, work: Work, feed: Feed) -> None:
        """`work` on one row; nothing but cancellation leaves here."""
        again = False
        try:
            again = await self._done(row, work)
        except JobCancelledError as error:  # stopped; or the client was closed over our head
            if not self._brake.pulled:
                self._brake.pull(error)
        except Exception as error:
            self._brake.pull(error)
        finally:
            self._done_with(row, feed, again=again)

    def _done_with(self, row: JournalRow, feed: Feed, *, again: bool = False) -> None:
        self._teller.leave(row.index)
        feed.done(row.index, again=again)

    async def _done(self, row: JournalRow, work: Work) -> bool:
        try:
            return await work(row)
        except BlockedError as error:
            if not error.passing:
                raise
            self._turned_away = error  # the row stays ready, for the next run
            return False
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
