"""Slots to wait for: who waits is woken, who leaves has taken none, and time is an argument."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from patience import PATIENCE

from nanobanana_async import AccountLimiter, RateLimit, RateLimitError, ServerBusyError, Slot

NOTHING = RateLimit()


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter_of(clock: Clock, max_concurrency: int | None = None) -> AccountLimiter:
    return AccountLimiter(max_concurrency=max_concurrency, clock=clock)


async def full(limiter: AccountLimiter, limit: int) -> list[Slot]:
    """All of an announced limit's slots, running."""
    slots = []
    for _ in range(limit):
        slot = await limiter.acquire()
        slot.accepted(RateLimit(limit=limit))
        slots.append(slot)
    return slots


async def waiter(limiter: AccountLimiter, priority: float = 0) -> asyncio.Task[Slot]:
    """Somebody who waits for a slot by now."""
    task = asyncio.create_task(limiter.acquire(priority=priority))
    await wait_all_tasks_blocked()
    return task


async def test_a_free_slot_is_taken_at_once(clock: Clock) -> None:
    """Nobody waits for what is there."""
    slot = await limiter_of(clock).acquire()
    assert not slot.running


async def test_an_acceptance_lets_the_next_one_go(clock: Clock) -> None:
    """Nothing announced: one at a time, each yes permits one more."""
    limiter = limiter_of(clock)
    first = await limiter.acquire()
    second = await waiter(limiter)
    assert not second.done()
    first.accepted(NOTHING)
    assert not (await second).running
    assert first.running


@pytest.mark.parametrize("way", ["release", "announce", "withdraw"])
async def test_whoever_waits_is_woken_by_any_change(clock: Clock, way: str) -> None:
    """An end, a larger limit, or a slot that was not used after all."""
    limiter = limiter_of(clock)
    slots = await full(limiter, 2)
    if way == "withdraw":
        slots[0].release()
        slots[0] = await limiter.acquire()
    waiting = await waiter(limiter)
    if way == "announce":
        slots[0].observed(RateLimit(limit=3))
    else:
        slots[0].release()
    await waiting
    assert limiter.statistics().submitting == 1


async def test_a_cancelled_waiter_has_taken_nothing(clock: Clock) -> None:
    """And leaves no trace among those who wait."""
    limiter = limiter_of(clock)
    (slot,) = await full(limiter, 1)
    waiting = await waiter(limiter)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    slot.release()
    assert limiter.statistics().submitting == limiter.statistics().running == 0
    assert not limiter._line


async def test_a_waiter_cancelled_while_it_is_woken_passes_the_slot_on(clock: Clock) -> None:
    """The slot that would have been its own goes to the next one."""
    limiter = limiter_of(clock)
    (slot,) = await full(limiter, 1)
    first, second = await waiter(limiter), await waiter(limiter)
    slot.release()
    first.cancel()
    await second
    assert limiter.statistics().submitting == 1
    assert first.cancelled()


async def test_the_most_urgent_goes_first_then_the_oldest(clock: Clock) -> None:
    """Several clients may share a limiter; one that was passed over is not sent to the end."""
    limiter = limiter_of(clock)
    (slot,) = await full(limiter, 1)
    waiting = {name: await waiter(limiter, priority) for name, priority in (("a", 0), ("b", 0), ("c", 5), ("d", -1))}
    for expected in "cabd":
        slot.release()
        await wait_all_tasks_blocked()
        (name,) = [name for name, task in waiting.items() if task.done()]
        assert name == expected
        slot = await waiting.pop(name)
        slot.accepted(RateLimit(limit=1))
    assert not limiter._line


async def test_who_comes_late_does_not_slip_in(clock: Clock) -> None:
    """A slot is given to who waits in the moment that it is free, whoever runs first then."""
    limiter = limiter_of(clock)
    (slot,) = await full(limiter, 1)
    waiting = await waiter(limiter)
    slot.release()
    late = asyncio.create_task(limiter.acquire(priority=9))
    assert limiter.try_acquire() is None
    await wait_all_tasks_blocked()
    assert (waiting.done(), late.done()) == (True, False)
    late.cancel()


async def test_who_is_passed_over_rises(clock: Clock) -> None:
    """Two clients may share a limiter: the batch of one must not wait for ever beside the other's urgent jobs."""
    limiter = limiter_of(clock)
    (slot,) = await full(limiter, 1)
    patient = await waiter(limiter, priority=-1)
    passed_over = 0
    while True:
        urgent = await waiter(limiter)
        slot.release()
        await wait_all_tasks_blocked()
        if patient.done():
            break
        slot = await asyncio.wait_for(urgent, PATIENCE)
        slot.accepted(RateLimit(limit=1))
        passed_over += 1
    assert passed_over in (10, 11)  # a tenth of a point each
    urgent.cancel()


def test_a_loop_that_ended_leaves_nobody_in_line() -> None:
    """Whoever waited there waits no more, nor does an alarm ring there."""
    limiter = AccountLimiter(max_concurrency=1, scope="generation", uniform=lambda low, high: high)
    waiting: list[asyncio.Task[Slot]] = []

    async def left() -> None:
        (await limiter.acquire()).forsake(0.05)  # an alarm
        waiting.append(asyncio.create_task(limiter.acquire()))
        await checkpoint()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(left())
    loop.close()

    async def again() -> None:
        slot = await asyncio.wait_for(limiter.acquire(), PATIENCE)
        slot.release()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(again())
    loop.close()
    assert limiter.statistics().submitting == 0
    with suppress(RuntimeError):  # asyncio tells of a pending task that is thrown away
        waiting[0].cancel()


async def test_time_alone_lets_a_waiter_go(clock: Clock) -> None:
    """A forsaken slot's deadline needs nobody's call."""
    limiter = limiter_of(clock)
    (slot,) = await full(limiter, 1)
    slot.forsake(14.0)
    clock.now += 13.999
    waiting = asyncio.create_task(limiter.acquire())
    await checkpoint()
    assert not waiting.done()
    clock.now += 0.002
    await asyncio.wait_for(waiting, PATIENCE)
    assert limiter.statistics().forsaken == 0


async def test_a_cool_down_holds_everybody(clock: Clock) -> None:
    """After a refusal nobody goes before its Retry-After, however often they are woken."""
    limiter = limiter_of(clock)
    (await limiter.acquire()).refused(RateLimitError("no", limit=9, active=0, retry_after=5.0))
    waiting = await waiter(limiter)
    for passed, gone in ((4.9, False), (1.1, True)):
        clock.now += passed
        limiter._changed()
        await wait_all_tasks_blocked()
        assert waiting.done() is gone


async def test_a_look_lets_the_question_be_asked_that_waits_for_it(clock: Clock) -> None:
    """At a limit of one, what holds the slot is asked once a look has shown that the generation runs."""
    limiter = limiter_of(clock)
    (slot,) = await full(limiter, 1)
    waiting = await waiter(limiter)
    clock.now += 2.0
    limiter._changed()
    await wait_all_tasks_blocked()
    assert not waiting.done()
    slot.looked(RateLimit(), running=True)
    await wait_all_tasks_blocked()
    assert waiting.done()


async def test_giving_back_twice_does_nothing(clock: Clock) -> None:
    """A `finally` may release what was refused, forsaken or released before."""
    limiter = limiter_of(clock)
    one, two, three = await full(limiter, 3)
    one.release()
    two.forsake(10.0)
    three.refused(ServerBusyError("busy"))
    for slot in (one, two, three):
        slot.release()
        slot.forsake(10.0)
    now = limiter.statistics()
    assert (now.running, now.submitting, now.forsaken, now.refusals) == (0, 0, 1, 1)


async def test_accepted_twice_counts_once(clock: Clock) -> None:
    """A blocking call is presumed accepted before its answer says so; the answer's headers still count."""
    limiter = limiter_of(clock)
    slot = await limiter.acquire()
    slot.accepted(NOTHING)
    slot.accepted(RateLimit(limit=4))
    now = limiter.statistics()
    assert (now.running, now.submitting, now.limit) == (1, 0, 4)


async def test_an_answer_to_a_slot_given_back_moves_nothing(clock: Clock) -> None:
    """A late presumption must not make a slot run that nobody holds."""
    limiter = limiter_of(clock)
    slot = await limiter.acquire()
    slot.release()
    slot.accepted(NOTHING)
    assert not slot.running
    assert limiter.statistics().running == 0


async def test_a_refusal_tells_its_numbers(clock: Clock) -> None:
    """Limit and active of a 429 reach the admission; a 503 has none."""
    limiter = limiter_of(clock)
    (await limiter.acquire()).refused(RateLimitError("no", limit=5, active=4))
    now = limiter.statistics()
    assert (now.limit, now.others, now.refusals) == (1, 4, 1)
    assert now.cool_down > 0


async def test_a_lost_answer_counts_as_running_and_cools_down(clock: Clock) -> None:
    """The submission may have been taken, and the next one may be lost as well."""
    limiter = limiter_of(clock)
    (await limiter.acquire()).forsake(14.0)
    now = limiter.statistics()
    assert (now.submitting, now.forsaken) == (0, 1)
    assert now.cool_down > 0


async def test_a_block_gives_its_slot_back_whatever_happens(clock: Clock) -> None:
    """Also when it ends in an error."""
    limiter = limiter_of(clock)
    with suppress(ZeroDivisionError):
        async with limiter.slot() as slot:
            slot.accepted(NOTHING)
            raise ZeroDivisionError
    assert limiter.statistics().running == 0


async def test_many_waiters_never_exceed_the_limit(clock: Clock) -> None:
    """However they are woken, cancelled and released."""
    limiter, running, most = limiter_of(clock), 0, 0

    async def job(number: int) -> None:
        nonlocal running, most
        async with limiter.slot() as slot:
            slot.accepted(RateLimit(limit=4))
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
        if number % 7 == 0:
            tasks[-1].cancel()

    tasks = [asyncio.create_task(job(number)) for number in range(60)]
    await asyncio.wait(tasks)
    assert most == 4
    assert limiter.statistics().running == limiter.statistics().submitting == 0


@pytest.mark.parametrize("most", [0, -1])
def test_a_ceiling_of_nothing_is_refused(most: int) -> None:
    """Nothing would ever run."""
    with pytest.raises(ValueError, match="at least 1"):
        AccountLimiter(max_concurrency=most)


async def test_its_repr_shows_the_live_numbers(clock: Clock) -> None:
    """`?` while the limit is still being found."""
    limiter = limiter_of(clock)
    assert repr(limiter) == "<AccountLimiter [slots: 0/?]>"
    await full(limiter, 3)
    assert repr(limiter) == "<AccountLimiter [slots: 3/3]>"
