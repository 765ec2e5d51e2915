"""A batch that workers drain: handed out in shards, watched, and gathered in its folder as any other batch."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import anyio

from ..._client import Client
from ..._exceptions import BatchError, JobCancelledError, NanoBananaError
from ..._references import encode_references
from ...batch._budget import Budget
from ...batch._events import BatchProgress, BatchSummary
from ...batch._gallery import GALLERY_FILE
from ...batch._journal_rows import JobState, JournalRow
from ...batch._manifest import MANIFEST_FILE
from ...batch._network import Network
from ...batch._run import Run, committed
from ...batch._runner import DISTRIBUTED, BatchRunner
from ...batch._second_look import RETRIED, SecondLook
from ...batch._submitting import DOUBTFUL, written_off
from ._beside import beside
from ._book import Book, ForgottenError, connect
from ._handing import Plan, from_ranges
from ._judging import Settler
from ._late import Latecomers
from ._lease import LEASE_SECONDS
from ._pages import every, rows_of
from ._recovery import Recovery
from ._rows import RowRecord, ShardRow, encode_shard
from ._stops import stopped_by
from ._storage import Storage, open_storage, shard_file
from ._sweeping import Kick, tell
from ._watching import Watch
from ._worker import ANSWER_MARGIN

_LOGGER = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0  # for a Redis that is away, before the coordinator leaves
MOST_FORGOTTEN = 5  # times that Redis may lose a batch in one run: one that evicts keys is of no use


class DistributedBatch(BatchRunner):
    """A `BatchRunner` whose rows are drained by workers, on this machine and others.

    `run()` hands out what is open and watches until all is done. `stop()`, or cancelling it, leaves the workers at
    work; the next `run()`, with the same folder and Redis, takes up what they did meanwhile. `kick` tells workers of a
    shard; a message that is lost is sent again. `store` is the URL of an object store for the images, if the folder is
    not one that all workers see. `answer_timeout` is how long a worker's submission may be on its way, in seconds,
    waited for when Redis has lost the batch; by default a lease and then the client's deadline, as for the dead.
    """

    def __init__(
        self,
        client: Client,
        folder: Any,
        url: str,
        *,
        account: str,
        kick: Kick,
        store: str | None = None,
        answer_timeout: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(client, folder, **options)
        self._url = url
        self._account = account
        self._kick = kick
        self._store = store
        patient = LEASE_SECONDS + client.timeouts.submit_timeout + ANSWER_MARGIN
        self._answer_timeout = patient if answer_timeout is None else answer_timeout
        self._watch: Watch | None = None
        self._late = set[int]()  # rows that came late, to be handed out

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._latecomers = Latecomers(self._journal)
        return self

    def progress(self) -> BatchProgress:
        """The sums of this moment, over all workers."""
        return self._watch.progress() if self._watch is not None else BatchProgress()

    async def run(self) -> BatchSummary:
        """Hand out what is open, and watch until all of it is done, something stops it, or `stop()` is called.

        Raises nothing but cancellation: what ended it early is told by the summary.
        """
        began = time.monotonic()
        before = (await self._journal.counts()).credits
        doubtful, over = 0, False
        try:
            async with self._open_book() as book, open_storage(self.folder, self._store) as storage:
                over, doubtful = await self._rounds(book, storage)
        except JobCancelledError:  # stopped while it judged
            self._brake.pull()
        except NanoBananaError as error:
            self._brake.pull(error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._write_at_end(3.0)
        brake, self._brake = self._brake, type(self._brake)()
        counts = await self._journal.counts()
        return BatchSummary(
            counts,
            credits_used=counts.credits - before,
            seconds=time.monotonic() - began,
            doubtful_credits=doubtful + await written_off(self._journal),
            interrupted=brake.pulled and brake.reason is None and not over,
            stopped_by=brake.reason,
            given_up=await self._given_up(),
        )

    # ---- rounds

    async def _rounds(self, book: Book, storage: Storage) -> tuple[bool, int]:
        """Whether all is done, and what is in doubt. One round, or more when Redis forgets or something comes late."""
        forgotten = 0
        while True:
            try:
                over, doubtful = await self._round(book, storage)
            except ForgottenError:
                forgotten += 1
                if forgotten > MOST_FORGOTTEN or self._brake.pulled:
                    raise
            else:
                if over is not None:
                    return over, doubtful

    async def _round(self, book: Book, storage: Storage) -> tuple[bool | None, int]:
        """Hand out and watch. None: all was done, but there is something more. Raises: ForgottenError, and others."""
        self._watch = self._new_watch(book)
        plan = await self._hand_out(book, storage)
        over = await self._watched(plan, self._watch)
        doubtful = (await book.state(plan.batch)).doubtful
        if not over:
            return False, doubtful
        return (True, 0) if await self._finish(book, storage, plan, doubtful) else (None, doubtful)

    # ---- before

    def _new_watch(self, book: Book) -> Watch:
        return Watch(
            book,
            self._journal,
            brake=self._brake,
            on_event=self._teller.on_event,
            kick=self._kick,
            server=shown(self._url),
        )

    @asynccontextmanager
    async def _open_book(self) -> AsyncIterator[Book]:
        redis = connect(self._url)
        try:
            book = Book(redis, self._account, try_timeout=PATIENCE_SECONDS)
            await book.check()
            yield book
        finally:
            with anyio.CancelScope(shield=True):
                await redis.aclose()

    async def _hand_out(self, book: Book, storage: Storage) -> Plan:
        """Go on with what was handed out before, and hand out what is not."""
        plan, again = await self._known_plan(book), set[int]()
        self._late |= await self._latecomers.take_over(book, plan)
        if plan is None:
            plan = await self._new_plan(book, storage)
        else:
            await self._catch_up(plan)
            again = await self._tried_again(storage)
        plan = plan.with_shards(await self._not_handed_out(plan, again | self._late))
        self._late.clear()
        await self._journal.set_setting(DISTRIBUTED, plan.to_json())  # from here on nobody else may send them
        await self._witness(book, plan)
        known = (await book.state(plan.batch)).shards
        for number in range(known, len(plan.shards)):
            await self._hand_out_one(book, storage, plan, number)
        return plan

    async def _known_plan(self, book: Book) -> Plan | None:
        """The batch that workers have, if they have one and Redis still knows it."""
        text = await self._journal.get_setting(DISTRIBUTED)
        if not text:
            return None
        plan = Plan.from_json(text)
        if (plan.server, plan.account) != (_server(self._url), self._account):
            raise BatchError(
                f"{self.folder}: workers at {plan.server} have the rows of this batch, for another account or server; "
                "go on with that server and the key that it was started with"
            )
        if await book.begin(plan.batch, self._meta(), fresh=False):
            return plan
        await self._recovery().judge(book, plan)
        return None

    async def _witness(self, book: Book, plan: Plan) -> None:
        """The balance at a moment when nothing is on its way, for whoever judges later."""
        settler = Settler(book, self._client, self._options.patience)
        balance = await settler.witness(self._brake, lambda: self._spent(plan))
        if balance is not None:
            await self._recovery().note(plan.batch, *balance)

    async def _spent(self, plan: Plan) -> int:
        """As the journal has it, once it has what Redis has."""
        await self._catch_up(plan)
        return (await self._journal.counts()).credits

    def _recovery(self) -> Recovery:
        return Recovery(
            self._journal,
            self._client,
            self._latecomers,
            brake=self._brake,
            teller=self._teller,
            patience=self._options.patience,
            answer_timeout=self._answer_timeout,
        )

    async def _new_plan(self, book: Book, storage: Storage) -> Plan:
        """A new batch in Redis; what an earlier run left here is judged first."""
        await self._run_once().settle(await self._known_prices())
        await self._tried_again(storage)
        plan = Plan(secrets.token_hex(6), self._account, _server(self._url))
        base = await committed(self._journal, await self._journal.counts())
        await book.begin(plan.batch, {**self._meta(), "base": base}, fresh=True)
        return plan

    def _run_once(self) -> Run:
        return Run(
            self._client,
            self._journal,
            self.folder,
            self._options,
            brake=self._brake,
            teller=self._teller,
            outputs=self._outputs,
        )

    def _meta(self) -> dict[str, Any]:
        options = self._options
        return {
            "folder": str(self.folder.resolve()) if self._store is None else None,
            "store": self._store,
            "max": options.max_credits,
            "uncertain": options.uncertain,
            "gives_up": int(options.retry_failed),
            "max_attempts": options.max_attempts,
        }

    async def _catch_up(self, plan: Plan) -> None:
        assert self._watch is not None
        while await self._watch.take_over(plan.batch):
            pass

    async def _tried_again(self, storage: Storage) -> set[int]:
        """Failed rows that are to be taken further: ready, or running or made, where a look shows that they are."""
        found, options = set[int](), self._options
        if not options.retry_failed:
            return found
        async for row in every(self._journal, *RETRIED):
            if row.generation_id is None and row.attempts < options.max_attempts:
                found.add(row.index)
        await self._journal.requeue(*RETRIED, indexes=sorted(found))
        counts = await self._journal.counts()
        self._teller.start(counts, Budget(options.max_credits, spent=await committed(self._journal, counts)))
        look = SecondLook(
            self._client,
            self._journal,
            storage.folder,
            brake=self._brake,
            network=Network(self._client, self._brake, self._teller, options.patience),
            teller=self._teller,
            max_attempts=options.max_attempts,
            on_open=found.add,
            keep=storage.keep,
        )
        await look.through()
        return found

    async def _not_handed_out(self, plan: Plan, again: set[int]) -> list[int]:
        states = [JobState.READY, JobState.RUNNING, JobState.COMPLETED]
        if self._options.uncertain == "retry":
            states.append(JobState.UNCERTAIN)
        return [row.index async for row in every(self._journal, *states) if row.index > plan.upto or row.index in again]

    # ---- a shard

    async def _hand_out_one(self, book: Book, storage: Storage, plan: Plan, number: int) -> None:
        """Its file first, then Redis, then the message: each may be lost, and is made good by the next."""
        states = (JobState.READY, JobState.RUNNING, JobState.COMPLETED, JobState.UNCERTAIN)
        rows = await rows_of(self._journal, set(from_ranges(plan.shards[number])), *states)
        asked = [await _shard_row(row) for row in rows]
        await storage.write(shard_file(plan.batch, number), encode_shard(asked))
        tried = {row.index: RowRecord.of(row) for row in rows if row.attempts or row.state is not JobState.READY}
        await book.hand_out(plan.batch, number, len(rows), tried, Watch.PATIENCE)
        await tell(self._kick, plan.batch, number)

    # ---- the watch and the end

    async def _watched(self, plan: Plan, watch: Watch) -> bool:
        """Whether all is done. False when it was stopped here or there."""
        async with beside(self._outputs.keep_fresh()):
            stopped = await watch.until_over(plan.batch)
        if stopped:
            self._brake.pull(stopped_by(stopped))
        return watch.over

    async def _finish(self, book: Book, storage: Storage, plan: Plan, doubtful: int) -> bool:
        """Everything is in the journal: from here on it is a batch as any other. False when something came late."""
        self._late |= await self._latecomers.take_over(book, plan)
        if self._late or not await book.forget(plan.batch):
            return False
        counts = await self._journal.counts()
        if any(counts.by_state[state].rows for state in (JobState.LOST, JobState.UNCERTAIN)):
            await self._latecomers.expect(plan.batch)
        else:
            await self._latecomers.expect_none()
        await self._outputs.write()
        for name in (MANIFEST_FILE, GALLERY_FILE):
            await storage.publish(self.folder / name)
        in_all = doubtful + await written_off(self._journal)
        await self._journal.mirror((), {DISTRIBUTED: "", DOUBTFUL: str(in_all)})
        try:
            await storage.remove(shard_file(plan.batch, number) for number in range(len(plan.shards)))
        except BatchError as error:
            _LOGGER.warning("what the workers no longer need could not be removed: %s", error)
        return True


async def _shard_row(row: JournalRow) -> ShardRow:
    request = row.request
    references = await encode_references(request.reference_images)
    return ShardRow(row.index, request.prompt, request.model, request.aspect_ratio, request.quantity, tuple(references))


def shown(url: str) -> str:
    """A Redis URL fit for messages: without its password."""
    return f"{urlsplit(url).scheme}://{_server(url)}"


def _server(url: str) -> str:
    """Which Redis, without its password."""
    parts = urlsplit(url)
    host = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    return f"{host}{parts.path.rstrip('/')}" if parts.hostname else parts.path
