"""A great many jobs in one process: `python -m measuring.marathon map|batch ORIGIN JOBS`. A line of JSON a sample.

A sample is taken after every so many jobs: how many are done, the seconds of processor and clock so far, the memory
held at this moment, and what a fixed piece of work takes, which tells how fast the machine is just now.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from .jobbers import SteadyPlan
from .memory import held_megabytes, peak_megabytes
from .requesters import KEY

FIRST = 10_000  # jobs after which memory is expected to stand still
SAMPLES = 100
GLANCE = 0.02  # seconds between two looks at the count
YARD = range(60_000)


class Sampler:
    """Takes a sample whenever `done` has passed the next mark. What it takes itself is left out."""

    def __init__(self, jobs: int, done: Callable[[], int]) -> None:
        self._step = min(FIRST, max(1, jobs // SAMPLES))
        self._done = done
        self._began = time.perf_counter()
        self._cpu = time.process_time()

    async def watch(self) -> None:
        """Until cancelled."""
        mark = self._step
        while True:
            await asyncio.sleep(GLANCE)
            if self._done() >= mark:
                self.take()
                mark = (self._done() // self._step + 1) * self._step

    def take(self, **more: float) -> None:
        """Tell how it stands."""
        told = {
            "jobs": self._done(),
            "at": time.time(),
            "cpu": time.process_time() - self._cpu,
            "wall": time.perf_counter() - self._began,
            "held_mb": held_megabytes(),
            "peak_mb": peak_megabytes(),
        }
        before = time.process_time()
        yard = yardstick()
        self._cpu += time.process_time() - before
        print(json.dumps(told | {"yard": yard} | more), flush=True)


def yardstick() -> float:
    """Seconds of processor that a fixed piece of work takes now."""
    began, book = time.thread_time(), {}
    for number in YARD:
        book[number & 1023] = str(number)
    return time.thread_time() - began


@asynccontextmanager
async def sampling(jobs: int, done: Callable[[], int]) -> AsyncIterator[None]:
    sampler = Sampler(jobs, done)
    task = asyncio.create_task(sampler.watch())
    try:
        yield
    finally:
        task.cancel()
        sampler.take(ended=1)


def prompts(count: int) -> Iterator[str]:
    return (f"A lighthouse number {number} on a cliff at dusk, oil on canvas, long shadows" for number in range(count))


async def by_map(origin: str, jobs: int) -> None:
    """Outcomes are counted and thrown away; `map` downloads nothing."""
    from nanobanana_async import Client

    done = 0
    async with (
        Client(KEY, base_url=f"{origin}/api/v1", poll=SteadyPlan()) as client,
        sampling(jobs, lambda: done),
        client.map(prompts(jobs)) as outcomes,
    ):
        async for outcome in outcomes:
            assert outcome.generation is not None, outcome
            done += 1


async def by_batch(origin: str, jobs: int) -> None:
    """Into a folder that is thrown away, TMPDIR says where: a file a job, the journal, manifest and gallery."""
    from nanobanana_async import Client
    from nanobanana_async.batch import BatchRunner

    with tempfile.TemporaryDirectory(prefix="marathon-") as folder:
        async with (
            Client(KEY, base_url=f"{origin}/api/v1", poll=SteadyPlan()) as client,
            BatchRunner(client, Path(folder) / "batch") as runner,
        ):
            await runner.add(prompts(jobs))
            async with sampling(jobs, lambda: runner.progress().stored):
                summary = await runner.run()
            assert runner.progress().stored == jobs, summary


WAYS = {"map": by_map, "batch": by_batch}


if __name__ == "__main__":
    asyncio.run(WAYS[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
