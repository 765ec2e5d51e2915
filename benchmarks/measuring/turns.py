"""A turn: something done many times over, some at once, and what it took of the processor."""

from __future__ import annotations

import asyncio
import gc
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


async def turn(many: Many, *, count: int, at_once: int, warm: int = 2) -> dict[str, float]:
    """CPU microseconds of each, of all threads, and seconds of the whole; after `warm` for each of those at once."""
    await many.run(min(count, warm * at_once), at_once)  # connections, caches, what there is to learn
    gc.collect()
    started, cpu = time.perf_counter(), time.process_time()
    await many.run(count, at_once)
    return {"cpu": (time.process_time() - cpu) / count * 1e6, "wall": time.perf_counter() - started}
