"""A worker: one client, one lease, and slices of shards at anybody's call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from redis.asyncio import Redis

from ..._client import Client
from ..._exceptions import NanoBananaError
from ...batch._budget import Prices
from ...batch._patience import Patience
from ...batch._turnstile import Turnstile
from ._book import Book, BookError, ShardLostError, connect
from ._judging import Settler
from ._lease import LEASE_SECONDS, Lease
from ._retelling import Recollection
from ._rows import decode_shard
from ._shard import Claim, Shard
from ._slice import Slice, SliceOptions
from ._stops import FOR_ALL, stop_reason
from ._storage import Storage, open_storage, shard_file

_LOGGER = logging.getLogger(__name__)

ANSWER_MARGIN = 10.0  # seconds beyond the client's own deadline for a submission
RENEW_INTERVAL = 1.0  # before a Redis that gave no lease is asked again


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long a worker may do what. Seconds.

    `slice_seconds`: after which a slice submits nothing more. `lease_seconds`: after which a worker that says
    nothing is taken for dead. `answer_timeout`: how long a dead worker's intent may still be answered; by default the
    client's own deadline for a submission, and a margin.
    """

    slice_seconds: float = 240.0
    lease_seconds: float = LEASE_SECONDS
    answer_timeout: float | None = None
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class SliceEnd:
    """How a slice ended: the shard's state, and how many of its rows were stored in it."""

    batch: str
    shard: int
    state: str
    stored: int


class Worker:
    """`async with Worker(client, "redis://…") as worker`, then `await worker.drain(batch, shard)`, several at once.

    `folder` is where the batch's folder is mounted here, if that is another place than where it was started. `on_slice`
    hears of every slice that ends.

    Raises on entry: BookError when Redis can't be reached.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        *,
        account: str,
        folder: str | Path | None = None,
        terms: Terms | None = None,
        on_slice: Callable[[SliceEnd], None] | None = None,
    ) -> None:
        self.account = account
        self._stored = 0
        self._client = client
        self._url = url
        self._on_slice = on_slice
        self._folder = None if folder is None else Path(folder)
        self._terms = terms or Terms()
        self._running: set[Slice] = set()  # two of one shard for a moment, if its lease was lost and taken anew
        self.stopping = False
        self._on_stop: list[Callable[[], None]] = []
        self._recollection = Recollection()
        self._prices: Prices | None = None
        self._turnstile = Turnstile(lambda: self._terms.patience.hold_up(client.slot_interval))
        self.fault: NanoBananaError | None = None  # what concerns this worker: its key, its disk

    def __repr__(self) -> str:
        now = self._client.statistics()
        slots = f"{now.submitting + now.running}/{'?' if now.limit is None else now.limit} running"
        return f"<Worker [{len(self._running)} shards | {slots} | {self.stored:,} rows stored]>"

    @property
    def stored(self) -> int:
        """Rows whose images this worker has brought home."""
        return self._stored + sum(running.stored for running in self._running)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._redis: Redis = connect(self._url)
            stack.push_async_callback(self._redis.aclose)
            self.book = Book(self._redis, self.account)
            await self.book.check()
            self.lease = await self._new_lease()
            self._settler = Settler(self.book, self._client, self._terms.patience)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            try:
                with suppress(NanoBananaError):
                    if not await self.lease.end():
                        await self._recollection.tell(self.book)
            finally:
                await self._stack.aclose()

    async def keep(self) -> None:
        """Renew the lease, and take a new one when it is lost, until cancelled. Redis may have lost more than that.

        What was told is told again when the new one is known: a Redis that forgets later forgets the lease as well.
        """
        while True:
            await self.lease.keep()
            while not self.lease.good:
                try:
                    lease = await self._new_lease()
                    await self._recollection.tell(self.book)
                    self.lease = lease
                except BookError as error:
                    _LOGGER.warning("no new lease: %s", error)
                    await anyio.sleep(RENEW_INTERVAL)

    def stop(self) -> None:
        """Submit nothing more; what runs is brought home. Idempotent."""
        self.stopping = True
        for callback in self._on_stop:
            callback()
        for running in list(self._running):
            running.brake.pull()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call this when it is stopped; at once if it was."""
        self._on_stop.append(callback)
        if self.stopping:
            callback()

    async def drain(self, batch: str, shard: int) -> str:
        """One slice of a shard. Safe to call again, here and elsewhere, at any time.

        Returns `done`, `open` (there is more to do: call again), `parked` (what is left needs another run), or why
        nothing was done: `taken`, `stopped`, `gone`, `fenced`. Cancelling it leaves as soon as the answer to a
        submission on its way is recorded.

        Raises: what concerns this worker: AuthenticationError and its like, BatchError for its disk, BookError.
        """
        if self.stopping:
            return "stopped"
        lease = self.lease
        word, fence = await self.book.claim(batch, shard, lease.name)
        if word != "ok":
            return word
        claim = Claim(batch, shard, fence, lease, lease.name, self._answer_timeout())
        state = "open"
        try:
            state = await self._drained(claim)
        finally:
            with anyio.CancelScope(shield=True), suppress(BookError):
                await self.book.release(batch, shard, fence, state)
        return state

    # ---- inside

    async def _drained(self, claim: Claim) -> str:
        meta = await self.book.meta(claim.batch)
        folder = self._folder or (Path(meta["folder"]) if "folder" in meta else None)
        async with open_storage(folder, meta.get("store")) as storage:
            options = SliceOptions(
                retries_uncertain=meta.get("uncertain") == "retry", gives_up=meta.get("gives_up") == "1"
            )
            shard = await self._shard(claim, storage, int(meta.get("max_attempts", 3)))
            prices, patience = await self._known_prices(), self._terms.patience
            running = Slice(
                self._client, shard, self._settler, prices, self._turnstile, options=options, patience=patience
            )
            return await self._run(running, claim)

    async def _shard(self, claim: Claim, storage: Storage, max_attempts: int) -> Shard:
        name = shard_file(claim.batch, claim.shard)
        rows = {row.index: row for row in decode_shard(await storage.read(name), name)}
        return Shard(self.book, claim, storage, rows, max_attempts, told=self._recollection.page(claim.batch))

    async def _run(self, running: Slice, claim: Claim) -> str:
        self._running.add(running)
        try:
            if self.stopping:
                running.brake.pull()
            state = await running.run(self._terms.slice_seconds)
        finally:
            self._running.discard(running)
        self._stored += running.stored
        if self._on_slice is not None:
            self._on_slice(SliceEnd(claim.batch, claim.shard, state, running.stored))
        await self._report(running.brake.reason, claim)
        return state

    async def _report(self, reason: Exception | None, claim: Claim) -> None:
        """What ended a slice early: told to all, forgotten, or raised."""
        if isinstance(reason, FOR_ALL):
            await self.book.stop(claim.batch, stop_reason(reason))
        elif isinstance(reason, ShardLostError):
            _LOGGER.info("a slice of shard %s ended: %s", claim.shard, reason)
        elif reason is not None:
            if isinstance(reason, NanoBananaError) and not isinstance(reason, BookError):
                self.fault = reason
            raise reason

    async def _known_prices(self) -> Prices:
        if self._prices is None:
            self._prices = Prices({model.name: model.credits_cost for model in await self._client.models()})
        return self._prices

    async def _new_lease(self) -> Lease:
        lease = Lease(self.book, seconds=self._terms.lease_seconds)
        await lease.begin()
        return lease

    def _answer_timeout(self) -> float:
        told = self._terms.answer_timeout
        return self._client.timeouts.submit_timeout + ANSWER_MARGIN if told is None else told
