"""Slots in Redis: it may be away, hang, or have forgotten everything; a cluster takes its keys."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from contextlib import suppress
from typing import Any

import pytest
from patience import PATIENCE
from servers import RedisServer

from nanobanana_async import ConfigurationError, RateLimit
from nanobanana_async.integrations._redis_store import RedisStore
from nanobanana_async.integrations.redis import RedisLimiter

pytestmark = pytest.mark.usefixtures("leaks_nothing")


@pytest.fixture
def own_redis(running_redis: RedisServer):
    """A server that a test may stop."""
    with RedisServer() as server:
        yield server


def port_of_a_node() -> int:
    """A free one; 10,000 above it the nodes of a cluster talk, though this one is alone."""
    for port in random.sample(range(20_000, 50_000), 100):
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port
    raise OSError("no free port")


async def run_some(limiter: RedisLimiter, count: int, limit: int) -> list[Any]:
    slots = []
    for _ in range(count):
        slots.append(await asyncio.wait_for(limiter.acquire(), PATIENCE))
        slots[-1].accepted(RateLimit(limit=limit))
    return slots


def turns_of(server: RedisServer) -> Any:
    """How many turns were taken, of all processes."""
    stats: Any = server.run("INFO", "commandstats")
    return stats.get("cmdstat_evalsha")


async def told(limiter: RedisLimiter) -> None:
    """Until it has told what it had to tell."""
    for _ in range(2):
        turn = limiter._changed
        limiter._keeper.poke()
        await asyncio.wait_for(turn.wait(), PATIENCE)


async def test_a_url_that_cannot_be_read_is_told() -> None:
    """At once."""
    with pytest.raises(ConfigurationError, match="Redis URL"):
        RedisLimiter("localhost", account="mine")


async def test_keys_of_an_account_lie_on_one_node_of_a_cluster(running_redis: RedisServer) -> None:
    """A server that checks it runs the script."""
    with RedisServer("--cluster-enabled", "yes", "--bind", "127.0.0.1", "--port", str(port_of_a_node())) as node:
        node.run("CLUSTER", "ADDSLOTS", *map(str, range(16384)))
        async with RedisLimiter(node.url, account="mine") as one, RedisLimiter(node.url, account="mine") as two:
            (slot,) = await run_some(one, 1, 1)
            waiting = asyncio.create_task(two.acquire())
            await told(two)
            slot.release()
            await asyncio.wait_for(waiting, PATIENCE)


async def test_nothing_that_is_written_is_kept_for_ever(redis_server: RedisServer) -> None:
    """An account that nobody uses any more disappears."""
    async with (
        RedisLimiter(redis_server.url, account="mine") as one,
        RedisLimiter(redis_server.url, account="mine") as two,
    ):
        (slot,) = await run_some(one, 1, 1)
        waiting = asyncio.create_task(two.acquire())
        await told(two)
        slot.release()
        await asyncio.wait_for(waiting, PATIENCE)
    keys: Any = redis_server.run("KEYS", "*")
    assert keys
    assert all(0 < redis_server.run("TTL", key) <= 86_400 for key in keys)  # type: ignore[operator]


async def test_while_it_is_away_nothing_is_handed_out_and_nothing_is_lost(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes back empty, and learns from those who live what they hold."""
    caplog.set_level(logging.WARNING, "nanobanana_async")
    url = own_redis.url
    async with RedisLimiter(url, account="mine") as one, RedisLimiter(url, account="mine") as two:
        slots = await run_some(one, 2, 3)
        await run_some(two, 1, 3)
        await told(one)
        own_redis.stop()
        slots[0].release()
        waiting = [asyncio.create_task(limiter.acquire()) for limiter in (one, two)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        own_redis.start()
        done, late = await asyncio.wait(waiting, timeout=PATIENCE, return_when="FIRST_COMPLETED")
        await told(one)
        await told(two)
        assert (len(done), len(late)) == (1, 1)
        assert one.statistics().limit == two.statistics().limit == 3
        slots[1].release()
        await asyncio.wait_for(late.pop(), PATIENCE)
    assert sum("can't be reached" in record.message for record in caplog.records) == 2
    assert all(record.levelno <= logging.WARNING for record in caplog.records)


async def test_a_server_that_is_away_at_the_start_is_waited_for(own_redis: RedisServer) -> None:
    """An application may start before it."""
    own_redis.stop()
    async with RedisLimiter(own_redis.url, account="mine") as limiter:
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0.1)
        own_redis.start()
        await asyncio.wait_for(waiting, PATIENCE)


async def test_a_server_that_hangs_counts_as_away(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that takes too long is an answer that was lost."""
    monkeypatch.setattr("nanobanana_async.integrations._redis_store.ANSWER_SECONDS", 0.2)
    async with RedisLimiter(own_redis.url, account="mine") as limiter:
        (slot,) = await run_some(limiter, 1, 1)
        await told(limiter)
        own_redis.freeze()
        slot.release()
        waiting = asyncio.create_task(limiter.acquire())
        async with asyncio.timeout(PATIENCE):
            while not limiter._keeper.away:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
        own_redis.thaw()
        await asyncio.wait_for(waiting, PATIENCE)
        assert limiter.statistics().limit == 1


async def test_a_late_answer_sets_no_clock_back(redis_server: RedisServer) -> None:
    """Redis's clock is read from its answers; a busy process that reads one late lets nothing count for less."""
    url, late, forsaken = redis_server.url, 0.3, 0.4
    async with RedisLimiter(url, account="mine") as busy, RedisLimiter(url, account="mine") as other:
        (slot,) = await run_some(busy, 1, 1)
        await told(other)
        turn, turns = busy._changed, turns_of(redis_server)
        busy._keeper.poke()
        while turns_of(redis_server) == turns:  # noqa: ASYNC110  # it is on its way, and answered
            await asyncio.sleep(0)
        time.sleep(late)  # noqa: ASYNC251  # all is late
        await asyncio.wait_for(turn.wait(), PATIENCE)
        began = asyncio.get_running_loop().time()
        slot.forsake(forsaken)
        await run_some(other, 1, 1)
        assert asyncio.get_running_loop().time() - began >= forsaken


async def test_closing_does_not_wait_for_a_server_that_is_away(own_redis: RedisServer) -> None:
    """It finds out by itself that we are gone."""
    limiter = RedisLimiter(own_redis.url, account="mine")
    await run_some(limiter, 1, 1)
    await told(limiter)
    own_redis.stop()
    await asyncio.wait_for(limiter.aclose(), PATIENCE)


async def test_a_forgotten_book_is_written_anew_at_once(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that live are called, and the next slot is handed out when all have spoken."""
    monkeypatch.setattr(RedisStore, "look_interval", 3600.0)  # nobody looks by itself
    options = {"account": "mine", "lease_seconds": 3600.0}
    async with RedisLimiter(redis_server.url, **options) as one, RedisLimiter(redis_server.url, **options) as two:
        await run_some(one, 2, 4)
        await run_some(two, 1, 4)
        await told(one)
        redis_server.run("FLUSHALL")
        await run_some(one, 1, 4)
        waiting = asyncio.create_task(one.acquire())
        await told(one)
        await told(two)
        assert not waiting.done()
        assert one.statistics().others == 1
