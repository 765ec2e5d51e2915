"""A turn: something done many times over, some at once, and what it took of the processor."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Awaitable, Callable

Once = Callable[[], Awaitable[object]]


class Many:
    """Something to be done many times over, some at once."""

    def __init__(self, once: Once) -> None:
        self._once = once

    async def run(self, count: int, at_once: int) -> None:
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await self._once()

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def clear(self) -> None:
        """After a turn, not measured."""


async def turn(many: Many, *, count: int, at_once: int, warm: int = 2) -> dict[str, float]:
    """CPU microseconds of each, of all threads and children; seconds of the whole; peak memory so far in MB.

    Before it `warm` for each of those at once: connections, caches, what there is to learn.
    """
    if warm:
        await many.run(min(count, warm * at_once), at_once)
        await many.clear()
    gc.collect()
    started, cpu = time.perf_counter(), cpu_seconds()
    await many.run(count, at_once)
    wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    await many.clear()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": cpu / count * 1e6, "wall": wall, "peak": peak}


def cpu_seconds() -> float:
    """Of all threads, and of children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
