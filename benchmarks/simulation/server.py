"""The simulated service: what it takes, refuses, charges a slot for, and when each generation ends."""

from __future__ import annotations

import asyncio
import heapq
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from nanobanana_async._answers import GenerationRecord, Submission
from nanobanana_async._api import Reply
from nanobanana_async._exceptions import RateLimitError, ServerBusyError
from nanobanana_async._wire import RateLimit

Announces: TypeAlias = Literal["always", "refusals", "never"]  # where the limit is told
Length = Callable[[random.Random, int], float]  # seconds that the generation of a given number takes

HALF_TRIP = 0.1  # seconds from here to the server, and back again
RUNNING: Reply[GenerationRecord | None] = Reply(None, RateLimit())
ENDED: Reply[GenerationRecord | None] = Reply(
    GenerationRecord(processing_status="completed", image_urls=("https://cdn/1.png",)), RateLimit()
)


@dataclass(frozen=True)
class World:
    """What the server does over time. `limits` are (from when, how many)."""

    length: Length
    limits: Sequence[tuple[float, int]] = ((0.0, 10),)
    scope: Literal["generation", "request"] = "generation"
    capacity: int | None = None  # generations that the whole server runs before it answers 503
    storms: Sequence[tuple[float, float]] = ()  # from, to: every submission meets 503
    announces: Announces = "refusals"

    def limit(self, now: float) -> int:
        return self.limits[bisect_right(self.limits, now, key=lambda row: row[0]) - 1][1]

    def stormy(self, now: float) -> bool:
        return any(start <= now < end for start, end in self.storms)


@dataclass
class Counts:
    """What one client did here. A delay is from a generation's end to the look that finds it."""

    polls: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    refused_at: list[float] = field(default_factory=list)  # submissions
    spans: list[tuple[float, float]] = field(default_factory=list)  # of each generation, from its begin to its end
    delays: dict[int, float] = field(default_factory=dict)  # by generation, in the order of `spans`


class Server:
    """One account's generations. Clients reach it through `api`."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self._random = random.Random(seed)
        self._active: list[float] = []
        self._open_requests = 0
        self._number = 0

    def active(self, now: float) -> int:
        while self._active and self._active[0] <= now:
            heapq.heappop(self._active)
        return len(self._active)

    def start(self, now: float, counts: Counts) -> float:
        """Begin a generation; when it will end. Raises: what the service would answer."""
        refusal = self._refusal(now)
        if refusal is not None:
            counts.refused[refusal.status_code] += 1
            counts.refused_at.append(now)
            raise refusal
        end = now + self.world.length(self._random, self._number)
        self._number += 1
        heapq.heappush(self._active, end)
        counts.spans.append((now, end))
        return end

    def headers(self, now: float) -> RateLimit:
        return RateLimit(limit=self.world.limit(now)) if self.world.announces == "always" else RateLimit()

    def enter(self, now: float, counts: Counts) -> None:
        """A request arrives; in request scope it needs a slot of its own."""
        if self.world.scope == "request" and self._open_requests >= self.world.limit(now):
            counts.refused[429] += 1
            raise self._too_many(now, self._open_requests)
        self._open_requests += 1

    def leave(self) -> None:
        self._open_requests -= 1

    def _refusal(self, now: float) -> RateLimitError | ServerBusyError | None:
        active, limit = self.active(now), self.world.limit(now)
        if self.world.scope == "generation" and active >= limit:
            return self._too_many(now, active)
        if self.world.stormy(now) or (self.world.capacity is not None and active >= self.world.capacity):
            return ServerBusyError("busy", active_tasks=active)
        return None

    def _too_many(self, now: float, active: int) -> RateLimitError:
        if self.world.announces == "never":
            return RateLimitError("too many")
        return RateLimitError("too many", limit=self.world.limit(now), active=active, retry_after=1.0)


class SimulatedApi:
    """The part of Api that a pipeline in async mode uses, for one client."""

    def __init__(self, server: Server) -> None:
        self.counts = Counts()
        self.ends: dict[str, float] = {}  # of the generations whose end has not been seen
        self._server = server

    async def submit(self, body: bytes, *, blocking: bool = False) -> Reply[Submission]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(HALF_TRIP)
        self._server.enter(loop.time(), self.counts)
        try:
            name = str(len(self.counts.spans))
            self.ends[name] = self._server.start(loop.time(), self.counts)
            await asyncio.sleep(HALF_TRIP)
        finally:
            self._server.leave()
        return Reply(
            Submission(generation_id=name, answered_async=True, credits_used=1), self._server.headers(loop.time())
        )

    async def look(self, generation_id: str) -> Reply[GenerationRecord | None]:
        loop = asyncio.get_running_loop()
        self.counts.polls += 1
        if self._server.world.scope == "generation":  # nothing but time decides this answer: one step less to simulate
            arrival = loop.time() + HALF_TRIP
            await asyncio.sleep(2 * HALF_TRIP)
            return self._look(generation_id, arrival)
        await asyncio.sleep(HALF_TRIP)
        self._server.enter(loop.time(), self.counts)
        try:
            await asyncio.sleep(HALF_TRIP)
            return self._look(generation_id, loop.time() - HALF_TRIP)
        finally:
            self._server.leave()

    def _look(self, generation_id: str, arrival: float) -> Reply[GenerationRecord | None]:
        end = self.ends[generation_id]
        if arrival < end:
            return RUNNING
        del self.ends[generation_id]
        self.counts.delays[int(generation_id)] = arrival - end
        return ENDED
