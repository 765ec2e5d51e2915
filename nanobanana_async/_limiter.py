"""Slots to wait for: the `Limiter` that a scheduler asks, and `AccountLimiter`, which keeps them in this process.

A slot mirrors a generation on the server, not a request of ours: it is taken before the POST and given back when the
generation has ended. Its methods are plain calls, so that nothing can come between an answer and its consequence.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum, auto
from typing import Protocol, cast, runtime_checkable

from ._admission import Admission, AdmissionStatistics
from ._exceptions import RateLimitError, ServerBusyError
from ._gate import Gate, Passage
from ._line import Line
from ._queue import AGEING
from ._retry import Uniform
from ._scope import Scope
from ._wire import RateLimit


class Slot(Protocol):
    """The right to run one generation. The first of refused, forsake and release gives it back."""

    @property
    def running(self) -> bool: ...
    def accepted(self, rate_limit: RateLimit) -> None: ...
    def named(self, generation_id: str) -> None: ...
    def observed(self, rate_limit: RateLimit) -> None: ...
    def refused(self, error: RateLimitError | ServerBusyError) -> None: ...
    def looked(self, rate_limit: RateLimit, *, running: bool) -> None: ...
    def look_refused(self, error: RateLimitError) -> None: ...
    def request(self, *, submission: bool = False) -> AbstractAsyncContextManager[object]: ...
    def forsake(self, seconds: float) -> None: ...
    def release(self) -> None: ...


class Limiter(Protocol):
    """Hands out slots. One account has one limiter, however many clients share it."""

    async def acquire(self, *, priority: float = 0) -> Slot: ...
    def statistics(self) -> AdmissionStatistics: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class LooksAfterOthers(Protocol):
    """A limiter that counts what processes which died left running, for as long as it runs: it must be looked at."""

    def look_with(self, has_ended: Callable[[str], Awaitable[bool]]) -> Callable[[], None]: ...


@runtime_checkable
class Gated(Protocol):
    """A limiter that also lets looks pass which have no slot, where open requests are what is counted."""

    def request(self) -> AbstractAsyncContextManager[object]: ...


class _State(Enum):
    SUBMITTING = auto()
    RUNNING = auto()
    GIVEN_BACK = auto()


class AccountLimiter:
    """The account's slots, learned from the server's answers and kept in this process.

    It starts at one and learns the limit from X-RateLimit-Limit, a 429's body, or refusals. `max_concurrency` is a
    ceiling of your own. `scope` says what holds a slot, "generation" or "request", where you know it; otherwise it is
    found out, starting from the first.
    """

    def __init__(
        self,
        *,
        max_concurrency: int | None = None,
        scope: Scope | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        if max_concurrency is not None and max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1 (got {max_concurrency})")
        if scope not in (None, "generation", "request"):
            raise ValueError(f'scope must be "generation", "request" or None (got {scope!r})')
        self._admission = Admission(max_concurrency=max_concurrency, scope=scope, uniform=uniform)
        self._gate = Gate()
        self._gate.width = self._admission.open_limit
        self._clock = clock
        self._line: Line[_AccountSlot] = Line(self._take, self._next_change, ageing=AGEING)

    def __repr__(self) -> str:
        now = self.statistics()
        limit = "?" if now.limit is None else now.limit
        return f"<AccountLimiter [slots: {now.running + now.submitting + now.forsaken}/{limit}]>"

    async def acquire(self, *, priority: float = 0) -> Slot:
        """Wait for a slot: more urgent ones first, then older ones. Cancelled while waiting, it has taken none."""
        slot = None if self._line else self._take()
        return slot if slot is not None else await self._line.wait(priority)

    def try_acquire(self) -> Slot | None:
        """A slot, if there is one that nobody waits for."""
        return None if self._line else self._take()

    @asynccontextmanager
    async def slot(self, *, priority: float = 0) -> AsyncIterator[Slot]:
        """A slot for the length of a block."""
        slot = await self.acquire(priority=priority)
        try:
            yield slot
        finally:
            slot.release()

    def request(self) -> AbstractAsyncContextManager[object]:
        """Open one request that has no slot. Waits where requests are counted."""
        return self._gate.request()

    def statistics(self) -> AdmissionStatistics:
        """The slots of this moment."""
        self._admission.open_requests = self._gate.open
        return self._admission.statistics(self._clock())

    async def aclose(self) -> None:
        """Nothing to close: the slots live in memory."""

    def _take(self) -> _AccountSlot | None:
        return _AccountSlot(self) if self._admission.admit(self._clock()) else None

    def _next_change(self) -> float | None:
        now = self._clock()
        moment = self._admission.next_change(now)
        return None if moment is None else moment - now

    def _changed(self) -> None:
        """An answer was heard: there may be a slot."""
        self._gate.width = self._admission.open_limit
        if self._line:
            self._line.serve()


class _AccountSlot:
    """One slot and where it stands; giving it back twice does nothing."""

    __slots__ = ("_limiter", "_post", "_seen_at", "_state")

    def __init__(self, limiter: AccountLimiter) -> None:
        self._limiter = limiter
        self._state = _State.SUBMITTING
        self._post: Passage | None = None
        self._seen_at = 0  # the number of submissions accepted when a look last said that this one runs

    @property
    def running(self) -> bool:
        """Whether the server has taken a generation for this slot that has not ended."""
        return self._state is _State.RUNNING

    def accepted(self, rate_limit: RateLimit) -> None:
        """The server took the generation. Told twice, the second time counts for its headers only."""
        if self._state is not _State.SUBMITTING:
            self.observed(rate_limit)
            return
        self._state = _State.RUNNING
        self._limiter._admission.accepted(rate_limit, self._limiter._clock())
        self._seen_at = self._limiter._admission.acceptances
        self._limiter._changed()

    def named(self, generation_id: str) -> None:
        """The generation's id, by which others could look at it: of no use within one process."""

    def observed(self, rate_limit: RateLimit) -> None:
        """A later answer's headers."""
        if rate_limit.limit is not None or rate_limit.active is not None:
            self._limiter._admission.observed(rate_limit, self._limiter._clock())
            self._limiter._changed()

    def refused(self, error: RateLimitError | ServerBusyError) -> None:
        """The server refused the submission: 429, or 503 busy."""
        numbers = told(error)
        if self._state is _State.RUNNING:
            self._limiter._admission.recalled()
        self._state = _State.GIVEN_BACK
        busy, alone = isinstance(error, ServerBusyError), self._post is not None and self._post.alone
        self._limiter._admission.refused(numbers, self._limiter._clock(), busy=busy, alone=alone)
        self._limiter._changed()

    def looked(self, rate_limit: RateLimit, *, running: bool) -> None:
        """A look at this generation was answered, and whether it still runs."""
        admission = self._limiter._admission
        admission.open_requests = self._limiter._gate.open
        seen_at = admission.looked(rate_limit, self._limiter._clock(), running=running, seen_at=self._seen_at)
        self._seen_at = seen_at
        self._limiter._changed()

    def look_refused(self, error: RateLimitError) -> None:
        """A look met 429: it holds no slot and loses none."""
        self._limiter._admission.look_refused(told(error), self._limiter._clock())
        self._limiter._changed()

    def request(self, *, submission: bool = False) -> AbstractAsyncContextManager[object]:
        """Open one request, once the account has room for it. Submissions go first."""
        request = self._limiter._gate.request(submission=submission)
        self._post = request if submission else self._post
        return request

    def forsake(self, seconds: float) -> None:
        """Nobody will see this generation's end: count it for `seconds` more."""
        now, admission = self._limiter._clock(), self._limiter._admission
        if self._state is _State.SUBMITTING:
            admission.lost(now + seconds, now)
        elif self._state is _State.RUNNING:
            admission.forsaken(now + seconds)
        self._state = _State.GIVEN_BACK
        self._limiter._changed()

    def release(self) -> None:
        """The generation ended, or was never submitted."""
        if self._state is _State.SUBMITTING:
            self._limiter._admission.withdrawn()
        elif self._state is _State.RUNNING:
            self._limiter._admission.finished()
        self._state = _State.GIVEN_BACK
        self._limiter._changed()


def find_try_acquire(limiter: Limiter) -> Callable[[], Slot | None]:
    """Its `try_acquire`, unless it has none or an `acquire` of its own, which then has to be asked."""
    for cls in type(limiter).__mro__:
        if "try_acquire" in vars(cls):
            return cast("AccountLimiter", limiter).try_acquire
        if "acquire" in vars(cls):
            break
    return _no_slot


def _no_slot() -> None:
    """A slot has to be waited for."""


def told(error: RateLimitError | ServerBusyError) -> RateLimit:
    """A refusal's numbers; a 503 has none."""
    if isinstance(error, RateLimitError):
        return RateLimit(error.limit, error.active, error.retry_after)
    return RateLimit(retry_after=error.retry_after)
