"""`retry_failed` looks before it pays: a generation that is known may have ended well by now."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from patience import PATIENCE
from running import KEY, Events, Relay, manifest, run, runner, statuses
from watched import Watched

from nanobanana_async import Backoff, Client, RetryPolicy
from nanobanana_async.batch import JobState, _second_look
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")

RETRY = RetryPolicy(max_attempts=2, backoff=Backoff(initial_delay=0.01, max_delay=0.02))


def failing(times):
    """So many generations end as failed: charged, and their ids are known."""
    return FaultPlan(Fault("submit", "fail_generation", times=times))


def entry_of(emulator, number):
    """The first generation of a row."""
    return next(entry for entry in emulator.ledger.charged() if entry.prompt == f"cat {number}")


def comes_late(entry, state="completed"):
    """The service has it after all."""
    entry.state, entry.error = state, None


def posts(emulator):
    return emulator.ledger.requests["POST /generate"]


def told(folder):
    return sum(row.credits or 0 for row in manifest(folder))


async def fail(client, folder, rows):
    """A run whose generations fail, all of them."""
    await run(client, folder, rows)
    assert statuses(folder) == {"failed": rows}


@asynccontextmanager
async def under_way(batch):
    """The batch's run, for some seconds at most."""
    running = asyncio.create_task(batch.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_images_that_came_late_are_fetched_and_not_paid_again(online, tmp_path):
    """The row is stored, with the id and the credits of the attempt that was paid."""
    async with online(limit=2, faults=failing(3)) as (emulator, client):
        await fail(client, tmp_path, 3)
        comes_late(entry_of(emulator, 1))
        summary = await run(client, tmp_path, retry_failed=True)
        assert summary.all_stored
        assert summary.credits_used == 2
        assert sorted(emulator.ledger.charged_prompts()) == ["cat 0", "cat 0", "cat 1", "cat 2", "cat 2"]
        assert told(tmp_path) == emulator.ledger.credits_charged == 5
        row = manifest(tmp_path)[1]
        assert (row.generation_id, row.credits, row.error) == (entry_of(emulator, 1).generation_id, 1, None)
        assert (tmp_path / row.files[0]).stat().st_size


async def test_what_still_runs_is_watched_on(online, tmp_path):
    """The service calls it processing: it is waited for, and no POST goes out."""
    async with online(faults=failing(1)) as (emulator, client), runner(client, tmp_path, retry_failed=True) as batch:
        await batch.add(["cat 0"])
        await batch.run()
        entry = entry_of(emulator, 0)
        comes_late(entry, "processing")
        looks = entry.polls
        async with under_way(batch) as running:
            while entry.polls < looks + 3 and not running.done():
                await asyncio.wait((running,), timeout=0.01)
            [row] = await batch._journal.unfinished(JobState.RUNNING, limit=9)
            assert row.generation_id == entry.generation_id
            comes_late(entry)
            assert (await running).all_stored
        assert (posts(emulator), told(tmp_path)) == (1, 1)


@pytest.mark.parametrize("end", ["failed", "not found", "no image", "old links", "links gone"])
async def test_what_has_no_images_is_sent_again(online, tmp_path, end):
    """In the same run, and both attempts are told."""
    async with online(faults=failing(1)) as (emulator, client):
        await fail(client, tmp_path, 1)
        entry = entry_of(emulator, 0)
        if end != "failed":
            comes_late(entry)
        if end == "not found":
            emulator.faults = FaultPlan(Fault("poll", "expire", times=1))
        elif end == "no image":
            entry.quantity = 0
        elif end == "old links":
            entry.created_at -= 16 * 86400
        elif end == "links gone":
            emulator.faults = FaultPlan(Fault("image", "expire", times=1))
        summary = await run(client, tmp_path, retry_failed=True)
        assert summary.all_stored
        assert summary.credits_used == 1
        assert posts(emulator) == told(tmp_path) == 2


@pytest.mark.parametrize("kind", ["error_500", "garbage_200", "html_wall", "reset_before", "refuse"])
async def test_a_look_that_tells_nothing_leads_to_no_post(online, tmp_path, kind):
    """The row stays as it is, and says so; the others go on."""
    events = Events()
    async with online(faults=failing(2), client={"retry": RETRY}) as (emulator, client):
        await fail(client, tmp_path, 2)
        emulator.faults = FaultPlan(Fault("poll", kind, prompt="cat 0"))
        async with asyncio.timeout(PATIENCE):  # a new generation could not be looked at either
            summary = await run(client, tmp_path, retry_failed=True, on_event=events.append)
        assert summary.stopped_by is None
        assert statuses(tmp_path) == {"failed": 1, "stored": 1}
        assert emulator.ledger.charged_prompts() == ["cat 0", "cat 1", "cat 1"]
        assert any(event.index == 0 and "can't be looked at" in event.message for event in events)
        comes_late(entry_of(emulator, 0))
        emulator.faults = FaultPlan()
        assert (await run(client, tmp_path, retry_failed=True)).all_stored
        assert posts(emulator) == 3


async def test_without_a_network_it_waits_and_pays_nothing(online, tmp_path):
    """Stopped before it is back, everything is as it was; then the look is made."""
    events = Events()
    async with online(faults=failing(2)) as (emulator, direct), Relay(emulator.url) as network:
        await fail(direct, tmp_path, 2)
        comes_late(entry_of(emulator, 0))
        comes_late(entry_of(emulator, 1))
        emulator.faults = stalled = Watched(Fault("poll", "stall"))
        async with Client(KEY, base_url=network.url, poll=0.01, retry=RETRY) as client:
            async with (
                runner(client, tmp_path, retry_failed=True, on_event=events.append) as batch,
                under_way(batch) as running,
            ):
                await stalled.struck.wait()
                await network.cut()
                await events.told("no network")
                batch.stop()
                assert (await running).interrupted
            assert statuses(tmp_path) == {"failed": 2}
            await network.mend()
            emulator.faults = FaultPlan()
            assert (await run(client, tmp_path, retry_failed=True)).all_stored
        assert posts(emulator) == 2


async def test_the_look_is_free_where_no_attempt_is_left(online, tmp_path):
    """Three times failed: it is not sent a fourth time, but its image is fetched when it is there."""
    async with online(faults=failing(3)) as (emulator, client):
        await fail(client, tmp_path, 1)
        for _ in range(4):
            await run(client, tmp_path, retry_failed=True)
        assert posts(emulator) == 3
        assert statuses(tmp_path) == {"failed": 1}
        comes_late(emulator.ledger.charged()[-1])
        assert (await run(client, tmp_path, retry_failed=True)).all_stored
        assert posts(emulator) == told(tmp_path) == 3


async def test_what_is_told_to_be_rejected_is_not_sent_again(online, tmp_path):
    """As with any other row that the safety check refused."""
    async with online(faults=failing(1)) as (emulator, client):
        await fail(client, tmp_path, 1)
        entry_of(emulator, 0).error = "Content safety check failed"
        await run(client, tmp_path, retry_failed=True)
        assert (statuses(tmp_path), posts(emulator), told(tmp_path)) == ({"rejected": 1}, 1, 1)


async def test_slow_links_that_should_have_ended_are_not_waited_for(online, tmp_path, monkeypatch):
    """After fifteen days the image is made anew."""
    monkeypatch.setattr(_second_look, "FETCH_SECONDS", 0.05)
    async with online(faults=failing(1)) as (emulator, client):
        await fail(client, tmp_path, 1)
        comes_late(entry_of(emulator, 0))
        entry_of(emulator, 0).created_at -= 16 * 86400
        emulator.faults = FaultPlan(Fault("image", "stall", times=1))
        assert (await asyncio.wait_for(run(client, tmp_path, retry_failed=True), PATIENCE)).all_stored
        assert posts(emulator) == told(tmp_path) == 2


async def test_images_that_are_slow_to_come_hold_nobody_up(online, tmp_path, monkeypatch):
    """They are fetched beside the submissions; what was seen of them is on disk."""
    monkeypatch.setattr(_second_look, "FETCH_SECONDS", 0.05)
    async with online(faults=failing(2)) as (emulator, client):
        await fail(client, tmp_path, 2)
        comes_late(entry_of(emulator, 0))
        emulator.faults = FaultPlan(Fault("image", "stall", prompt="cat 0", stall_seconds=0.5))
        async with runner(client, tmp_path, retry_failed=True) as batch, under_way(batch) as running:
            await emulator.until(lambda: posts(emulator) >= 3)
            [row] = await batch._journal.unfinished(JobState.COMPLETED, limit=9)
            assert row.generation_id == entry_of(emulator, 0).generation_id
            assert (await running).all_stored
        assert emulator.ledger.charged_prompts() == ["cat 0", "cat 1", "cat 1"]


async def test_a_download_that_fails_for_good_leads_to_no_post(online, tmp_path):
    """The links are not over: the row waits, made and paid, for whoever mends them."""
    async with online(faults=failing(1)) as (emulator, client):
        await fail(client, tmp_path, 1)
        comes_late(entry_of(emulator, 0))
        emulator.faults = FaultPlan(Fault("image", "error_500"))
        await run(client, tmp_path, retry_failed=True)
        assert (statuses(tmp_path), posts(emulator)) == ({"completed": 1}, 1)
        emulator.faults = FaultPlan()
        assert (await run(client, tmp_path)).all_stored
        assert posts(emulator) == 1


async def test_nobody_looks_unasked(online, tmp_path):
    """Without retry_failed a failed row is left alone."""
    async with online(faults=failing(1)) as (emulator, client):
        await fail(client, tmp_path, 1)
        comes_late(entry_of(emulator, 0))
        looks = emulator.ledger.requests["GET /generate"]
        await run(client, tmp_path)
        assert (statuses(tmp_path), emulator.ledger.requests["GET /generate"]) == ({"failed": 1}, looks)


async def test_the_estimate_tells_which_rows_may_cost_nothing(online, tmp_path):
    """At most all of them; how many are looked at first."""
    async with online(faults=FaultPlan(Fault("submit", "fail_generation", times=2))) as (emulator, client):
        await run(client, tmp_path, 3)
        async with runner(client, tmp_path, retry_failed=True) as batch:
            found = await batch.preflight()
            assert (found.rows, found.credits, found.looked_at) == (2, 2, 2)
        assert posts(emulator) == 3
