"""Runs the real scheduler, limiter, pipeline and watch against the simulated server, and counts."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast

from nanobanana_async import AccountLimiter, GenerateRequest, RetryPolicy
from nanobanana_async._job import Job
from nanobanana_async._pipeline import Pipeline
from nanobanana_async._polling import PollPlan
from nanobanana_async._scheduler import Scheduler
from nanobanana_async._watch import Watch

from .policies import ORACLE, VENDOR, OracleLimiter, OracleWatch, Policy
from .server import HALF_TRIP, Counts, Server, SimulatedApi, World
from .virtual import run

REQUEST = GenerateRequest(prompt="a lighthouse")
PATIENCE = 3600.0  # seconds that one generation may take here
MEAN_LENGTH = 12.76  # seconds, of the lognormal generations
TRIPS = 2 * HALF_TRIP  # an oracle's cycle beside the generation itself: its last answer, the next submission


@dataclass(frozen=True)
class Result:
    """One row of the table, over the time from the first submission taken to the last."""

    world: str
    policy: str
    jobs: int
    busy: float  # of the slots that were there for us, the share that ran a generation
    polls: float  # a job
    delay_p50: float
    delay_p99: float
    refusals: int
    jobs_an_hour: float
    of_oracle: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Change:
    """What followed a change of the limit."""

    limit: int
    busy: float  # of the slots, from three generation lengths after it to the next change
    first_filled: float  # seconds after it until nearly all slots ran something
    refusals: int

    def __str__(self) -> str:
        return f"{self.busy:.1%} busy, filled after {self.first_filled:.0f} s, {self.refusals} submissions refused"


class Stack:
    """A client without HTTP."""

    def __init__(self, server: Server, policy: Policy, source: random.Random, others: list[Counts]) -> None:
        loop = asyncio.get_running_loop()
        self.api = SimulatedApi(server)
        plan = (policy.plan or VENDOR.plan)(source)  # type: ignore[misc]  # the vendor has one
        watch: Any = Watch(cast("Any", self.api), plan, backoff=RetryPolicy().backoff, clock=loop.time)
        limiter: Any = AccountLimiter(clock=loop.time, uniform=source.uniform)
        if policy is ORACLE:
            watch = OracleWatch(self.api)
            width = server.world.limit(0.0) if server.world.scope == "request" else None
            limiter = OracleLimiter(lambda now: room(server.world, now, others), changes(server.world), width)
        pipeline = Pipeline(
            cast("Any", self.api),
            watch,
            cast("Any", None),
            plan=plan if plan is not None else PollPlan(),
            retry=RetryPolicy(),
            generation_timeout=PATIENCE,
        )
        self.scheduler = Scheduler(limiter, pipeline.run, max_queued=1000)

    async def feed(self, jobs: int) -> None:
        """Run so many jobs to their ends."""
        serving = asyncio.create_task(self.scheduler.serve())
        try:
            for _ in range(jobs):
                await self.scheduler.enqueue(Job(REQUEST))
            await self.scheduler.idle()
        finally:
            self.scheduler.stop()
            await serving


def room(world: World, now: float, others: list[Counts]) -> int:
    """How many generations of ours the server would run."""
    if world.stormy(now):
        return 0
    bounds = [world.limit(now)] if world.scope == "generation" else []
    bounds += [world.capacity] if world.capacity is not None else []
    theirs = sum(start <= now < end for counts in others for start, end in counts.spans[-600:])
    return min(bounds) - theirs


def changes(world: World) -> list[float]:
    return sorted({*(at for at, _ in world.limits), *(end for _, end in world.storms)})


async def _main(world: World, policy: Policy, jobs: int, seed: int, rival: tuple[int, float] | None) -> list[Counts]:
    server, source, others = Server(world, seed), random.Random(seed + 1), list[Counts]()
    ours = Stack(server, policy, source, others)
    if rival is None:
        await ours.feed(jobs)
        return [ours.api.counts]
    their_jobs, later = rival
    theirs = Stack(server, VENDOR, source, [])
    others.append(theirs.api.counts)

    async def compete() -> None:
        await asyncio.sleep(later)
        await theirs.feed(their_jobs)

    competing = asyncio.create_task(compete())
    await ours.feed(jobs)
    await competing
    return [ours.api.counts, theirs.api.counts]


def simulate(
    name: str, world: World, policy: Policy, jobs: int, seed: int, rival: tuple[int, float] | None = None
) -> tuple[Result, Counts]:
    """`rival` is another client of the account: how many jobs it has, and how many seconds later it comes."""
    random.seed(seed)
    ours, *others = run(_main(world, policy, jobs, seed, rival))
    return read(name, world, policy, ours, others), ours


def read(name: str, world: World, policy: Policy, ours: Counts, others: list[Counts]) -> Result:
    first, last = ours.spans[0][0], ours.spans[-1][0]
    used = overlap(ours, first, last)
    theirs = sum(overlap(counts, first, last) for counts in others)
    delays = sorted(ours.delays.values())
    return Result(
        world=name,
        policy=policy.name,
        jobs=len(ours.spans),
        busy=used / max(1e-9, slot_seconds(world, first, last) - theirs),
        polls=ours.polls / len(ours.spans),
        delay_p50=delays[len(delays) // 2],
        delay_p99=delays[int(len(delays) * 0.99)],
        refusals=sum(ours.refused.values()),
        jobs_an_hour=(len(ours.spans) - 1) / max(1e-9, last - first) * 3600,
    )


def overlap(counts: Counts, first: float, last: float) -> float:
    return sum(max(0.0, min(end, last) - max(start, first)) for start, end in counts.spans)


def slot_seconds(world: World, first: float, last: float) -> float:
    """The slots there were, added up over time; a storm's slots are not there."""
    edges = sorted({first, last, *(at for row in (*world.limits, *world.storms) for at in row if first < at < last)})
    return sum((end - start) * max(0, room(world, start, [])) for start, end in pairwise(edges))


def efficiency(counts: Counts, block: int, first: int, last: int, parity: int) -> float:
    """Of the oracle's throughput, in the jobs `first` to `last` of every block of that parity."""
    cycles = late = 0.0
    for number, (start, end) in enumerate(counts.spans):
        if number // block % 2 == parity and number >= block and first <= number % block < last:
            cycles += end - start + TRIPS
            late += counts.delays[number]
    return cycles / (cycles + late)


def pure(plan: Any, length: Any, jobs: int, seed: int) -> tuple[float, float]:
    """Looks and delay of a job, from the plan alone: no round trips, one job after the other."""
    source, now, looked, late = random.Random(seed), 0.0, 0, 0.0
    for number in range(jobs):
        end, elapsed, looks = length(source, number), 0.0, plan.begin(("m",), now)
        while True:
            elapsed += looks.next_delay(elapsed)
            looked += 1
            if elapsed >= end:
                break
            looks.processing(elapsed)
        looks.ended(elapsed)
        now += elapsed
        late += elapsed - end
    return looked / jobs, late / jobs


def after_change(world: World, counts: Counts, at: float, until: float) -> Change:
    """How the limit that came at `at` was used up to `until`."""
    limit, settled = world.limit(at), at + 3 * MEAN_LENGTH
    full = (start for start, _ in counts.spans if start >= at and running(counts, start) >= max(1, 0.9 * limit))
    return Change(
        limit=limit,
        busy=overlap(counts, settled, until) / (limit * (until - settled)),
        first_filled=min(full, default=until) - at,
        refusals=sum(at <= moment < until for moment in counts.refused_at),
    )


def running(counts: Counts, now: float) -> int:
    return sum(start <= now < end for start, end in counts.spans)
