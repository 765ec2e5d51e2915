"""Jobs that somebody waits for, beside a long batch: how many slots go to the batch before them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from nanobanana_async._client import BATCH_PRIORITY
from nanobanana_async._job import Job

from .drive import REQUEST, Stack
from .policies import learned
from .server import HALF_TRIP, Server
from .virtual import run
from .worlds import World, limits, usual

APART = 20  # slots that come free between two interactive jobs, on average
MOST_LOST = 1.1  # slots of the batch for each urgent job: its own, and the noise of the durations
COLUMNS = " " * 16 + "rows  urgent    passed p50   p99    wait p50       p99   slot free every   lost for each"
LENGTH = 13.0  # seconds that a slot is held, about

Visit: TypeAlias = tuple[int, int, float]  # slots given before it came, its own place among them, seconds waited


@dataclass(frozen=True)
class Waits:
    """One row: what interactive jobs waited for, and what they cost the batch."""

    limit: int
    rows: int  # of the batch
    interactive: int  # jobs that came while rows of it waited
    passed_over_p50: int  # slots that came free after it was submitted, and went to rows of the batch
    passed_over_p99: int
    wait_p50: float  # seconds until its submission went out
    wait_p99: float
    slot_interval: float  # seconds between two slots that come free
    slots_lost: float  # by the batch, for each interactive job

    def as_dict(self) -> dict[str, Any]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def told_waits(waits: Sequence[Waits]) -> str:
    """As a table."""
    lines = [COLUMNS]
    lines += (
        f"  limit {row.limit:<6}{row.rows:>6}{row.interactive:>8}{row.passed_over_p50:>14}{row.passed_over_p99:>6}"
        f"{row.wait_p50:>10.2f} s{row.wait_p99:>8.2f} s{row.slot_interval:>13.2f} s{row.slots_lost:>13.2f}"
        for row in waits
    )
    return "\n".join(lines)


def check_waits(waits: Sequence[Waits]) -> Iterator[str]:
    """What is missed of: an urgent job has the next free slot, and costs the batch no more than that."""
    for row in waits:
        if row.passed_over_p99 > 0 or row.slots_lost > MOST_LOST:
            yield (
                f"urgent jobs, limit {row.limit}: {row.passed_over_p99} slots passed over (p99), wanted 0; "
                f"{row.slots_lost:.2f} slots lost for each, wanted {MOST_LOST}"
            )


def interactive(limit: int, batch: int, seed: int) -> Waits:
    """The same batch with and without jobs that come at random. Beyond 1000 rows, the queue is full."""
    alone, _ = run(_main(limit, batch, seed, visited=False))
    seconds, told = run(_main(limit, batch, seed, visited=True))
    passed, waits = sorted(slots for slots, _ in told), sorted(wait for _, wait in told)
    return Waits(
        limit=limit,
        rows=batch,
        interactive=len(told),
        passed_over_p50=passed[len(passed) // 2],
        passed_over_p99=passed[int(len(passed) * 0.99)],
        wait_p50=waits[len(waits) // 2],
        wait_p99=waits[int(len(waits) * 0.99)],
        slot_interval=alone / batch,
        slots_lost=(seconds - alone) * batch / alone / len(told),
    )


async def _main(limit: int, batch: int, seed: int, *, visited: bool) -> tuple[float, list[tuple[int, float]]]:
    """When the batch's last row had begun; the slots passed over and the seconds waited of each visit."""
    source = random.Random(seed + 1)
    world = World(usual, limits((0, limit)), announces="always")
    stack = Stack(Server(world, seed), learned(), source, [])
    serving = asyncio.create_task(stack.scheduler.serve())
    rows = [Job(REQUEST, priority=BATCH_PRIORITY) for _ in range(batch)]
    feeding = asyncio.create_task(_feed(stack, rows))
    visits: list[asyncio.Task[Visit]] = []
    while not rows[-1].done():
        await asyncio.sleep(source.expovariate(limit / LENGTH / APART))
        if visited and stack.scheduler.statistics().queued:
            visits.append(asyncio.create_task(_visit(stack)))
    await stack.scheduler.idle()
    stack.scheduler.stop()
    await asyncio.wait((serving, feeding))
    places = {_place(row) for row in rows}
    told = [
        (sum(place in places for place in range(given, at)), wait)
        for given, at, wait in [await visit for visit in visits]
    ]
    return max(_began(stack, row) for row in rows), told


async def _feed(stack: Stack, rows: list[Job]) -> None:
    for row in rows:
        await stack.scheduler.enqueue(row)


async def _visit(stack: Stack) -> Visit:
    now, given = asyncio.get_running_loop().time(), _slots_given(stack)
    job = Job(REQUEST)
    await stack.scheduler.enqueue(job)
    await job.result()
    return given, _place(job), _began(stack, job) - now


def _place(job: Job) -> int:
    """Which one it was, of all that the server took."""
    assert job.generation_id is not None
    return int(job.generation_id)


def _slots_given(stack: Stack) -> int:
    """How many jobs have left the queue; the server counts them in the same order."""
    now = stack.scheduler.statistics()
    return now.submitting + now.running + now.downloading + now.completed


def _began(stack: Stack, job: Job) -> float:
    """When its submission was sent."""
    return stack.api.counts.spans[_place(job)][0] - HALF_TRIP
