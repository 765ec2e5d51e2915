"""`BatchRunner`: a folder of prompts on its way to a folder of images, through crashes and empty accounts.

The journal says what is left to do, and is told of every step before the next one relies on it; this module only
decides what to do next. Rows are independent: whatever becomes of one, the others go on. Only what concerns the
account or the disk as a whole (no credits, a wrong key, the budget, the journal) halts the batch; what runs then is
still brought home, because it is paid.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

import anyio
from anyio.abc import TaskGroup

from .._client import Client
from .._exceptions import (
    AuthenticationError,
    BlockedError,
    BudgetExceededError,
    ConnectError,
    ContentRejectedError,
    DownloadError,
    DownloadExpiredError,
    GenerationTimeoutError,
    InsufficientCreditsError,
    JobCancelledError,
    JournalError,
    NanoBananaError,
    PermissionDeniedError,
    SubmissionUncertainError,
)
from .._images import slug
from .._job import Destination, Job
from .._models import GenerateRequest, Generation
from ._budget import Budget, Prices
from ._events import BatchEvent, BatchEventKind, BatchProgress, BatchSummary, Tally
from ._gallery import write_gallery
from ._inputs import Row
from ._journal import Journal
from ._journal_rows import Added, JobState, JournalRow
from ._manifest import relative_files, write_manifest
from ._preflight import Preflight
from ._settling import Verdict, settle
from ._submitting import RowLedger, Turnstile

_LOGGER = logging.getLogger(__name__)

IMAGES = "images"
PAGE = 64  # rows read from the journal at a time
LEAST_WIDTH = 32  # rows under way at once, or twice the slots if that is more
CONFIRM_SECONDS = 0.5  # before an unchanged balance is believed: a submission may still be on its way
OFFLINE_SECONDS = 5.0  # between looks whether the network is back
MAX_ATTEMPTS = 3  # submissions of one row, retries on request included

BatchItem: TypeAlias = Row | GenerateRequest | str
_HALTS = (
    AuthenticationError,
    PermissionDeniedError,
    BlockedError,
    InsufficientCreditsError,
    BudgetExceededError,
    JournalError,
)


class BatchRunner:
    """One batch in one folder: `images/`, `batch.db`, `manifest.jsonl`, `index.html`.

    `max_credits` is what the batch may spend, earlier runs included. `retry_failed` sends failed and lost rows again;
    `uncertain="retry"` sends those again that may be paid already. `on_event` hears of every change.

    Raises on entry: JournalError, when the folder can't be used or another process works on it.
    """

    def __init__(
        self,
        client: Client,
        folder: str | Path,
        *,
        max_credits: int | None = None,
        retry_failed: bool = False,
        uncertain: Literal["hold", "retry"] = "hold",
        max_attempts: int = MAX_ATTEMPTS,
        title: str | None = None,
        on_event: Callable[[BatchEvent], None] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._client = client
        self._max_credits = max_credits
        self._retry_failed = retry_failed
        self._uncertain = uncertain
        self._max_attempts = max_attempts
        self._title = title
        self._on_event = on_event
        self._resources = AsyncExitStack()
        self._prices = Prices({})
        self._turnstile = Turnstile()
        self._changed = asyncio.Event()
        self._active: dict[int, Job | None] = {}
        self._requeued = False
        self._stopping = False
        self._stopped_by: Exception | None = None
        self._note = ""
        self._tally = Tally()
        self._budget = Budget(max_credits)
        self._started_at = time.monotonic()
        self._done_before = self._spent_before = 0

    async def __aenter__(self) -> Self:
        self._journal = await self._resources.enter_async_context(Journal.open(self.folder))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._resources.aclose()

    # ---- before

    async def add(
        self, items: Iterable[BatchItem] | AsyncIterable[BatchItem], *, dedupe: bool = False, source: str | None = None
    ) -> Added:
        """Take rows, requests or prompts into the batch; those it knows by their place stay as they are.

        Raises: InputError for one that differs from what the batch was started with.
        """
        if isinstance(items, AsyncIterable):
            items = [item async for item in items]
        return await self._journal.add_rows(_rows(items), dedupe=dedupe, source=source)

    async def preflight(self) -> Preflight:
        """What the open rows will cost; asks for the models and the balance, and submits nothing.

        Raises: AuthenticationError and its like when the key is no good.
        """
        await self._open()
        return Preflight.of(
            await self._journal.open_by_model(),
            self._prices,
            balance=await self._client.credits(),
            spent=(await self._journal.counts()).credits,
            limit=self._client.statistics().limit,
            max_credits=self._max_credits,
        )

    # ---- the run

    async def run(self) -> BatchSummary:
        """Bring every row as far as it goes. Ends early after `stop()` or an error that concerns all rows.

        Cancelling it leaves at once; the journal knows what ran, and the next run picks it up.
        """
        self._started_at = time.monotonic()
        try:
            await self._open()
            await self._begin()
            await self._drive()
        except NanoBananaError as error:
            self._halt(error)
        finally:
            with anyio.CancelScope(shield=True):
                await self.write_outputs()
        counts = await self._journal.counts()
        return BatchSummary(
            counts,
            credits_used=counts.credits - self._spent_before,
            seconds=time.monotonic() - self._started_at,
            interrupted=self._stopping and self._stopped_by is None,
            stopped_by=self._stopped_by,
        )

    def stop(self) -> None:
        """Submit nothing more; what runs is finished and stored. Idempotent."""
        self._stopping = True
        for job in list(self._active.values()):
            if job is not None and job.status.value == "queued":
                job.cancel()
        self._wake()

    async def write_outputs(self) -> None:
        """Bring `manifest.jsonl` and `index.html` up to date."""
        try:
            await asyncio.to_thread(self._write_outputs)
        except OSError as error:
            reason = f"the manifest could not be written ({error.strerror}); free space and run the same command again"
            self._halt(JournalError(reason))

    def progress(self) -> BatchProgress:
        """The sums of this moment."""
        now = self._client.statistics()
        tally = self._tally
        return BatchProgress(
            rows=tally.rows,
            stored=tally.count(JobState.STORED),
            completed=tally.count(JobState.COMPLETED),
            failed=tally.count(JobState.FAILED, JobState.REJECTED, JobState.EXPIRED),
            unsettled=tally.count(JobState.UNCERTAIN, JobState.LOST),
            running=now.submitting + now.running,
            queued=tally.count(JobState.READY, JobState.INTENT),
            credits=self._budget.spent,
            limit=now.limit,
            eta=self._eta(),
            note=self._note,
        )

    # ---- preparing

    async def _open(self) -> None:
        """Prices, what a crash left in doubt, and what is to be tried again; once."""
        if self._prices:
            return
        self._prices = Prices({model.name: model.credits_cost for model in await self._client.models()})
        await self._journal.doubt_intents()
        if self._retry_failed:
            await self._journal.requeue(JobState.FAILED, JobState.LOST, max_attempts=self._max_attempts)

    async def _begin(self) -> None:
        await self._settle_old_doubts()
        if self._uncertain == "retry":
            await self._journal.requeue(JobState.UNCERTAIN)
        counts = await self._journal.counts()
        self._tally = Tally.of(counts)
        self._spent_before = counts.credits
        self._budget = Budget(self._max_credits, spent=counts.credits + counts.reserved)
        self._done_before = self.progress().done
        self._tell()

    async def _settle_old_doubts(self) -> None:
        """Judge by the balance what an earlier run left without a judgement."""
        doubts = await self._journal.unfinished(JobState.UNCERTAIN, limit=1000)
        balance = await self._client.credits()
        if doubts:
            verdict = settle(await self._journal.balance(), balance, [row.cost for row in doubts])
            for row in doubts:
                await self._judge(row, verdict, row.cost)
        await self._journal.set_balance(balance)

    # ---- driving

    async def _drive(self) -> None:
        """Pick up what runs and what is made, then submit what is ready."""
        async with anyio.create_task_group() as rows:
            await self._feed(rows, self._pick_up, JobState.RUNNING, JobState.COMPLETED)
            await self._feed(rows, self._submit, JobState.READY)

    async def _feed(self, rows: TaskGroup, work: Callable[[JournalRow], Awaitable[None]], *states: JobState) -> None:
        """Start `work` for every row in these states, at most a width of them at once."""
        cursor = -1
        submitting = JobState.READY in states
        while not (submitting and self._stopping):
            page = await self._journal.unfinished(*states, limit=PAGE, after=cursor)
            for row in page:
                cursor = row.index
                if row.index not in self._active:
                    await self._room(submitting)
                    if submitting and self._stopping:
                        return
                    self._active[row.index] = None
                    rows.start_soon(self._tend, row, work)
            if page:
                continue
            if not submitting or not (self._active or self._requeued):
                return
            cursor = await self._cursor_after_change(cursor)

    async def _cursor_after_change(self, cursor: int) -> int:
        """All rows are under way: wait until one ends, since it may have to be sent again."""
        if not self._requeued:
            await self._change()
        if not self._requeued:
            return cursor
        self._requeued = False
        return -1

    async def _room(self, submitting: bool) -> None:
        while len(self._active) >= self._width() or (submitting and self._note and not self._stopping):
            await self._change()

    def _width(self) -> int:
        return max(LEAST_WIDTH, 2 * (self._client.statistics().limit or 0))

    async def _tend(self, row: JournalRow, work: Callable[[JournalRow], Awaitable[None]]) -> None:
        """One row, to wherever this run can take it; nothing but cancellation leaves here."""
        try:
            await work(row)
        except JobCancelledError:
            pass  # stopped, or the client closed: the journal has it where it stands
        except _HALTS as error:
            self._halt(error)
        except ConnectError as error:
            await self._wait_for_network(row, error)
        except GenerationTimeoutError as error:
            self._tell(row, JobState.RUNNING, str(error))
        except NanoBananaError as error:
            await self._end(row, error)
        except OSError as error:
            self._halt(JournalError(f"{error.strerror or error}; mend it, then run the same command again"))
        finally:
            self._active.pop(row.index, None)
            self._wake()

    # ---- one row

    async def _submit(self, row: JournalRow) -> None:
        ledger = RowLedger(
            row,
            self._prices.of(row.request),
            journal=self._journal,
            budget=self._budget,
            turnstile=self._turnstile,
            folder=self.folder,
        )
        job = Job(row.request, destination=Destination(self.folder / IMAGES, _stem(row)), ledger=ledger)
        self._active[row.index] = job
        try:
            await self._client.enqueue(job)
            await job.result()
        except SubmissionUncertainError as error:
            await self._settle(row, ledger, error)
        except DownloadError as error:
            await self._keep(row, error)
        else:
            self._move(row, JobState.STORED)
        finally:
            ledger.leave()

    async def _pick_up(self, row: JournalRow) -> None:
        """A row of an earlier run: paid, so it is only watched and fetched."""
        if row.state is JobState.COMPLETED:
            generation = _known_generation(row)
        elif row.generation_id is not None:
            generation = await self._client.wait(row.generation_id)
            await self._journal.completed(row.index, generation)
            self._move(row, JobState.COMPLETED)
        else:
            raise SubmissionUncertainError("paid, but its id was never told")
        try:
            files = await self._client.download(generation, self.folder / IMAGES, stem=_stem(row))
        except DownloadError as error:
            await self._keep(row, error)
            return
        await self._journal.stored(row.index, relative_files(self.folder, files))
        self._move(row, JobState.STORED, before=JobState.COMPLETED)

    async def _keep(self, row: JournalRow, error: DownloadError) -> None:
        """The images are made but not here: expired for good, or left for the next run."""
        if isinstance(error, DownloadExpiredError):
            await self._journal.ended(row.index, JobState.EXPIRED, str(error))
            self._move(row, JobState.EXPIRED, str(error))
        else:
            self._move(row, JobState.COMPLETED, str(error))

    async def _end(self, row: JournalRow, error: NanoBananaError) -> None:
        state = JobState.REJECTED if isinstance(error, ContentRejectedError) else JobState.FAILED
        await self._journal.ended(
            row.index, state, str(error), generation_id=error.generation_id, credits=error.credits_used
        )
        self._move(row, state, str(error))

    # ---- doubt

    async def _settle(self, row: JournalRow, ledger: RowLedger, error: SubmissionUncertainError) -> None:
        """Ask the balance what became of a lost answer, while nobody else submits."""
        ledger.hold()
        await self._journal.ended(row.index, JobState.UNCERTAIN, str(error))
        self._tell(row, JobState.UNCERTAIN, "an answer was lost; the balance is asked what became of it")
        expected = await self._journal.balance()
        balance = await self._balance()
        verdict = settle(expected, balance, [ledger.cost])
        if verdict is Verdict.NOT_TAKEN:
            await anyio.sleep(CONFIRM_SECONDS)
            balance = await self._balance()
            verdict = settle(expected, balance, [ledger.cost])
        await self._judge(row, verdict, ledger.cost)
        await self._journal.set_balance(balance)

    async def _judge(self, row: JournalRow, verdict: Verdict, cost: int | None) -> None:
        if verdict is Verdict.NOT_TAKEN:
            await self._journal.requeue(JobState.UNCERTAIN, indexes=[row.index])
            self._budget.release(row.index)
            self._requeued = True
        elif verdict is Verdict.TAKEN:
            message = "charged, but the answer with its id was lost; --retry-failed pays for it again"
            await self._journal.ended(row.index, JobState.LOST, message, credits=cost)
            self._budget.settle(row.index, cost)
            self._move(row, JobState.LOST, message)
        else:
            self._budget.settle(row.index, cost)
            message = "may be charged: the balance does not tell; --uncertain retry sends it again"
            self._move(row, JobState.UNCERTAIN, message)

    async def _balance(self) -> int:
        """The balance, however long the network is away."""
        while True:
            try:
                return await self._client.credits()
            except NanoBananaError as error:
                if not error.retryable:
                    raise
                self._say(f"waiting for the network ({error})")
                await anyio.sleep(OFFLINE_SECONDS)

    async def _wait_for_network(self, row: JournalRow, error: ConnectError) -> None:
        """The row was never sent: it stays ready, and nothing is submitted until the API can be reached."""
        self._requeued = True
        if self._note:
            return
        self._say(f"no network, waiting ({error})")
        while not self._stopping:
            await anyio.sleep(OFFLINE_SECONDS)
            try:
                await self._client.models()
            except NanoBananaError:
                continue
            break
        self._say("")

    # ---- telling

    def _halt(self, error: Exception) -> None:
        """Nothing more can be submitted; the first reason is the one that counts."""
        if self._stopped_by is None:
            self._stopped_by = error
            _LOGGER.info("the batch stops: %s", error)
        self.stop()

    def _move(self, row: JournalRow, state: JobState, message: str = "", *, before: JobState | None = None) -> None:
        self._tally.move(before or row.state, state)
        self._tell(row, state, message)

    def _tell(self, row: JournalRow | None = None, state: JobState | None = None, message: str = "") -> None:
        if self._on_event is not None:
            kind = BatchEventKind.PROGRESS if row is None else BatchEventKind.ROW
            self._on_event(BatchEvent(kind, self.progress(), row.index if row else None, state, message))

    def _say(self, note: str) -> None:
        self._note = note
        if self._on_event is not None:
            self._on_event(BatchEvent(BatchEventKind.NOTE, self.progress(), message=note))
        self._wake()

    def _eta(self) -> float | None:
        done = self._tally.count(JobState.STORED, JobState.FAILED, JobState.REJECTED) - self._done_before
        left = self._tally.count(JobState.READY, JobState.INTENT, JobState.RUNNING)
        return left * (time.monotonic() - self._started_at) / done if done > 0 else None

    def _write_outputs(self) -> None:
        write_manifest(self.folder, self._journal.manifest_rows())
        write_gallery(self.folder, self._journal.manifest_rows(), title=self._title)

    # ---- waiting

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()


def _rows(items: Iterable[BatchItem]) -> Iterable[Row]:
    for index, item in enumerate(items):
        yield item if isinstance(item, Row) else Row(index, index + 1, None, GenerateRequest.of(item), {})


def _stem(row: JournalRow) -> str:
    """A row's images by name: sorted as the input is, and readable. The index makes it unique."""
    return f"{row.index:06d}-{slug(row.request.prompt)}".rstrip("-")


def _known_generation(row: JournalRow) -> Generation:
    return Generation(
        id=row.generation_id or "",
        prompt=row.request.prompt,
        model=row.request.model or "",
        image_urls=row.urls,
        credits_used=row.credits,
        created_at=row.created_at,
    )
