"""Redis that goes away in the middle: nothing is submitted meanwhile, and nothing that is paid is forgotten."""

from __future__ import annotations

import asyncio
import gc

import pytest
from draining import HURRY, KEY, coordinated
from patience import PATIENCE
from redis.asyncio import Redis
from servers import RedisServer

from nanobanana_async import Client
from nanobanana_async.emulator import Emulator
from nanobanana_async.integrations._account import account_id
from nanobanana_async.integrations.distributed import Terms, Worker
from nanobanana_async.integrations.taskiq import redis_broker, serve

SERVICE = {"limit": 6, "duration": 0.2, "image_size": 48, "image_format": "png", "credits": 1000}
TERMS = Terms(lease_seconds=2.0, answer_timeout=0.5, patience=HURRY)


@pytest.fixture
def own_redis():
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


async def test_a_redis_that_is_restarted_is_waited_for(own_redis, tmp_path):
    """With its append-only file it comes back as it was; what ran meanwhile is told then."""
    async with (
        Emulator(**SERVICE) as emulator,
        Client(KEY, base_url=emulator.url, poll=0.02) as client,
        Worker(client, own_redis.url, account=account_id(KEY, emulator.url), terms=TERMS) as worker,
        coordinated(own_redis.url, emulator.url, tmp_path) as batch,
    ):
        serving = asyncio.create_task(serve(worker, own_redis.url))
        await batch.add(f"cat {number}" for number in range(40))
        running = asyncio.create_task(batch.run())
        await emulator.ledger.until(lambda: emulator.ledger.credits_charged >= 10)
        charged = emulator.ledger.credits_charged
        own_redis.stop()
        await asyncio.wait((running,), timeout=1.5)
        assert emulator.ledger.credits_charged <= charged + 1  # the one that was on its way
        await asyncio.to_thread(own_redis.start)
        summary = await running
        worker.stop()
        await serving
    assert summary.all_stored
    assert emulator.ledger.credits_charged == 40


async def test_a_redis_that_is_flushed_in_the_middle_is_filled_again(redis_server, tmp_path):
    """Workers tell again what they told, the balance says that there is nothing else, and the run goes on."""
    async with (
        Emulator(**SERVICE) as emulator,
        Client(KEY, base_url=emulator.url, poll=0.02) as client,
        Worker(client, redis_server.url, account=account_id(KEY, emulator.url), terms=TERMS) as worker,
        coordinated(redis_server.url, emulator.url, tmp_path, answer_timeout=5.0) as batch,
    ):
        serving = asyncio.create_task(serve(worker, redis_server.url))
        await batch.add(f"cat {number}" for number in range(40))
        running = asyncio.create_task(batch.run())
        await emulator.ledger.until(lambda: emulator.ledger.credits_charged >= 15)
        redis_server.run("FLUSHALL")
        summary = await running
        worker.stop()
        await serving
    assert summary.all_stored, summary.stopped_by
    assert emulator.ledger.credits_charged == summary.credits_used == 40
    assert emulator.ledger.peak_active <= SERVICE["limit"]


async def test_a_worker_leaves_though_a_cancellation_is_swallowed(redis_server, monkeypatch):
    """redis-py does that now and then; taskiq cancels once, and would wait for ever."""
    read, reading, swallowed = Redis.xreadgroup, asyncio.Event(), asyncio.Event()

    async def deaf(self, *arguments, **options):
        reading.set()
        try:
            return await read(self, *arguments, **options)
        except asyncio.CancelledError:
            if swallowed.is_set():
                raise
            swallowed.set()
            return []

    monkeypatch.setattr(Redis, "xreadgroup", deaf)
    url = redis_server.url
    async with (
        asyncio.timeout(PATIENCE),
        Client(KEY, base_url="http://127.0.0.1:9") as client,
        Worker(client, url, account="mine", terms=TERMS) as worker,
    ):
        serving = asyncio.create_task(serve(worker, url))
        await reading.wait()
        worker.stop()
        await serving
    assert swallowed.is_set()


async def test_a_reading_that_fails_while_it_ends_is_told_to_nobody(redis_server, monkeypatch):
    """Nobody waits for it any more, and asyncio would tell of it on stderr."""
    reading, told = asyncio.Event(), []

    async def failing(self, *arguments, **options):
        reading.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("gone") from None

    async def listen(broker):
        async for _ in broker.listen():
            pass

    monkeypatch.setattr(Redis, "xreadgroup", failing)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    broker = redis_broker(redis_server.url, "mine")
    await broker.startup()
    listening = asyncio.create_task(listen(broker))
    await reading.wait()
    listening.cancel()
    await asyncio.wait((listening,))
    assert listening.cancelled()
    del listening
    gc.collect()
    assert told == []
    await broker.shutdown()
