"""Cancelling at every stage, in every way: nothing leaks, nothing paid is forgotten, nobody else is disturbed."""

import asyncio
import math
import warnings
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from watched import Watched

from nanobanana_async import (
    AccountLimiter,
    Backoff,
    Client,
    GenerateRequest,
    Job,
    JobCancelledError,
    JobStatus,
    RetryPolicy,
    Timeouts,
)
from nanobanana_async._job import Destination
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")


# ---- ways to cancel: each runs `work`, waits for `stage`, and ends it


async def by_task(work, stage):
    task = asyncio.create_task(work())
    await stage()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_asyncio_timeout(work, stage):
    async def limited():
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await work()

    limits = []
    task = asyncio.create_task(limited())
    await stage()
    limits[0].reschedule(0)
    with pytest.raises(TimeoutError):
        await task


async def by_move_on(work, stage):
    async def limited():
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await work()
        return scope.cancelled_caught

    scopes = []
    task = asyncio.create_task(limited())
    await stage()
    scopes[0].cancel()
    assert await task


async def by_fail_after(work, stage):
    async def limited():
        with anyio.fail_after(None) as scope:
            scopes.append(scope)
            await work()

    scopes = []
    task = asyncio.create_task(limited())
    await stage()
    scopes[0].deadline = -math.inf
    with pytest.raises(TimeoutError):
        await task


WAYS = [by_task, by_asyncio_timeout, by_move_on, by_fail_after]


# ---- stages: each gives the work, and a wait until it is there


class Stalled:
    """A ledger that never answers the hook it is asked to stall."""

    def __init__(self, hook):
        self.reached = asyncio.Event()
        self.hooks = []
        self._stalled = hook

    def __getattr__(self, name):
        async def hook(job, *_):
            self.hooks.append(name)
            if name == self._stalled:
                self.reached.set()
                await asyncio.get_running_loop().create_future()

        return hook


@asynccontextmanager
async def at_stage(online, stage, folder):
    """An emulator stuck at `stage`, its client, the work that gets there, and the wait for it."""
    plans = {
        "posting": Watched(Fault("submit", "stall", stall_seconds=0.05)),
        "streaming": Watched(Fault("stream", "stall", stall_seconds=0.05)),
        "downloading": Watched(Fault("image", "stall")),
    }
    quick = stage in ("downloading", "storing")
    settings = {"duration": 0.005 if quick else math.inf, "faults": plans.get(stage, FaultPlan())}
    async with online(**settings) as (emulator, client):
        works = {
            "streaming": lambda: client.generate("a cat", mode="stream"),
            "downloading": lambda: download(client, folder),
            "mapping": lambda: read_map(client),
        }
        if stage == "waiting":
            await client.submit("in the way")
            await emulator.until(lambda: emulator.ledger.active == 1)

        async def reached():
            if stage in plans:
                await plans[stage].struck.wait()
            elif stage == "waiting":
                await asyncio.sleep(0)
                assert client.statistics().queued == 1
            else:
                await emulator.until(lambda: emulator.ledger.requests["GET /generate"] >= 1)

        yield emulator, client, works.get(stage, lambda: client.generate("a cat")), reached


async def download(client, folder):
    await client.download(await client.generate("a cat"), folder)


async def read_map(client):
    async with client.map(f"cat {number}" for number in range(100)) as outcomes:
        async for _ in outcomes:
            pass


def nothing_is_under_way(client):
    now = client.statistics()
    return (now.queued, now.submitting, now.running, now.downloading, now.abandoned) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", ["waiting", "posting", "polling", "streaming", "downloading", "mapping"])
async def test_cancelling_leaves_nothing(online, tmp_path, stage, way):
    """Once the service is done every count is back at zero, and no file is left."""
    async with at_stage(online, stage, tmp_path) as (emulator, client, work, reached):
        await way(work, reached)
        emulator.faults = FaultPlan()
        emulator.duration = 0.005
        emulator.finish()
        await client.idle()
        assert nothing_is_under_way(client)
        assert emulator.ledger.charges == 1
        assert list(tmp_path.rglob("*")) == []
        assert (await client.generate("goes on")).image_urls


@pytest.mark.parametrize("stage", ["waiting", "posting", "polling", "streaming", "downloading", "mapping"])
async def test_closing_leaves_nothing(online, tmp_path, stage):
    """The work hears of it as an error of its own, never as a cancellation or an ExceptionGroup."""
    async with at_stage(online, stage, tmp_path) as (_, client, work, reached):
        task = asyncio.create_task(work())
        await reached()
        await client.aclose()
        with pytest.raises((JobCancelledError, RuntimeError)):
            await task
        assert nothing_is_under_way(client) or client.statistics().abandoned == 1  # which the service still runs
        assert list(tmp_path.rglob("*")) == []


# ---- what is known afterwards


@pytest.mark.parametrize("way", WAYS)
async def test_a_generation_cancelled_during_its_post_is_recorded(online, new_job, recorder, way):
    """The answer is still read: the ledger has the id, although nobody waits any more."""
    plan = FaultPlan(Fault("submit", "stall", stall_seconds=0.05))
    async with online(faults=plan) as (emulator, client):
        ledger = recorder()
        job = new_job(ledger=ledger)

        async def work():
            await client.enqueue(job)
            try:
                await job.result()
            finally:
                job.cancel()

        await way(work, lambda: emulator.until(lambda: emulator.ledger.charges == 1))
        assert (job.status, job.generation_id) == (JobStatus.CANCELLED, None)
        await client.idle()
        assert ledger.hooks == ["intend", "accepted", "finished"]
        assert job.generation_id == ledger.generation_id == emulator.ledger.charged()[0].generation_id


@pytest.mark.parametrize("mode", ["async", "stream"])
async def test_closing_during_a_post_still_records_the_id(online, new_job, recorder, mode):
    """Closing waits for the answer, so the error has the id in hand."""
    async with online(duration=math.inf, latency=0.05) as (emulator, client):
        ledger = recorder()
        job = new_job(ledger=ledger, mode=mode)
        await client.enqueue(job)
        await emulator.until(lambda: emulator.ledger.charges == 1)
        await client.aclose()
        with pytest.raises(JobCancelledError) as caught:
            await job.result()
        assert ledger.hooks[0] == "intend"
        if mode == "async":
            assert ledger.hooks == ["intend", "accepted"]
            assert caught.value.generation_id == ledger.generation_id == emulator.ledger.charged()[0].generation_id
        else:
            assert "may run it all the same" in str(caught.value) or caught.value.generation_id


@pytest.mark.parametrize(
    ("stage", "hooks"), [("intend", ["intend", "withdrawn"]), ("accepted", ["intend", "accepted"])]
)
async def test_a_ledger_that_is_slow(online, new_job, stage, hooks):
    """A cancelled wait leaves it alone; giving up an intent withdraws it, and nothing was sent."""
    ledger = Stalled(stage)
    async with online(limit=2, duration=math.inf) as (emulator, client):
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        await ledger.reached.wait()
        assert job.cancel()
        closing = asyncio.create_task(client.aclose())
        if stage == "accepted":  # shielded until it answers, or until somebody insists
            await asyncio.sleep(0)
            closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing
        assert ledger.hooks == hooks
        assert emulator.ledger.charges == (stage == "accepted")


async def test_a_job_cancelled_between_attempts_to_connect_is_not_sent(unused_tcp_port, new_job, recorder):
    """Nobody wants it any more when somebody listens at last."""
    retry = RetryPolicy(max_attempts=50, backoff=Backoff(initial_delay=0.02, max_delay=0.02))
    nobody = f"http://127.0.0.1:{unused_tcp_port}/api/v1"
    async with Client("nb_test", base_url=nobody, retry=retry) as client:
        ledger = recorder()
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        await ledger.until("withdrawn")
        job.cancel()
        async with Emulator(port=unused_tcp_port) as emulator:
            await client.idle()
            assert emulator.ledger.requests == {}
        assert ledger.hooks.count("intend") == ledger.hooks.count("withdrawn")
        assert "nothing was charged" in str(job.error)


async def test_closing_between_attempts_to_connect_withdraws_the_intent(unused_tcp_port, new_job, recorder):
    """It must not look like a lost submission later."""
    async with Client("nb_test", base_url=f"http://127.0.0.1:{unused_tcp_port}/api/v1") as client:
        ledger = recorder()
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        await ledger.until("withdrawn")
    assert ledger.hooks == ["intend", "withdrawn"]
    with pytest.raises(JobCancelledError, match="nothing was charged"):
        await job.result()


async def test_a_job_cancelled_while_its_references_are_read_is_not_sent(online, new_job, recorder, tmp_path):
    """Encoding happens in a thread: by its end nobody may want the job."""
    async with online() as (emulator, client):
        (picture,) = await client.download(await client.generate("a cat"), tmp_path)
        ledger = recorder()
        job = Job(GenerateRequest(prompt="a hat", reference_images=(picture,)), ledger=ledger)
        await client.enqueue(job)
        while client.statistics().submitting == 0:  # noqa: ASYNC110  # two turns of the loop
            await asyncio.sleep(0)
        job.cancel()
        await client.idle()
        assert ledger.hooks == []
        assert emulator.ledger.requests["POST /generate"] == 1


async def test_a_job_cancelled_while_it_waits_for_a_request_is_not_sent(online, new_job, recorder):
    """Where open requests hold the slots: when one is free at last, nobody may want the job any more."""
    limiter = AccountLimiter(scope="request")
    async with online(scope="request", client={"limiter": limiter}) as (emulator, client):
        async with limiter.request():
            ledger = recorder()
            job = new_job(ledger=ledger)
            await client.enqueue(job)
            await ledger.until("intend")
            assert job.cancel()
        await client.idle()
        assert emulator.ledger.requests == {}
        assert ledger.hooks == ["intend", "withdrawn"]
        now = limiter.statistics()
        assert (now.submitting, now.running, now.open_requests) == (0, 0, 0)


async def test_cancelling_a_job_stops_its_download(online, new_job, tmp_path):
    """And leaves no part of it."""
    plan = Watched(Fault("image", "stall"))
    async with online(faults=plan) as (_, client):
        job = new_job(destination=Destination(tmp_path))
        await client.enqueue(job)
        await plan.struck.wait()
        assert client.statistics().downloading == 1
        job.cancel()
        await client.idle()
        assert nothing_is_under_way(client)
        assert list(tmp_path.iterdir()) == []
        assert job.generation.image_urls


async def test_cancelling_one_wait_leaves_the_job_to_the_others(online):
    """`result()` may be awaited by many; only `cancel()` ends the job."""
    async with online(duration=math.inf) as (emulator, client):
        job = await client.submit("a cat")
        impatient, patient = (asyncio.create_task(job.result()) for _ in range(2))
        await emulator.until(lambda: emulator.ledger.active == 1)
        impatient.cancel()
        emulator.finish()
        assert (await patient).image_urls
        assert impatient.cancelled()


async def test_an_abandoned_generation_keeps_its_slot(online):
    """The service runs on, so nobody else gets the slot before it is done."""
    async with online(limit=1, duration=math.inf) as (emulator, client):
        job = await client.submit("unwanted")
        await emulator.until(lambda: emulator.ledger.active == 1)
        job.cancel()
        wanted = await client.submit("wanted")
        await asyncio.sleep(0.03)
        assert emulator.ledger.refusals == {}
        assert (client.statistics().abandoned, client.statistics().queued) == (1, 1)
        emulator.duration = 0.005
        emulator.finish()
        assert (await wanted.result()).image_urls


async def test_a_lost_submission_keeps_its_slot_for_a_while_only(online):
    """Nobody sees its end: counted for about as long as a generation takes."""
    timeouts = Timeouts(submit_timeout=1.0)  # longer than the next one's answer takes on a busy machine
    plan = FaultPlan(Fault("submit", "stall", times=1))
    async with online(faults=plan, client={"timeout": timeouts}) as (_, client):
        with suppress(Exception):
            await client.generate("lost")
        assert client.statistics().abandoned == 1
        assert (await client.generate("next")).image_urls
        assert client.statistics().abandoned == 0


async def test_leaving_a_map_in_a_cancelled_scope_cancels_its_jobs(online):
    """An exit that may not await anything any more still ends what waits."""
    async with online(duration=math.inf) as (emulator, client):
        with anyio.CancelScope() as scope:
            async with client.map(f"cat {number}" for number in range(50)):
                await emulator.until(lambda: emulator.ledger.active == 1)
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert client.statistics().queued == 0
        emulator.finish()


async def generate_together(client, *prompts):
    async with asyncio.TaskGroup() as group:
        for prompt in prompts:
            group.create_task(client.generate(prompt))


async def test_a_task_group_of_the_callers_sees_plain_errors(online):
    """One failing call in a TaskGroup cancels its siblings; no group of ours is inside that group."""
    async with online(limit=4, duration=0.02) as (emulator, client):
        with pytest.raises(ExceptionGroup) as caught:
            await generate_together(client, "a", "b", "c", " ")
        assert [type(error).__name__ for error in caught.value.exceptions] == ["InvalidRequestError"]
        await emulator.idle()
        await client.idle()
        assert nothing_is_under_way(client)


async def test_cancellation_makes_no_warning(online, tmp_path):
    """Neither a coroutine that was never awaited, nor a task destroyed, nor a session left open."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with at_stage(online, "polling", tmp_path) as (_, client, work, reached):
            for _ in range(3):
                await by_task(work, reached)
            await client.aclose()
