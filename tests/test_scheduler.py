"""Who runs when: priorities, places, room in the queue, and what an account's refusal means for those behind."""

import asyncio
import contextvars
import math
from collections import Counter

import anyio
import pytest
from patience import PATIENCE

from nanobanana_async import (
    AccountLimiter,
    AuthenticationError,
    BlockedError,
    Client,
    ConfigurationError,
    InsufficientCreditsError,
    JobCancelledError,
    JobStatus,
    NanoBananaError,
    PermissionDeniedError,
    QueueFullError,
    RateLimit,
)
from nanobanana_async._scheduler import STARTS, Scheduler
from nanobanana_async._wall import MOST_IN_A_ROW
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


async def test_a_job_is_queued_at_once_also_outside_of_the_room_and_of_any_task(online, new_job):
    """Whoever can't wait, such as a callback of the loop, need not; nobody else is let in for that."""
    async with online(duration=math.inf, client={"max_queued": 1}) as (emulator, client):
        jobs = [new_job(name) for name in ("runs", "waits", "is outside")]
        for job in jobs:
            asyncio.get_running_loop().call_soon(client.enqueue_nowait, job)
        await emulator.until(lambda: emulator.ledger.active == 1)
        assert client.statistics().queued == 1
        with pytest.raises(QueueFullError, match="1 jobs wait already, which is max_queued; wait, or raise it"):
            await client.submit("one more", wait_for_room=False)
        emulator.duration = 0.005
        emulator.finish()
        await results_of(jobs)
        assert emulator.ledger.charged_prompts() == ["runs", "waits", "is outside"]


async def test_room_for_nobody_is_refused():
    """A queue without a place would wait forever; nobody knows what is more urgent than nan."""
    with pytest.raises(ConfigurationError, match="max_queued"):
        Client("nb_test", max_queued=0)
    with pytest.raises(ConfigurationError, match="ageing"):
        Client("nb_test", ageing=-1)


async def test_an_urgent_job_needs_no_room_to_get_the_next_slot(online):
    """Whoever waits for room is in the race for the next slot all the same."""
    async with online(duration=math.inf, client={"max_queued": 1}) as (emulator, client):
        jobs = [await client.submit("runs")]
        await emulator.until(lambda: emulator.ledger.active == 1)
        jobs.append(await client.submit("waits"))
        late = [asyncio.create_task(client.submit(name, priority=n)) for n, name in enumerate(("third", "urgent"))]
        await asyncio.sleep(0)
        emulator.duration = 0.005
        emulator.finish()
        await results_of(jobs + [await task for task in late])
        assert emulator.ledger.charged_prompts() == ["runs", "urgent", "waits", "third"]


async def test_whoever_stops_waiting_for_room_has_queued_nothing(online):
    """A caller that is cancelled meanwhile pays for nothing."""
    async with online(duration=math.inf, client={"max_queued": 1}) as (emulator, client):
        jobs = [await client.submit("runs")]
        await emulator.until(lambda: emulator.ledger.active == 1)
        jobs.append(await client.submit("waits"))
        late = asyncio.create_task(client.submit("not any more", priority=5))
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.wait((late,))
        assert late.cancelled()
        assert client.statistics().queued == 1
        emulator.duration = 0.005
        emulator.finish()
        await results_of(jobs)
        await client.idle()
        assert emulator.ledger.charged_prompts() == ["runs", "waits"]


async def test_a_full_queue_can_be_an_error(online):
    """It tells how long the wait would be; nothing is queued, sent or lost, and the others go on."""
    async with online(duration=0.03, client={"max_queued": 1}) as (emulator, client):
        await client.generate("tells how long they take")
        emulator.duration = math.inf
        running = await client.submit("runs")
        await emulator.until(lambda: emulator.ledger.active == 1)
        waiting = await client.submit("waits", wait_for_room=False)
        for ask in (client.submit, client.generate):
            with pytest.raises(QueueFullError, match="1 jobs wait already") as caught:
                await ask("one too many", wait_for_room=False)
        with pytest.raises(QueueFullError):
            async with client.stream("one too many", wait_for_room=False):
                pytest.fail("there is no room")
        error = caught.value
        assert error.retryable
        assert 0 < error.retry_after < error.expected_wait == client.expected_wait()
        assert client.statistics().queued == 1
        emulator.duration = 0.005
        emulator.finish()
        await results_of([running, waiting])
        assert emulator.ledger.charged_prompts() == ["tells how long they take", "runs", "waits"]


async def test_a_queue_is_not_full_while_slots_are_free(online):
    """Jobs submitted in one go may not have reached the slots that are there for them."""
    async with online(limit=4, duration=math.inf, client={"max_queued": 2, "max_concurrency": 4}) as (emulator, client):
        emulator.duration = 0.005
        await asyncio.gather(*(client.generate(f"learn {n}") for n in range(4)))
        emulator.duration = math.inf
        jobs = [await client.submit(f"cat {n}", wait_for_room=False) for n in range(6)]
        with pytest.raises(QueueFullError):
            await client.submit("one too many", wait_for_room=False)
        await emulator.until(lambda: emulator.ledger.active == 4)
        emulator.duration = 0.005
        emulator.finish()
        await results_of(jobs)


async def test_many_free_slots_are_filled_over_many_turns_of_the_loop(new_job):
    """Ten thousand jobs begun in one turn would hold up everything else for seconds."""
    turns, begun = 0, Counter()

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def begin(job, slot):
        begun[turns] += 1
        job.cancel()

    limiter = AccountLimiter()
    (await limiter.acquire()).accepted(RateLimit(limit=1000))
    scheduler, counting = Scheduler(limiter, begin), asyncio.create_task(count_turns())
    for number in range(300):
        await scheduler.enqueue(new_job(f"cat {number}"))
    serving = asyncio.create_task(scheduler.serve())
    await scheduler.idle()
    assert begun.total() == 300
    assert max(begun.values()) <= STARTS
    scheduler.stop()
    counting.cancel()
    await asyncio.wait((serving, counting))


async def test_a_job_that_need_not_wait_begins_in_the_next_turn_of_the_loop(new_job):
    """The dispatcher is not asked where a slot is free and nobody waits."""
    begun, tag = [], contextvars.ContextVar("tag", default="none")

    async def begin(job, slot):
        begun.append(tag.get())

    scheduler = Scheduler(AccountLimiter(), begin)
    serving = asyncio.create_task(scheduler.serve())
    await asyncio.sleep(0)
    tag.set("the caller's")
    for _ in range(2):
        await scheduler.enqueue(new_job("a cat"))
        await asyncio.sleep(0)
        assert begun.pop() == "none"  # whoever starts it, it runs in the same context
    scheduler.stop()
    await serving


class Asked(AccountLimiter):
    """Somebody's own way to hand out slots."""

    asked = 0

    async def acquire(self, *, priority=0):
        self.asked += 1
        return await super().acquire(priority=priority)


class Broken(AccountLimiter):
    """It works all the same when it is waited for."""

    def try_acquire(self):
        raise ZeroDivisionError


@pytest.mark.parametrize("limiter", [Asked(), Broken()])
async def test_a_limiter_that_can_not_be_tried_is_waited_for(new_job, limiter):
    """A subclass's `acquire` is never passed by."""
    tag, seen = contextvars.ContextVar("tag", default="none"), []

    async def begin(job, slot):
        seen.append(tag.get())

    scheduler = Scheduler(limiter, begin)
    serving = asyncio.create_task(scheduler.serve())
    await asyncio.sleep(0)
    tag.set("the caller's")
    for _ in range(3):
        await scheduler.enqueue(new_job("a cat"))
        await asyncio.wait_for(scheduler.idle(), PATIENCE)
    assert getattr(limiter, "asked", 3) == 3
    assert seen == ["none"] * 3
    scheduler.stop()
    await serving


class Stopping(AccountLimiter):
    """Its scheduler ends in the moment between a slot's grant and the job's first step."""

    async def acquire(self, *, priority=0):
        slot = await super().acquire(priority=priority)
        asyncio.get_running_loop().call_soon(self.end)
        return slot

    def try_acquire(self):
        slot = super().try_acquire() if self.at_once else None
        if slot is not None:
            asyncio.get_running_loop().call_soon(self.end)
        return slot


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("end", ["stop", "abort", "stop at once"])
async def test_a_job_that_has_not_begun_when_the_scheduler_ends_sends_nothing(new_job, end, at_once):
    """Its POST would go out all the same, being shielded from the stop; and its slot may be one of others as well."""
    begun = []

    async def begin(job, slot):
        begun.append(job)

    limiter = Stopping()
    scheduler = Scheduler(limiter, begin)
    ends = {"stop": scheduler.stop, "abort": scheduler.abort, "stop at once": lambda: None}
    limiter.at_once, limiter.end = at_once, ends[end]
    serving = asyncio.create_task(scheduler.serve())
    await asyncio.sleep(0)
    job = new_job("a cat")
    await scheduler.enqueue(job)
    if end == "stop at once":
        scheduler.stop()  # the job has its slot, or the dispatcher has been woken and will get it
    await asyncio.wait_for(serving, PATIENCE)
    assert not begun
    with pytest.raises(JobCancelledError, match="before it was submitted"):
        await job.result()
    assert limiter.statistics().submitting == 0


class Posting:
    """Jobs in the midst of their POSTs."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.answered = asyncio.Event()

    async def run(self, job, slot):
        self.begun.set()
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0.02)
            slot.accepted(RateLimit(limit=2))
            self.answered.set()
        await asyncio.Event().wait()  # for ever


async def test_what_a_callback_raises_interrupts_nobodys_submission(new_job, caplog):
    """It is logged, and the scheduler ends as if it had been stopped: each POST under way is answered first."""
    posting, limiter = Posting(), AccountLimiter()
    (await limiter.acquire()).accepted(RateLimit(limit=3))

    async def begin(job, slot):
        if job.request.prompt == "fails":
            raise NanoBananaError("no")
        await posting.run(job, slot)

    def burst(job):
        raise ValueError("a callback burst")

    scheduler = Scheduler(limiter, begin)
    serving = asyncio.create_task(scheduler.serve())
    good, bad = new_job("posts"), new_job("fails")
    for job in (good, bad):
        await scheduler.enqueue(job)
    bad.add_done_callback(burst)
    await asyncio.wait_for(serving, PATIENCE)
    assert posting.answered.is_set()
    assert "a callback burst" in caplog.text
    with pytest.raises(JobCancelledError):
        await good.result()


async def test_a_scheduler_that_is_cancelled_lets_submissions_end(new_job):
    """Cancelling its task stops it, and no more than that."""
    posting = Posting()
    scheduler = Scheduler(AccountLimiter(), posting.run)
    serving = asyncio.create_task(scheduler.serve())
    job = new_job("a cat")
    await scheduler.enqueue(job)
    await posting.begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert posting.answered.is_set()
    with pytest.raises(JobCancelledError):
        await job.result()


class Failing(AccountLimiter):
    """Gives one slot, then breaks, once that one's job has begun."""

    def __init__(self):
        super().__init__()
        self.begun = asyncio.Event()

    async def acquire(self, *, priority=0):
        if self.statistics().submitting:
            await self.begun.wait()
            raise OSError("the limiter broke")
        return await super().acquire(priority=priority)


async def test_a_scheduler_that_breaks_lets_shielded_work_end(new_job, caplog):
    """What is in the midst of a POST is paid; the others learn that nobody serves them."""
    limiter, answered = Failing(), asyncio.Event()

    async def begin(job, slot):
        limiter.begun.set()
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0.01)
            answered.set()
        await asyncio.Event().wait()  # for ever

    scheduler = Scheduler(limiter, begin)
    jobs = [new_job("a cat"), new_job("a dog")]
    for job in jobs:
        await scheduler.enqueue(job)
    await asyncio.wait_for(scheduler.serve(), PATIENCE)
    assert answered.is_set()
    assert "the limiter broke" in caplog.text
    assert all(isinstance(error, JobCancelledError) for error in await results_of(jobs))


class Noted(AccountLimiter):
    """Slots that may be shared with others; it writes down how urgently they are asked for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = []

    async def acquire(self, *, priority=0):
        self.asked.append(priority)
        return await super().acquire(priority=priority)


async def test_a_slot_is_asked_for_with_the_priority_of_the_most_urgent(online):
    """A limiter that many processes share must know; also when a more urgent job comes while it is asked."""
    limiter = Noted()
    async with online(duration=math.inf, client={"limiter": limiter}) as (emulator, client):
        jobs = [await client.submit("runs", priority=1)]
        await emulator.until(lambda: emulator.ledger.active == 1)
        for name, priority in (("low", -2), ("high", 3), ("middle", 2)):
            jobs.append(await client.submit(name, priority=priority))
            for _ in range(5):  # turns of the loop until the limiter is asked
                await asyncio.sleep(0)
        assert limiter.asked == [1, -2, 3]
        emulator.duration = 0.002
        emulator.finish()
        await results_of(jobs)
        assert limiter.asked == [1, -2, 3, 2, -2]
        assert emulator.ledger.charged_prompts() == ["runs", "high", "middle", "low"]
        assert limiter.statistics().submitting == 0


# ---- what is told of the queue


async def test_a_job_tells_its_position(online):
    """How many go before it; None before it is queued, and once it has its slot."""
    async with online(duration=math.inf) as (emulator, client):
        running = await client.submit("runs")
        await emulator.until(lambda: emulator.ledger.active == 1)
        jobs = [await client.submit(name) for name in ("a", "b", "c")]
        urgent = await client.submit("urgent", priority=1)
        assert [job.position for job in (running, urgent, *jobs)] == [None, 0, 1, 2, 3]
        jobs[0].cancel()
        assert [job.position for job in jobs] == [None, 1, 2]
        emulator.duration = 0.005
        emulator.finish()
        await results_of([running, urgent, *jobs])
        assert {job.position for job in jobs} == {None}


async def test_the_expected_wait_grows_with_the_queue(online):
    """From the queue ahead, the slots, and how long they were held; unknown until one has been."""
    async with online(duration=math.inf, limit=2) as (emulator, client):
        assert client.expected_wait() == 0.0
        first = [await client.submit("a"), await client.submit("b")]
        await emulator.until(lambda: emulator.ledger.active == 2)
        assert client.expected_wait() is None
        assert client.slot_interval == 10.0 / 2  # as long as a generation takes at least
        emulator.finish()
        await results_of(first)
        jobs = [await client.submit(f"cat {n}") for n in range(6)]
        await emulator.until(lambda: emulator.ledger.active == 2)
        mean = client.expected_wait(priority=1) * 2 / 0.5
        assert client.expected_wait() == pytest.approx(4.5 * mean / 2)
        assert client.slot_interval == pytest.approx(mean / 2)
        assert client.expected_wait(group="has no slot yet") == pytest.approx(0.5 * mean / 2)
        for job in jobs:
            job.cancel()


async def test_cancelled_jobs_have_failed_in_nobodys_eyes(online):
    """They have a number of their own."""
    async with online(duration=math.inf) as (emulator, client):
        running, waiting = await client.submit("runs"), await client.submit("waits")
        await emulator.until(lambda: emulator.ledger.active == 1)
        running.cancel()
        waiting.cancel()
        now = client.statistics()
        assert (now.cancelled, now.failed, now.completed, now.abandoned) == (2, 0, 0, 1)
        emulator.finish()


# ---- groups, and batches behind


async def test_a_small_group_does_not_wait_behind_a_large_one(online):
    """They share the slots evenly while both have work."""
    async with online(duration=math.inf) as (emulator, client):
        jobs = [await client.submit("runs", group="many")]
        await emulator.until(lambda: emulator.ledger.active == 1)
        jobs += [await client.submit(f"many {n}", group="many") for n in range(5)]
        jobs += [await client.submit(f"few {n}", group="few") for n in range(2)]
        emulator.duration = 0.002
        emulator.finish()
        await results_of(jobs)
        order = [prompt.split()[0] for prompt in emulator.ledger.charged_prompts()]
        assert order == ["runs", "many", "few", "many", "few", "many", "many", "many"]


async def test_an_interactive_job_beside_a_map_gets_the_next_free_slot(online):
    """And costs the map no more than that slot, without anybody having named a priority."""
    async with online(limit=2, duration=0.01) as (emulator, client):
        async with client.map(f"row {n}" for n in range(120)) as outcomes:
            taken = 0
            async for _ in outcomes:
                taken += 1
                if taken % 10 == 0:
                    before = emulator.ledger.charges
                    await client.generate(f"urgent after {before}")
        charged = emulator.ledger.charged_prompts()
        urgent = [(place, int(prompt.split()[-1])) for place, prompt in enumerate(charged) if "urgent" in prompt]
        assert len(urgent) == 12
        assert all(place <= before + 2 for place, before in urgent)  # a POST for each slot may have been on its way


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


async def test_one_dear_job_does_not_fail_the_cheap_ones_of_others(online):
    """It alone is too dear for the balance; whoever waits behind is sent, and has its images."""
    async with online(credits=5, limit=1) as (emulator, client):
        dear = {"model": "nanobanan-2-4k", "quantity": 4}
        jobs = [await client.submit("first", group="ann")]
        jobs += [await client.submit(f"dear {number}", group="bob", **dear) for number in range(2)]
        jobs += [await client.submit(f"cheap {number}", group="ann") for number in range(3)]
        errors = [error for error in await results_of(jobs) if isinstance(error, Exception)]
        assert [type(error) for error in errors] == [InsufficientCreditsError] * 2
        assert [str(error).startswith("not sent") for error in errors] == [False, True]
        assert emulator.ledger.charged_prompts() == ["first", "cheap 0", "cheap 1", "cheap 2"]


async def test_a_model_without_access_fails_the_jobs_of_that_model_only(online):
    """`requiresPro` may be its reason: each model finds out for itself, with one request."""
    async with online(access=False) as (emulator, client):
        models = ("nanobanan2&pro", "nanobanan2&pro", None, "nano-banana")
        jobs = [await client.submit("a cat", model=model) for model in models]
        errors = await results_of(jobs)
        assert [type(error) for error in errors] == [PermissionDeniedError] * 4
        assert emulator.ledger.requests["POST /generate"] == 2


async def test_a_wall_that_stands_for_a_moment_fails_nobody(online):
    """Others were let in before: it is tried again, as what never left is, and nothing is charged twice."""
    plan = FaultPlan(Fault("submit", "html_wall", after=1, times=3))
    async with online(faults=plan, limit=3) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(6)]
        assert await results_of(jobs) == [job.generation for job in jobs]
        assert emulator.ledger.charges == 6
        assert plan.fired == {"submit:html_wall": 3}


async def test_a_wall_before_one_prompt_fails_that_job_alone(online):
    """A firewall may dislike a prompt; those behind have nothing to do with it."""
    async with online(faults=FaultPlan(Fault("submit", "html_wall", prompt="<script>")), limit=1) as (emulator, client):
        prompts = ["one", "<script>", "two", "three"]
        jobs = [await client.submit(prompt) for prompt in prompts]
        errors = await results_of(jobs)
        assert [isinstance(error, BlockedError) for error in errors] == [False, True, False, False]
        assert emulator.ledger.charged_prompts() == ["one", "two", "three"]


async def test_a_wall_that_stays_fails_those_behind_unsent(online):
    """After some in a row that were not let in, though others were before."""
    async with online(faults=FaultPlan(Fault("submit", "html_wall", after=1)), limit=1) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(12)]
        errors = await results_of(jobs)
        sent = [str(error).startswith("not sent") for error in errors]
        assert sent == [False] * (1 + MOST_IN_A_ROW) + [True] * (11 - MOST_IN_A_ROW)
        assert emulator.ledger.charges == 1


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
