"""What a job costs when there are many others: `python -m measuring.scaling waiting|running|journal ORIGIN NUMBER`.

One line of JSON: microseconds of processor a job, and what else grows with the number.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

from .jobbers import SteadyPlan
from .marathon import prompts
from .memory import held_megabytes
from .requesters import KEY, PROMPT

ENDED = 2000  # jobs that are measured
WARM = 500
LEAST = 300  # jobs, where few run at once
PRODUCERS = 16


async def waiting(origin: str, number: int) -> dict[str, float]:
    """So many wait all the time: for each that ends another one is queued."""
    from nanobanana_async import Client

    ended = 0
    at_end = asyncio.Event()

    async with Client(KEY, base_url=f"{origin}/api/v1", poll=SteadyPlan(), max_queued=number + 1000) as client:

        async def one() -> None:
            nonlocal ended
            job = await client.submit(PROMPT)
            job.add_done_callback(count)

        tasks = set()

        def count(_: object) -> None:
            nonlocal ended
            ended += 1
            if ended < WARM + ENDED:
                task = asyncio.get_running_loop().create_task(one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if ended in (WARM, WARM + ENDED):
                at_end.set()

        before, cpu = held_megabytes(), time.process_time()
        for _ in range(number + SLOTS):
            await one()
        queued, held = time.process_time() - cpu, held_megabytes() - before
        await at_end.wait()
        at_end.clear()
        cpu = time.process_time()
        await at_end.wait()
        cpu = time.process_time() - cpu
    each = 1 / (number + SLOTS)
    return {"cpu_us": cpu / ENDED * 1e6, "queue_us": queued * each * 1e6, "kb": held * 1024 * each}


SLOTS = 32


async def running(origin: str, number: int) -> dict[str, float]:
    """So many run all the time."""
    from nanobanana_async import Client

    measured = max(LEAST, min(ENDED, 10 * number), number)
    done, cpu = 0, 0.0
    async with (
        Client(KEY, base_url=f"{origin}/api/v1", poll=SteadyPlan()) as client,
        client.map(prompts(2 * number + measured), max_pending=2 * number) as outcomes,
    ):
        async for _ in outcomes:
            done += 1
            if done == number:  # they all run by now
                cpu = time.process_time()
            if done == number + measured:
                cpu = time.process_time() - cpu
                break
    return {"cpu_us": cpu / measured * 1e6}


async def journal(origin: str, number: int) -> dict[str, float]:
    """The four steps of a job in a journal of so many rows, each on disk before the next."""
    from nanobanana_async import GenerateRequest, Generation
    from nanobanana_async.batch._adding import rows_of
    from nanobanana_async.batch._journal import Journal

    assert GenerateRequest.of(PROMPT)  # built before it is measured
    with tempfile.TemporaryDirectory() as folder:
        async with Journal.open(Path(folder) / "batch") as book:
            cpu = time.process_time()
            await book.add_rows(rows_of(prompts(number)))
            added = time.process_time() - cpu
            rows = await book.take(min(number, ENDED))
            left = iter(rows)

            async def produce() -> None:
                for row in left:
                    name, url = f"clx{row.index:09}", f"https://example.com/{row.index}.png"
                    await book.intend(row.index, 1)
                    await book.accepted(row.index, name, 1, 1_000_000 - row.index)
                    made = Generation(id=name, prompt="", model="", image_urls=(url,))
                    await book.completed(row.index, made)
                    await book.stored(row.index, [f"images/{row.index}.png"])

            cpu = time.process_time()
            async with asyncio.TaskGroup() as group:
                for _ in range(PRODUCERS):
                    group.create_task(produce())
            cpu = time.process_time() - cpu
    return {"cpu_us": cpu / len(rows) * 1e6, "add_us": added / number * 1e6}


WHAT = {"waiting": waiting, "running": running, "journal": journal}


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # jobs that are left at the end run on, and are told of
    print(json.dumps(asyncio.run(WHAT[sys.argv[1]](sys.argv[2], int(sys.argv[3])))), flush=True)
