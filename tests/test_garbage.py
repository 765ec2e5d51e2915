"""What ends is freed at once: whatever waits for the garbage collector makes its pauses longer."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest


@pytest.fixture
def uncollected():
    """No collection while the test runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def run(client, job, events):
    job.on_event = lambda event: events.append(f"{event.progress} of {job.id}")  # holds the job that holds it
    await client.enqueue(job)
    await job.result()
    return weakref.ref(job), weakref.ref(job.request)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("mode", ["async", "sync", "stream"])
async def test_an_ended_job_is_in_no_cycle(online, new_job, mode):
    """Not even with somebody who listens to its events and holds the job."""
    events = []
    async with online() as (_, client):
        left = await run(client, new_job(mode=mode), events)
        for _ in range(20):  # the tasks that ran it end in the turns of the loop after its result
            await asyncio.sleep(0)
        assert [reference() for reference in left] == [None, None]
    assert bool(events) == (mode == "stream")
