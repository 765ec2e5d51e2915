"""A contender's process: `python -m measuring.contender NAME ORIGIN`. Reads one line of JSON a turn, answers one."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib import import_module

Once = Callable[[], Awaitable[object]]


async def main(name: str, origin: str) -> None:
    """Say what is missing, if anything; then do as told until the input ends."""
    module, _, contender = name.partition(":")
    async with AsyncExitStack() as stack:
        try:
            offered = await stack.enter_async_context(
                import_module(f"measuring.{module}").CONTENDERS[contender](origin)
            )
        except ModuleNotFoundError as error:
            answer({"missing": error.name})
            return
        answer({"missing": None})
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            work = json.loads(line)
            once = offered[work.pop("what")]
            answer(await turn(once, **work))


async def turn(once: Once, *, count: int, at_once: int) -> dict[str, float]:
    """Do something `count` times, some at once. CPU microseconds each, of all threads, and seconds of the whole."""
    await burst(once, min(count, 2 * at_once), at_once)  # connections, caches
    gc.collect()
    started, cpu = time.perf_counter(), time.process_time()
    await burst(once, count, at_once)
    return {"cpu": (time.process_time() - cpu) / count * 1e6, "wall": time.perf_counter() - started}


async def burst(once: Once, count: int, at_once: int) -> None:
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await once()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


def answer(told: dict[str, object]) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
