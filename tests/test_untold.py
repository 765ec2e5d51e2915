"""Paid generations that nobody waits for any more: every id is told, once, to somebody or in the log."""

import asyncio
import gc
import math
import random
import re
import threading
import traceback
from collections import Counter
from contextlib import closing, suppress

import pytest
from patience import PATIENCE

from nanobanana_async import (
    ContentRejectedError,
    GenerationError,
    GenerationFailedError,
    GenerationTimeoutError,
    JobCancelledError,
)
from nanobanana_async._untold import IDS_A_LINE, Untold
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")


@pytest.fixture(autouse=True)
def warnings_are_logged(caplog):
    """Also after a test of the command line, which logs errors only."""
    caplog.set_level("WARNING", "nanobanana_async")


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def ids_of(emulator):
    return [generation.generation_id for generation in emulator.ledger.charged()]


def logged(caplog, ids):
    """Those of the ids that warnings tell, once for each line."""
    known = set(ids)
    return sorted(word for line in warnings_of(caplog) for word in set(re.findall(r"\w+", line)) & known)


# ---- generate()


async def test_a_task_group_that_one_rejection_ends(online, caplog):
    """The most ordinary way to lose others' generations: each that was paid is returned, raised, or in the log."""
    told = []

    async def one(client, prompt):
        told.append((await client.generate(prompt)).id)

    async def together(client):
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(one(client, f"{'[unsafe] ' * (number == 9)}cat {number}"))

    async with online(limit=6, duration=0.05) as (emulator, client):
        with pytest.raises(ExceptionGroup) as caught:
            await together(client)
        (rejection,) = caught.value.exceptions
        assert isinstance(rejection, ContentRejectedError)
        await client.idle()
        paid = ids_of(emulator)
        assert len(paid) > len(told) + 1
        told += [rejection.generation_id]
        assert sorted(paid) == sorted(told + logged(caplog, set(paid) - set(told)))


async def test_a_timeout_around_generate_tells_its_id(online, caplog):
    """In the traceback, as a note on the cancellation that caused it, and in one line of the log."""

    async def limited(emulator, client):
        async with asyncio.timeout(PATIENCE) as limit:
            running = asyncio.create_task(emulator.until(lambda: emulator.ledger.requests["GET /generate"] > 0))
            running.add_done_callback(lambda _: limit.reschedule(0))
            await client.generate("a cat")

    async with online(duration=math.inf) as (emulator, client):
        with pytest.raises(TimeoutError) as caught:
            await limited(emulator, client)
        (paid,) = ids_of(emulator)
        shown = "".join(traceback.format_exception(caught.value))
        assert f"paid: pick it up with client.wait('{paid}')" in shown
        await asyncio.sleep(0)
        (line,) = warnings_of(caplog)
        assert f"client.wait('{paid}')" in line
        assert f"nanobanana get {paid} --wait" in line
        emulator.finish()
        assert (await client.wait(paid)).image_urls


async def test_generate_cancelled_during_its_post(online, caplog):
    """Its id comes later, so the note says what may be, and the log what is."""
    plan = FaultPlan(Fault("submit", "stall", stall_seconds=0.05))
    async with online(faults=plan) as (emulator, client):
        task = asyncio.create_task(client.generate("a cat"))
        await emulator.until(lambda: emulator.ledger.charges == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert "may run it all the same" in "".join(caught.value.__notes__)
        assert warnings_of(caplog) == []
        await client.idle()
        assert logged(caplog, ids_of(emulator)) == ids_of(emulator)


async def test_generate_cancelled_in_the_moment_that_it_ends(online, caplog):
    """The job has an outcome, and its reader another one: neither a cancelled job nor one that is read."""
    async with online() as (emulator, client):
        task = asyncio.create_task(client.generate("a cat"))
        await emulator.until(lambda: emulator.ledger.active == 1)
        (job,) = client._engine.scheduler._live
        job.add_done_callback(lambda _: task.cancel())
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        (paid,) = ids_of(emulator)
        assert f"client.wait('{paid}')" in "".join(caught.value.__notes__)
        await client.idle()
        assert logged(caplog, [paid]) == [paid]


async def test_what_is_free_is_no_warning(online, caplog):
    """A job that waits, cancelled: nothing was taken, and the note says so."""
    async with online(duration=math.inf) as (emulator, client):
        first = asyncio.create_task(client.generate("first"))
        await emulator.until(lambda: emulator.ledger.active == 1)
        second = asyncio.create_task(client.generate("second"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await second
        assert "nothing was charged" in "".join(caught.value.__notes__)
        assert warnings_of(caplog) == []
        emulator.finish()
        assert (await first).image_urls


async def test_what_is_read_is_no_warning(online, caplog):
    """Generations and failures, of every way to ask, that somebody has heard of."""
    async with online(limit=3) as (_, client):
        await client.generate("a cat")
        with pytest.raises(GenerationFailedError):
            await client.generate("[fail]")
        async with client.map(["a", "[fail]", "b"]) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 3
        assert outcomes.unread == outcomes.abandoned == ()
        async with client.stream("a cat") as events:
            async for event in events:
                last = event
        assert last.generation is not None
        async with client.stream("a cat") as events:
            while events.generation is None:  # noqa: ASYNC110  # looked at, instead of the events
                await asyncio.sleep(0)
        async with client.stream("a cat") as events:
            await events.job.result()
    assert warnings_of(caplog) == []


# ---- map()


async def test_leaving_a_map_keeps_what_ended_unread_and_what_runs(online, caplog):
    """In `unread` and `abandoned`, and in one line of the log."""
    async with online(limit=4, duration=math.inf) as (emulator, client):
        async with client.map([f"cat {number}" for number in range(30)] + [" "], max_pending=12) as outcomes:
            await emulator.until(lambda: emulator.ledger.active == 4)
            emulator.finish()
            await emulator.until(lambda: emulator.ledger.active == 4)
            await client_has(client, completed=4, running=4)
            async for outcome in outcomes:
                told = outcome.generation.id
                break
        assert len(outcomes.unread) == 3
        assert all(outcome.generation.image_urls for outcome in outcomes.unread)
        assert {job.status for job in outcomes.abandoned} == {"cancelled"}
        untold = [*(o.generation.id for o in outcomes.unread), *(job.generation_id for job in outcomes.abandoned)]
        assert sorted([told, *untold]) == sorted(ids_of(emulator))
        await asyncio.sleep(0)
        assert len(warnings_of(caplog)) == 1
        assert logged(caplog, ids_of(emulator)) == sorted(untold)
        assert [outcome async for outcome in outcomes] == []
        emulator.finish()


async def test_an_exception_in_a_maps_block(online, caplog):
    """Comes out as it is; what was paid is in the log."""

    async def left(client):
        async with client.map(f"cat {number}" for number in range(9)):
            await client_has(client, running=3)
            raise KeyError

    async with online(limit=3, duration=math.inf) as (emulator, client):
        with pytest.raises(KeyError):
            await left(client)
        await asyncio.sleep(0)
        assert logged(caplog, ids_of(emulator)) == sorted(ids_of(emulator))
        emulator.finish()


async def test_an_unread_timeout_is_told_too(online, caplog):
    """It runs on and is paid; one that failed has nothing to be fetched."""
    async with online(limit=2, duration=math.inf, client={"timeout": 5.0}) as (emulator, client):
        jobs = [await client.submit("slow", timeout=0.01), await client.submit("[fail]")]
        await emulator.until(lambda: emulator.ledger.active == 2)
        emulator.finish(emulator.ledger.charged()[1].generation_id)
        for job, kind in zip(jobs, (GenerationTimeoutError, GenerationFailedError), strict=True):
            ended = asyncio.Event()
            job.add_done_callback(lambda _, ended=ended: ended.set())
            await ended.wait()
            assert isinstance(job.error, kind)
            job.abandon()
        await asyncio.sleep(0)
        assert logged(caplog, ids_of(emulator)) == [jobs[0].generation_id]


# ---- stream(), submit(), the close


async def test_leaving_a_stream_early(online, caplog):
    """Whether it still runs, or has ended and its last event was not read."""
    async with online(limit=2, duration=math.inf) as (emulator, client):
        async with client.stream("left early") as events:
            async for _ in events:
                if events.job.generation_id:
                    break
        async with client.stream("not read") as unread:
            await emulator.until(lambda: emulator.ledger.active == 2)
            emulator.finish()
            while not unread.job.done():  # noqa: ASYNC110  # a few turns of the loop
                await asyncio.sleep(0)
        await client.idle()
        assert logged(caplog, ids_of(emulator)) == sorted(ids_of(emulator))


async def test_closing_a_client_tells_of_all_that_it_leaves(online, caplog):
    """Those that ran, and no job that waited."""
    async with online(limit=3, duration=math.inf) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(7)]
        await client_has(client, running=3)
        await client.aclose()
        assert logged(caplog, ids_of(emulator)) == sorted(ids_of(emulator))
        assert all(isinstance(job.error, JobCancelledError) for job in jobs)


async def test_a_wait_that_its_loop_left_behind(online, caplog):
    """Its task is never run again, and taken away."""
    async with online(duration=math.inf) as (emulator, client):
        job = await client.submit("a cat")
        waiting = job.result()
        waiting.send(None)
        await client_has(client, running=1)
        waiting.close()
        emulator.finish()
        await client.idle()
        del job, waiting
        gc.collect()
        await asyncio.sleep(0)
        assert logged(caplog, ids_of(emulator)) == ids_of(emulator)


async def test_a_job_that_is_dropped_in_another_thread_is_told_of_by_the_loop(new_job, caplog):
    """Whoever drops it may be in the midst of logging."""
    job = new_job()
    job.accepted("someid", 1)
    await asyncio.to_thread(Untold(asyncio.get_running_loop()).add, job)
    await asyncio.sleep(0)
    [record] = [record for record in caplog.records if "someid" in record.getMessage()]
    assert record.thread == threading.get_ident()


async def test_a_cancelled_wait_for_a_job_that_is_dropped(online, caplog):
    """The job runs on; when it has ended, and neither a reader nor its owner is left, the log has its id."""
    async with online(limit=3, duration=math.inf) as (emulator, client):

        async def one(prompt):
            return await (await client.submit(prompt)).result()

        dropped = asyncio.create_task(one("dropped"))
        held = await client.submit("held")
        shared = await client.submit("shared")
        waits = [dropped, asyncio.create_task(held.result()), asyncio.create_task(shared.result())]
        patient = asyncio.create_task(shared.result())
        await client_has(client, running=3)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        waits.clear()
        del wait, dropped
        emulator.finish()
        await client.idle()
        assert (await patient).id == shared.generation_id
        del shared
        gc.collect()
        await asyncio.sleep(0)
        (line,) = warnings_of(caplog)
        told, *_ = logged(caplog, ids_of(emulator))
        assert told not in (held.generation_id, (await patient).id)
        assert (await held.result()).image_urls
        del held
        gc.collect()
        await asyncio.sleep(0)
        assert warnings_of(caplog) == [line]


@pytest.mark.parametrize("during", ["post", "run"])
async def test_a_job_with_a_ledger_of_its_own_is_recorded_there(online, new_job, recorder, caplog, during):
    """A batch's or an application's: it knows the id, and the log need not."""
    plan = FaultPlan(Fault("submit", "stall", stall_seconds=0.05)) if during == "post" else FaultPlan()
    async with online(duration=math.inf, faults=plan) as (emulator, client):
        ledger = recorder()
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        await (emulator.until(lambda: emulator.ledger.charges == 1) if during == "post" else ledger.until("accepted"))
        job.cancel()
        await ledger.until("accepted")
        await client.aclose()
        assert ledger.generation_id == ids_of(emulator)[0]
        assert warnings_of(caplog) == []


async def test_many_at_once_take_few_lines(new_job, caplog):
    """Every id is told, for the service has no list of them; a line has no more than fits."""
    untold = Untold(asyncio.get_running_loop())
    for number in range(2 * IDS_A_LINE + 50):
        job = new_job()
        job.accepted(f"id{number}", 1)
        untold.add(job)
    await asyncio.sleep(0)
    assert len(warnings_of(caplog)) == 3
    assert len(logged(caplog, {f"id{number}" for number in range(1000)})) == 2 * IDS_A_LINE + 50


def test_without_a_loop_it_is_told_at_once(new_job, caplog):
    """A job may be cancelled between two runs of its loop."""
    job = new_job()
    job.accepted("clx1", 1)
    with closing(asyncio.new_event_loop()) as loop:
        Untold(loop).add(job)
    assert logged(caplog, ["clx1"]) == ["clx1"]


# ---- everything at once


class Asker:
    """Asks in one of four ways, and writes down the ids that it hears of."""

    def __init__(self, client):
        self.told = Counter()
        self._client = client
        self.ways = (self.generate, self.submit, self.stream, self.map)

    async def ask(self, way, prompt):
        with suppress(GenerationError):
            await way(prompt)

    async def generate(self, prompt):
        self.told[(await self._client.generate(prompt)).id] += 1

    async def submit(self, prompt):
        self.told[(await (await self._client.submit(prompt)).result()).id] += 1

    async def stream(self, prompt):
        async with self._client.stream(prompt) as events:
            async for event in events:
                self.told.update([event.generation.id] if event.generation else [])

    async def map(self, prompt):
        async with self._client.map(f"{prompt} {number}" for number in range(6)) as outcomes:
            async for outcome in outcomes:
                self.told.update([outcome.generation.id] if outcome.generation else [])
                await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(5))
async def test_each_paid_id_is_told_once_whenever_its_reader_is_cancelled(online, caplog, seed):
    """Returned or logged, never both, never neither; what was refunded or rejected has no images to be lost."""
    chance = random.Random(seed)
    plan = FaultPlan(Fault("submit", "stall", stall_seconds=0.02, rate=0.3), seed=seed)
    async with online(limit=chance.randint(1, 8), faults=plan, client={"poll": 0.005}) as (emulator, client):
        asker = Asker(client)
        tasks = [
            asyncio.create_task(asker.ask(chance.choice(asker.ways), chance.choice(("a cat", "a fox", "[fail]"))))
            for _ in range(24)
        ]
        for task in tasks:
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.3), task.cancel)
        await asyncio.wait(tasks)
        tasks.clear()
        del task
        await client.idle()
        gc.collect()
        await asyncio.sleep(0)
        paid = [entry.generation_id for entry in emulator.ledger.charged() if entry.state == "completed"]
        heard = asker.told + Counter(logged(caplog, paid))
        assert {generation_id: heard[generation_id] for generation_id in paid} == dict.fromkeys(paid, 1)


# ---- what else is told of a job


async def test_credits_are_counted_from_the_acceptance(online):
    """Once, also of a job that nobody waits for; and less where its end tells of less."""
    async with online(limit=2, duration=math.inf) as (emulator, client):
        jobs = [await client.submit("a cat"), await client.submit("[fail]")]
        await client_has(client, credits_used=2)
        jobs[0].cancel()
        assert client.statistics().credits_used == 2
        emulator.finish()
        await client.idle()
        assert client.statistics().credits_used == 2
        jobs[1].charge(0)
        assert client.statistics().credits_used == 1


async def test_a_stored_error_is_raised_with_the_same_traceback_each_time(online):
    """It neither grows with each wait, nor keeps the frames of those that waited before."""

    async def wait_deep(job, depth):
        await (wait_deep(job, depth - 1) if depth else job.result())

    async with online() as (_, client):
        job = await client.submit("[fail]")
        lengths = []
        for depth in (0, 5, 0, 0):
            with pytest.raises(GenerationFailedError) as caught:
                await wait_deep(job, depth)
            lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
        assert lengths[0] == lengths[2] == lengths[3] == lengths[1] - 5


async def client_has(client, **numbers):
    """Wait until the statistics have these numbers."""
    async with asyncio.timeout(PATIENCE):
        while any(getattr(client.statistics(), name) != number for name, number in numbers.items()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
