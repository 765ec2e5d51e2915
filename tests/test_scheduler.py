"""Who runs when: priorities, places, room in the queue, and what an account's refusal means for those behind."""

import asyncio
import math

import pytest

from nanobanana_async import (
    AuthenticationError,
    BlockedError,
    Client,
    ConfigurationError,
    InsufficientCreditsError,
    JobCancelledError,
    JobStatus,
    NanoBananaError,
    PermissionDeniedError,
)
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")


async def results_of(jobs):
    return await asyncio.gather(*(job.result() for job in jobs), return_exceptions=True)


async def test_the_most_urgent_goes_first(online):
    """Higher priority first, then first come; what runs is not disturbed."""
    async with online(duration=math.inf) as (emulator, client):
        jobs = [await client.submit("first")]
        await emulator.until(lambda: emulator.ledger.active == 1)
        emulator.duration = 0.005
        for prompt, priority in (("low", -1), ("c", 0), ("d", 0), ("high", 5), ("higher", 5.5)):
            jobs.append(await client.submit(prompt, priority=priority))
        emulator.finish()
        await results_of(jobs)
        assert emulator.ledger.charged_prompts() == ["first", "higher", "high", "c", "d", "low"]


async def test_a_refused_job_keeps_its_place(online):
    """Back to the queue's head, not to its end."""
    plan = FaultPlan(Fault("submit", "refuse", times=1, after=1))
    async with online(faults=plan, duration=0.005) as (emulator, client):
        jobs = [await client.submit(name) for name in ("a", "b", "c")]
        await results_of(jobs)
        assert emulator.ledger.charged_prompts() == ["a", "b", "c"]


async def test_submit_waits_for_room(online):
    """At most `max_queued` jobs wait; the next `submit` returns when one of them gets its slot."""
    async with online(duration=math.inf, client={"max_queued": 2}) as (emulator, client):
        jobs = [await client.submit("runs")]
        await emulator.until(lambda: emulator.ledger.active == 1)
        jobs += [await client.submit("waits"), await client.submit("waits too")]
        third = asyncio.create_task(client.submit("has no room yet"))
        await asyncio.sleep(0)
        assert not third.done()
        assert client.statistics().queued == 2
        emulator.finish()
        jobs.append(await third)
        emulator.duration = 0.005
        await emulator.until(lambda: emulator.ledger.active == 1)
        emulator.finish()
        await results_of(jobs)


async def test_a_cancelled_job_makes_room(online):
    """Whoever waits for room hears of it, in order of arrival."""
    async with online(duration=math.inf, client={"max_queued": 1}) as (emulator, client):
        await client.submit("runs")
        await emulator.until(lambda: emulator.ledger.active == 1)
        waiting = await client.submit("waits")
        late = [asyncio.create_task(client.submit(name)) for name in ("second", "third")]
        await asyncio.sleep(0)
        waiting.cancel()
        assert (await late[0]).request.prompt == "second"
        assert not late[1].done()
        late[1].cancel()
        await asyncio.wait(late)


async def test_a_job_cancelled_while_it_waits_for_room_is_never_sent(online, new_job):
    """It leaves no trace in the queue either."""
    async with online(duration=0.02, client={"max_queued": 1}) as (emulator, client):
        await client.submit("runs")
        await emulator.until(lambda: emulator.ledger.active == 1)
        await client.submit("waits")
        job = new_job("unwanted")
        entering = asyncio.create_task(client.enqueue(job))
        await asyncio.sleep(0)
        job.cancel()
        await entering
        await client.idle()
        assert emulator.ledger.charged_prompts() == ["runs", "waits"]


async def test_room_for_nobody_is_refused():
    """A queue without a place would wait forever."""
    with pytest.raises(ConfigurationError, match="max_queued"):
        Client("nb_test", max_queued=0)


REFUSED_ACCOUNTS = {
    "key": ({"keys": ["nb_other"]}, AuthenticationError),
    "credits": ({"credits": 0}, InsufficientCreditsError),
    "access": ({"access": False}, PermissionDeniedError),
    "wall": ({"faults": FaultPlan(Fault("submit", "html_wall"))}, BlockedError),
}


@pytest.mark.parametrize(("account", "expected"), REFUSED_ACCOUNTS.values(), ids=REFUSED_ACCOUNTS)
async def test_what_the_account_is_refused_for_fails_those_behind_unsent(online, account, expected):
    """One request finds out; the rest would only be refused as well."""
    async with online(**account) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(10)]
        errors = await results_of(jobs)
        assert [type(error) for error in errors] == [expected] * 10
        assert emulator.ledger.requests["POST /generate"] == 1
        assert [str(error).startswith("not sent") for error in errors] == [False] + [True] * 9
        assert {job.status for job in jobs} == {JobStatus.FAILED}


async def test_after_a_recharge_jobs_run_again(online):
    """A 402 ends jobs, not the client."""
    async with online(credits=1, duration=0.01) as (emulator, client):
        await client.generate("the last credit")
        with pytest.raises(InsufficientCreditsError, match="top up"):
            await client.generate("one too many")
        emulator.account("nb_test").credits = 5
        assert (await client.generate("goes on")).credits_used == 1


async def test_a_job_that_fails_for_itself_fails_alone(online):
    """A bad parameter says nothing about the jobs behind."""
    async with online(duration=0.01) as (_, client):
        jobs = [await client.submit("bad", model="no-such-model"), await client.submit("good")]
        bad, good = await results_of(jobs)
        assert isinstance(bad, NanoBananaError)
        assert good.prompt == "good"


async def test_closing_tells_everyone_who_waits(online):
    """For room, for a slot, or for the end: each hears that the client was closed, and what became of the money."""
    async with online(duration=math.inf, client={"max_queued": 1}) as (emulator, client):
        running = await client.submit("runs")
        await emulator.until(lambda: emulator.ledger.active == 1)
        queued = await client.submit("waits")
        entering = [asyncio.create_task(client.submit("has no room")) for _ in range(3)]
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(JobCancelledError, match="closed before it was submitted; nothing was charged"):
            await queued.result()
        with pytest.raises(JobCancelledError, match=r"client\.wait") as caught:
            await running.result()
        assert caught.value.generation_id == running.generation_id == emulator.ledger.charged()[0].generation_id
        outcomes = await asyncio.gather(*entering, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 3
