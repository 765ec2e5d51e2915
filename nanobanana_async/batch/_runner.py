"""`BatchRunner`: a folder of prompts on its way to a folder of images, through crashes and empty accounts.

The journal says what is left to do, and is told of every step before the next one relies on it. A `Run` decides what
to do next; here stands what users hold. Only what concerns the account or the disk as a whole (no credits, a wrong
key, the budget, the journal) ends a run early; what runs then is still brought home, because it is paid.

    _run            one run: doubts judged, running rows picked up, ready rows submitted
    _feeding        which row comes next          _rows         what is done with it
    _turnstile      one unanswered submission at a time, where slots can wait for it
    _submitting     a row's steps, into the journal and the budget
    _judging        what became of a lost answer, by the balance (_settling)
    _second_look    whether a failed row has to be paid for again
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio

from .._client import BATCH_PRIORITY, Client
from .._exceptions import BatchError, JournalError, NanoBananaError
from ._adding import BatchItem, Bridge, rows_of
from ._brake import Brake
from ._budget import Prices
from ._events import BatchEvent, BatchProgress, BatchSummary
from ._inputs import InputCounts
from ._journal import Journal
from ._journal_rows import Added, JobState
from ._memory import LIMIT, remembered_length
from ._outputs import Outputs
from ._patience import Patience
from ._preflight import Preflight
from ._run import Run, RunOptions, committed
from ._second_look import RETRIED
from ._submitting import written_off
from ._telling import Teller

LEAVE_SECONDS = 3.0  # for the manifest of a run that was cancelled; a large one is left to the next run
MAX_ATTEMPTS = 3  # submissions of one row, retries on request included
DISTRIBUTED = "distributed"  # a setting: that rows were handed out to workers, and which
_PAGE = 1000


class BatchRunner:
    """One batch in one folder: `images/`, `batch.db`, `manifest.jsonl`, `index.html`.

    `max_credits` is what the batch may spend, earlier runs included. `retry_failed` sends failed and lost rows again,
    those whose generations are known only if a free look finds nothing to fetch or to wait for; `uncertain="retry"`
    sends those again that may be paid already. `on_event` hears of every change, in the loop: give it an
    `asyncio.Queue().put_nowait` to read events elsewhere. An error that it raises ends the run.

    Its jobs are less urgent than those that somebody waits for, unless `priority` says otherwise. Batches of one
    client share its slots evenly, or those of a `group`, which by default is the folder.

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
        priority: float = BATCH_PRIORITY,
        group: str | None = None,
        title: str | None = None,
        on_event: Callable[[BatchEvent], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._client = client
        self._options = RunOptions(
            max_credits=max_credits,
            retry_failed=retry_failed,
            uncertain=uncertain,
            max_attempts=max_attempts,
            priority=priority,
            group=str(self.folder) if group is None else group,
            patience=patience or Patience(),
        )
        self._title = title
        self._resources = AsyncExitStack()
        self._teller = Teller(client, on_event)
        self._brake = Brake()
        self._prices: Prices | None = None

    def __repr__(self) -> str:
        now = self.progress()
        return f"<BatchRunner {self.folder} [rows: {now.done}/{now.rows} done, {now.running} running]>"

    async def __aenter__(self) -> Self:
        self._journal = await self._resources.enter_async_context(Journal.open(self.folder))
        interval = self._options.patience.outputs_interval
        self._outputs = Outputs(self.folder, self._journal, title=self._title, interval=interval)
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

        All of them are taken, or none. A plain iterable is drained in another thread.

        Raises: InputError for one that differs from what the batch was started with; whatever `items` raises.
        """
        if not isinstance(items, AsyncIterable):
            return await self._journal.add_rows(rows_of(items), dedupe=dedupe, source=source)
        bridge = Bridge()
        async with anyio.create_task_group() as filling:
            filling.start_soon(bridge.fill, items)
            try:
                added: Added | Exception = await self._journal.add_rows(bridge, dedupe=dedupe, source=source)
            except Exception as error:  # kept out of the group, which would wrap it
                added = error
            filling.cancel_scope.cancel()
        if isinstance(added, Exception):
            raise added
        return added

    async def preflight(self) -> Preflight:
        """What a run would cost; asks for the models and the balance, submits nothing and changes nothing.

        Raises: AuthenticationError and its like when the key is no good.
        """
        prices = await self._known_prices()
        counts = InputCounts(by_model=await self._journal.open_by_model())
        looked_at = await self._count_again(counts)
        known_limit = await self._journal.get_setting(LIMIT)
        sums = await self._journal.counts()
        return Preflight.of(
            counts.by_model,
            prices,
            balance=await self._client.credits(),
            spent=await committed(self._journal, sums),
            limit=self._client.limit or (int(known_limit) if known_limit else None),
            max_credits=self._options.max_credits,
            looked_at=looked_at,
            length=await remembered_length(self._journal),
            given_up=sum((await self._given_up()).values()) if self._options.retry_failed else 0,
            judged=sums.by_state[JobState.INTENT].rows,
        )

    # ---- the run

    async def run(self) -> BatchSummary:
        """Bring every row as far as it goes. Ends early after `stop()` or an error that concerns all rows.

        Cancelling it leaves as soon as the answer to the submission on its way is recorded; the next run picks up what
        ran. Raises nothing but that: what ended it is told by the summary.
        """
        started_at, brake = time.monotonic(), self._brake
        run = Run(
            self._client,
            self._journal,
            self.folder,
            self._options,
            brake=brake,
            teller=self._teller,
            outputs=self._outputs,
        )
        patience: float | None = LEAVE_SECONDS
        try:
            await self._go_through(run)
            patience = None
        finally:
            with anyio.CancelScope(shield=True):
                await self._write_at_end(patience)
        self._brake = Brake()  # a next run starts anew
        if brake.reason is not None and not isinstance(brake.reason, NanoBananaError):
            raise brake.reason
        counts = await self._journal.counts()
        return BatchSummary(
            counts,
            credits_used=counts.credits - (counts.credits if run.spent_before is None else run.spent_before),
            seconds=time.monotonic() - started_at,
            doubtful_credits=await written_off(self._journal),
            interrupted=brake.pulled and brake.reason is None,
            stopped_by=brake.reason,
            given_up=await self._given_up(),
        )

    def stop(self) -> None:
        """Submit nothing more; what runs is finished and stored. Idempotent."""
        self._brake.pull()

    async def write_outputs(self) -> None:
        """Bring `manifest.jsonl` and `index.html` up to date. Raises: OSError, JournalError."""
        await self._outputs.write()

    def progress(self) -> BatchProgress:
        """The sums of this moment."""
        return self._teller.progress()

    # ---- inside

    async def _go_through(self, run: Run) -> None:
        try:
            await self._check_alone()
            prices = await self._known_prices()
        except NanoBananaError as error:
            self._brake.pull(error)
        else:
            await run.through(prices)

    async def _check_alone(self) -> None:
        """Raise when workers elsewhere have this batch's rows: whoever sent them here as well would pay twice."""
        if await self._journal.get_setting(DISTRIBUTED):
            raise BatchError(
                f"{self.folder}: workers have the rows of this batch; go on with --distributed and the same Redis"
            )

    async def _write_at_end(self, patience: float | None) -> None:
        try:
            await self._outputs.write(patience)
        except (OSError, JournalError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            told = f"the manifest could not be written ({reason}); free space and run the same command again"
            self._brake.pull(BatchError(told))

    async def _known_prices(self) -> Prices:
        if self._prices is None:
            self._prices = Prices({model.name: model.credits_cost for model in await self._client.models()})
        return self._prices

    async def _given_up(self) -> dict[JobState, int]:
        return await self._journal.given_up(self._options.max_attempts)

    async def _count_again(self, counts: InputCounts) -> int:
        """Add the rows that a run would queue again; how many of them only if a look shows that it must be."""
        options, cursor, looked_at = self._options, -1, 0
        again = [*RETRIED] if options.retry_failed else []
        again += [JobState.UNCERTAIN] if options.uncertain == "retry" else []
        while again:
            rows = await self._journal.unfinished(*again, limit=_PAGE, after=cursor)
            if not rows:
                break
            cursor = rows[-1].index
            for row in rows:
                if row.state is JobState.UNCERTAIN or row.attempts < options.max_attempts:
                    counts.add(row.request)
                    looked_at += row.state in RETRIED and row.generation_id is not None
        return looked_at
