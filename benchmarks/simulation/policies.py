"""Ways to look at what runs: the learned plan, what others do, and an oracle that needs no looks at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any

from nanobanana_async._admission import AdmissionStatistics
from nanobanana_async._answers import GenerationRecord
from nanobanana_async._gate import Gate
from nanobanana_async._learned import LearnedPlan
from nanobanana_async._polling import PollPlan

from .server import HALF_TRIP, SimulatedApi

MOMENT = 1e-6  # seconds after the end: the oracle is as late as that


@dataclass(frozen=True)
class Policy:
    """A name for the table, and its plan, made anew for every run; None is the oracle."""

    name: str
    plan: Callable[[random.Random], Any] | None


@dataclass(frozen=True)
class FullJitter:
    """Exponential backoff as it is used for errors: anywhere between now and a bound that doubles up to `cap`."""

    uniform: Callable[[float, float], float]
    cap: float = 8.0

    def begin(self, key: object, now: float) -> UnlearningLooks:
        return UnlearningLooks(self._delays())

    def likely_length(self, key: object) -> float:
        return 14.0

    def _delays(self) -> Iterator[float]:
        bound = 1.0
        while True:
            yield self.uniform(0.0, bound)
            bound = min(self.cap, bound * 2)


class UnlearningLooks:
    """Looks of a plan that learns nothing."""

    def __init__(self, delays: Iterator[float]) -> None:
        self._delays = delays

    def at_once(self) -> float:
        return 0.0

    def next_delay(self, elapsed: float, *, least: float = 0.0) -> float:
        return max(least, next(self._delays))

    def processing(self, asked: float) -> None: ...
    def ended(self, asked: float) -> None: ...
    def refused(self, asked: float) -> None: ...
    def close(self) -> None: ...


class OracleWatch:
    """Knows when a generation ends: one look, which arrives at that moment."""

    def __init__(self, api: SimulatedApi) -> None:
        self._api = api

    async def until_end(self, generation_id: str, *, slot: OracleSlot, **_: Any) -> GenerationRecord | None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._api.ends[generation_id] + MOMENT - HALF_TRIP - now))
        async with slot.request():
            return (await self._api.look(generation_id)).value


class OracleLimiter:
    """Knows at every moment how many generations would be taken: `room` tells, `changes` are when it may change.

    `width` is how many requests may be open, where those are counted.
    """

    def __init__(self, room: Callable[[float], int], changes: Sequence[float], width: int | None) -> None:
        self.gate = Gate()
        self.gate.width = width
        self._room = room
        self._changes = changes
        self._held = 0
        self._freed = asyncio.Event()

    async def acquire(self, *, priority: float = 0) -> OracleSlot:
        loop = asyncio.get_running_loop()
        while self._held >= self._room(loop.time() + HALF_TRIP):
            self._freed.clear()
            arrival = loop.time() + HALF_TRIP
            later = min((at - arrival for at in self._changes if at > arrival), default=60.0)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), later + MOMENT)
        self._held += 1
        return OracleSlot(self)

    def free(self) -> None:
        self._held -= 1
        self._freed.set()

    def statistics(self) -> AdmissionStatistics:
        return AdmissionStatistics(self._held, 0, 0, None, 0, 0, 0.0)

    async def aclose(self) -> None: ...


class OracleSlot:
    """Tells of its release only."""

    running = False

    def __init__(self, limiter: OracleLimiter) -> None:
        self._limiter: OracleLimiter | None = limiter
        self._gate = limiter.gate

    def request(self, *, submission: bool = False) -> AbstractAsyncContextManager[None]:
        return self._gate.request(submission=submission)

    def accepted(self, rate_limit: object) -> None: ...
    def named(self, generation_id: str) -> None: ...
    def observed(self, rate_limit: object) -> None: ...
    def looked(self, rate_limit: object, *, running: bool) -> None: ...
    def look_refused(self, error: object) -> None: ...

    def release(self, *_: object) -> None:
        if self._limiter is not None:
            self._limiter.free()
        self._limiter = None

    refused = forsake = release


def learned(q: float = 0.2) -> Policy:
    return Policy(f"learned, q = {q:g}", lambda source: LearnedPlan(q=q, uniform=source.uniform))


def fixed(interval: float) -> Policy:
    return Policy(f"every {interval:g} s", lambda source: PollPlan.of(interval))


ORACLE = Policy("oracle", None)
VENDOR = Policy("vendor: 5 s, then 3 s", lambda source: PollPlan())
BACKOFF = Policy("full-jitter backoff", lambda source: FullJitter(source.uniform))
