"""One limiter over several processes: what `SQLiteLimiter` and `RedisLimiter` have in common."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import anyio

from .._admission import Admission, AdmissionStatistics
from .._gate import Gate, Passage
from .._retry import Uniform
from .._scope import Scope
from ._adopting import Adopting, Look
from ._book import Lease, LeaseState
from ._entries import Terms
from ._keeper import Keeper, News
from ._slot import SharedSlot
from ._store import Store
from ._turn import Turn


@dataclass(slots=True)
class _Waiting:
    priority: float
    granted: asyncio.Future[SharedSlot]


class SharedLimiter:
    """The account's slots, shared by all processes that name the same account to the same store.

    The limit, the cool-down and everything else that answers show are shared. A process that dies gives nothing back:
    the generations it had running are looked at by another until they end; one whose id nobody knows counts for as long
    as a submission may take. While the store can't be reached nothing new is handed out. It belongs to one event loop.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_concurrency: int | None,
        scope: Scope | None,
        terms: Terms,
        uniform: Uniform = random.uniform,
    ) -> None:
        if max_concurrency is not None and max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1 (got {max_concurrency})")
        if scope not in (None, "generation", "request"):
            raise ValueError(f'scope must be "generation", "request" or None (got {scope!r})')
        self.gate = Gate()
        self.refusals = 0
        self._store = store
        self._max_concurrency = max_concurrency
        self._me = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._numbers = itertools.count()
        self._waiting: dict[str, _Waiting] = {}
        self._slots: dict[str, SharedSlot] = {}
        self._keeper = Keeper(
            store,
            self._me,
            terms,
            lambda: Admission(scope=scope, uniform=uniform),
            waiting=lambda: {token: waiting.priority for token, waiting in self._waiting.items()},
            settled=self._settled,
            failed=self._failed,
        )
        self._adopting = Adopting(self._adopted_ended)
        self._last: Turn | None = None  # and what was observed since
        self._ahead = 0.0  # of the loop's clock is the book's time
        self._changed = asyncio.Event()
        self._error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        now = self.statistics()
        limit = "?" if now.limit is None else now.limit
        return f"<{type(self).__name__} [slots: {now.running + now.submitting + now.forsaken + now.others}/{limit}]>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Get ready in the running event loop; the first `acquire` does it as well.

        Raises: ConfigurationError for a store that can't be used.
        """
        loop = asyncio.get_running_loop()
        if self._closed or self._loop not in (None, loop):
            raise RuntimeError("the limiter is closed, or belongs to another event loop; make one a loop")
        if self._loop is None:
            self._loop = loop
            try:
                with anyio.CancelScope(shield=True):  # who asks for a slot may be let go of to ask more urgently
                    await self._keeper.start()
            except BaseException:
                self._closed = True
                self._fail(RuntimeError("the limiter could not be opened"))
                raise

    async def acquire(self, *, priority: float = 0) -> SharedSlot:
        """Wait for a slot: more urgent ones of all processes first, then older ones.

        Cancelled while waiting, it has taken none. Raises: RuntimeError when the limiter is closed meanwhile.
        """
        await self.open()
        await self._below_ceiling()
        token = f"{self._me}.{next(self._numbers)}"
        granted: asyncio.Future[SharedSlot] = asyncio.get_running_loop().create_future()
        self._waiting[token] = _Waiting(priority, granted)
        self._keeper.poke()
        try:
            return await granted
        except BaseException:
            self._waiting.pop(token, None)
            self._slots.pop(token, None)
            self.tell(lambda turn: turn.release(token, LeaseState.SUBMITTING))  # a turn may be handing it out just now
            self._wake_local()
            raise

    def request(self) -> Passage:
        """Open one request that has no slot. Waits where requests are counted."""
        return self.gate.request()

    @asynccontextmanager
    async def slot(self, *, priority: float = 0) -> AsyncIterator[SharedSlot]:
        """A slot for the length of a block."""
        slot = await self.acquire(priority=priority)
        try:
            yield slot
        finally:
            slot.release()

    def look_with(self, look: Look) -> Callable[[], None]:
        """Look at what processes that died left running by `look`, until what this returns is called."""

        async def gated(generation_id: str) -> bool:
            async with self.gate.request():
                return await look(generation_id)

        self._adopting.looks.append(gated)
        self._keeper.adopts = True

        def stop() -> None:
            if gated in self._adopting.looks:
                self._adopting.looks.remove(gated)
            self._keeper.adopts = bool(self._adopting.looks)

        return stop

    def statistics(self) -> AdmissionStatistics:
        """The slots of this moment: this process's own, and in `others` those of everybody else."""
        told = self._told()
        running = sum(slot.running for slot in self._slots.values())
        forsaken = self._forsaken
        foreign = told.running + told.submitting + told.forsaken - len(self._slots) - forsaken
        ceiling = self._max_concurrency
        return replace(
            told,
            running=running,
            submitting=len(self._slots) - running,
            forsaken=forsaken,
            others=told.others + max(0, foreign),
            limit=told.limit if ceiling is None else min(ceiling, told.limit or ceiling),
            refusals=self.refusals,
            open_requests=self.gate.open,
        )

    async def aclose(self) -> None:
        """Leave the account's book. What still runs is looked at by others. Idempotent."""
        self._closed = True
        self._fail(RuntimeError("the limiter is closed; open a new one"))
        with anyio.CancelScope(shield=True):
            await self._adopting.aclose()
            await self._keeper.aclose()

    # ---- what slots tell

    def tell(self, news: News) -> None:
        """Something that the book must know."""
        self._keeper.tell(news)

    def observe(self, news: News) -> None:
        """Something that the book need only know if it makes a difference: most looks don't."""
        if self._last is None or self._keeper.away:
            return
        self._last.now = self._now
        before = self._last.telling_facts()
        news(self._last)
        if self._last.telling_facts() != before:
            self.tell(news)
            self._set_gate(self._last)

    def given_back(self, token: str) -> None:
        """The slot of this token is free, as far as this process is concerned."""
        self._slots.pop(token, None)
        self._wake_local()

    # ---- after each turn

    def _settled(self, turn: Turn) -> None:
        self._last, self._ahead = turn, turn.now - asyncio.get_running_loop().time()
        for token, waiting in list(self._waiting.items()):
            if token in turn.book.leases and not waiting.granted.done():
                del self._waiting[token]
                self._slots[token] = SharedSlot(self, token)
                waiting.granted.set_result(self._slots[token])
        mine = f"{self._me}."
        self._adopting.set([lease for lease in turn.book.held_by(self._me) if not lease.token.startswith(mine)])
        self._set_gate(turn)
        self._wake_local()

    def _set_gate(self, turn: Turn) -> None:
        """Each process opens its share of the requests that may be open."""
        width = turn.open_limit
        self.gate.width = None if width is None else max(1, width // max(1, len(turn.book.holders)))

    def _adopted_ended(self, lease: Lease) -> None:
        self.tell(lambda turn: turn.ended(lease.token, lease.fence))

    def _failed(self, error: Exception) -> None:
        self._fail(RuntimeError(f"the shared slots failed: {error!r}"))

    def _fail(self, error: RuntimeError) -> None:
        self._error = self._error or error
        for waiting in self._waiting.values():
            if not waiting.granted.done():
                waiting.granted.set_exception(error)
        self._wake_local()

    # ---- inside

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time() + self._ahead

    @property
    def _forsaken(self) -> int:
        """Generations that were started here and that nobody watches."""
        leases = self._last.book.held_by(self._me) if self._last is not None else ()
        return sum(lease.state is LeaseState.FORSAKEN for lease in leases)

    def _told(self) -> AdmissionStatistics:
        return self._last.statistics() if self._last is not None else Admission().statistics(0.0)

    async def _below_ceiling(self) -> None:
        """Until this process has less than it may have, whatever the account has."""
        while self._error is None and self._max_concurrency is not None:
            if len(self._slots) + len(self._waiting) + self._forsaken < self._max_concurrency:
                return
            await self._changed.wait()
        if self._error is not None:
            raise self._error

    def _wake_local(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
