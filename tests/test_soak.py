"""Two thousand random cancellations, from a seed: nothing leaks."""

import asyncio
import gc
import random
from contextlib import suppress

import anyio
import pytest

from nanobanana_async import Job, NanoBananaError
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")

CANCELLATIONS = 2_000
AT_ONCE = 40


async def generating(client, chance, done, folder):
    await client.generate("a cat", mode=chance.choice(["async", "sync", "stream"]), priority=chance.random())


async def streaming(client, chance, done, folder):
    async with client.stream("a cat") as events:
        async for _ in events:
            pass


async def mapping(client, chance, done, folder):
    async with client.map(["a cat", " ", "[fail]"]) as outcomes:
        async for _ in outcomes:
            pass


async def downloading(client, chance, done, folder):
    await client.download(done, folder, stem=f"{chance.random()}")


async def waiting(client, chance, done, folder):
    job = await client.submit("a cat")
    with suppress(NanoBananaError):
        await job.result()
        await client.wait(job.generation_id)
    job.cancel()


WORKS = [generating, streaming, mapping, downloading, waiting]


async def cancel_one(client, chance, done, folder):
    """Start something, and cancel it a random moment later, in one of the two ways there are."""
    work = chance.choice(WORKS)(client, chance, done, folder)
    patience = chance.choice([0, 0.001, chance.uniform(0, 0.15)])
    if chance.random() < 0.5:
        with anyio.move_on_after(patience):
            await work
    else:
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=patience)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_random_cancellations_leak_nothing(online, tmp_path):
    """Tasks, slots, jobs, descriptors, files: all back to where they were, and never a slot too many taken."""
    chance = random.Random(20)
    plan = FaultPlan(Fault("poll", "error_500", rate=0.05), Fault("stream", "truncate", rate=0.1))
    left = iter(range(CANCELLATIONS))

    async def keep_cancelling(*given):
        for _ in left:
            await cancel_one(*given, tmp_path)

    async with online(limit=25, duration=0.004, credits=10_000, faults=plan) as (emulator, client):
        done = await client.generate("tells the limit", quantity=3)
        await asyncio.gather(*(keep_cancelling(client, chance, done) for _ in range(AT_ONCE)))
        await client.idle()
        await emulator.until(lambda: emulator.ledger.active == emulator.ledger.open_requests == 0)
        now = client.statistics()
        assert (now.queued, now.submitting, now.running, now.downloading, now.abandoned) == (0, 0, 0, 0, 0)
        assert now.credits_used == emulator.ledger.credits_charged > 200  # about 700, and fewer on a busy machine
        assert emulator.ledger.refusals == {}
        assert {path.suffix for path in tmp_path.rglob("*")} <= {".png"}  # none, where all were too slow
        gc.collect()
        assert [thing for thing in gc.get_objects() if isinstance(thing, Job)] == []
