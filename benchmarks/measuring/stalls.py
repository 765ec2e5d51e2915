"""Thousands of generations at once in one process: `python -m measuring.stalls ORIGIN RUNNING SECONDS POLLS [few]`.

One line of JSON: how late a task that sleeps 5 ms came back, while the slots fill and once they are full; how many
looks there were a second, and what it took of the processor and of memory. `few` lets the garbage collector go through
all objects a hundred times more rarely.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Iterator
from urllib.request import ProxyHandler, build_opener

from .memory import held_megabytes
from .requesters import KEY

NAP = 0.005  # seconds
PATIENCE = 300.0  # seconds for the slots to fill


class Lateness:
    """How late the loop comes back to a task that sleeps, because its thread was at work meanwhile.

    What the thread waited for the processor, which others had, is left out: it would tell of them.
    """

    def __init__(self) -> None:
        self._late: list[float] = []

    async def watch(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, worked = loop.time() + NAP, time.thread_time()
            await asyncio.sleep(NAP)
            self._late.append(min(loop.time() - due, time.thread_time() - worked))

    def take(self) -> dict[str, float]:
        """Milliseconds since the last call: the median, the 99th of a hundred, the worst."""
        late, self._late = sorted(self._late), []
        return {name: 1000 * late[int(share * (len(late) - 1))] for name, share in SHARES.items()}


SHARES = {"p50": 0.5, "p99": 0.99, "most": 1.0}


def prompts() -> Iterator[str]:
    while True:
        yield "a lighthouse on a cliff at dusk, oil on canvas, long shadows"


async def main(origin: str, running: int, seconds: float, polls: float) -> dict[str, object]:
    from nanobanana_async import Client, LearnedPlan

    plan = LearnedPlan(max_polls_per_second=polls)
    async with Client(KEY, base_url=f"{origin}/api/v1", poll=plan) as client, asyncio.TaskGroup() as group:
        lateness = Lateness()
        before = held_megabytes()
        tasks = [group.create_task(lateness.watch())]
        began = time.perf_counter()
        tasks.append(group.create_task(work(client, running)))
        async with asyncio.timeout(PATIENCE):
            while client.statistics().running < running:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        took = time.perf_counter() - began
        filling = lateness.take()
        looks, cpu = await looks_so_far(origin), time.process_time()
        await asyncio.sleep(seconds)
        cpu = time.process_time() - cpu
        told = {
            "filling": filling | {"seconds": took},
            "full": lateness.take(),
            "running": client.statistics().running,
            "looks_a_second": (await looks_so_far(origin) - looks) / seconds,
            "cpu_share": cpu / seconds,
            "kb_each": (held_megabytes() - before) * 1024 / running,
        }
        for task in tasks:
            task.cancel()
    return told


async def work(client: object, running: int) -> None:
    async with client.map(prompts(), max_pending=2 * running) as outcomes:
        async for _ in outcomes:
            pass


async def looks_so_far(origin: str) -> int:
    """As the server has counted them."""
    answer = await asyncio.to_thread(build_opener(ProxyHandler({})).open, f"{origin}/world")
    return json.loads(answer.read())["looked"]


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # jobs that are left at the end run on, and are told of
    if "few" in sys.argv:
        gc.set_threshold(700, 10, 1000)
    count, *numbers = sys.argv[2:5]
    print(json.dumps(asyncio.run(main(sys.argv[1], int(count), *map(float, numbers)))), flush=True)
