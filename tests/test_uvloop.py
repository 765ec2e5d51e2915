"""The whole on uvloop, whose handles and callbacks are not quite asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE

from nanobanana_async import AccountLimiter, Backoff, Client, RateLimit, RetryPolicy
from nanobanana_async.batch import BatchRunner
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

uvloop = pytest.importorskip("uvloop")

REFUSED = {
    "limit": 8,
    "duration": 0.01,
    "credits": 10_000,
    "retry_after": None,
    "image_size": 48,
    "image_format": "png",
}
IN_A_HURRY = {"poll": 0.002, "retry": RetryPolicy(backoff=Backoff(initial_delay=0.01, max_delay=0.05))}


def run(work: Coroutine[Any, Any, None]) -> None:
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(work, PATIENCE))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def refusing() -> Emulator:
    return Emulator(**REFUSED, faults=FaultPlan(Fault("submit", "refuse", rate=0.3), seed=3))


def client_of(emulator: Emulator) -> Client:
    return Client("nb_test", base_url=emulator.url, limiter=AccountLimiter(uniform=lambda *_: 0.003), **IN_A_HURRY)


def test_an_alarm_that_rings_at_once_can_be_set_anew() -> None:
    """For a moment less than half a millisecond away, `call_at` gives a handle that does not know when it is."""
    now = 100.0

    async def work() -> None:
        nonlocal now
        limiter = AccountLimiter(scope="generation", max_concurrency=3, clock=lambda: now)
        first, second, third = (await limiter.acquire(), limiter.try_acquire(), limiter.try_acquire())
        if second is None or third is None:  # one at a time until the limit is told
            first.accepted(RateLimit(limit=3))
            second, third = await limiter.acquire(), await limiter.acquire()
        second.forsake(1.0)
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        now += 0.9997
        first.observed(RateLimit(limit=3))
        third.accepted(RateLimit(limit=3))
        now += 0.001
        (await asyncio.wait_for(waiting, PATIENCE)).release()

    run(work())


def test_jobs_with_refusals() -> None:
    """Each is charged once, and ends well."""

    async def work() -> None:
        async with refusing() as emulator, client_of(emulator) as client:
            jobs = [await client.submit(f"cat {number}") for number in range(300)]
            await asyncio.gather(*(job.result() for job in jobs))
            assert emulator.ledger.charges == 300

    run(work())


def test_a_batch_with_refusals(tmp_path: Path) -> None:
    """The same through journal and files."""

    async def work() -> None:
        async with (
            refusing() as emulator,
            client_of(emulator) as client,
            BatchRunner(client, tmp_path) as runner,
        ):
            await runner.add(f"cat {number}" for number in range(100))
            assert (await runner.run()).all_stored
            assert emulator.ledger.charges == 100

    run(work())
