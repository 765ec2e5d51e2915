"""The contract of limiters, for each of them: whoever shares an account shares its slots, its limit, its pauses."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from patience import PATIENCE

from nanobanana_async import AccountLimiter, RateLimit, RateLimitError, ServerBusyError

pytestmark = [
    pytest.mark.usefixtures("leaks_nothing"),
    pytest.mark.parametrize("limiters", ["in process", "sqlite", "redis"], indirect=True),
]

NOTHING = RateLimit()


async def acquire(limiter: Any, **options: Any) -> Any:
    return await asyncio.wait_for(limiter.acquire(**options), PATIENCE)


async def full(limiter: Any, limit: int) -> list[Any]:
    """All of an announced limit's slots, running."""
    slots = []
    for _ in range(limit):
        slots.append(await acquire(limiter))
        slots[-1].accepted(RateLimit(limit=limit))
    return slots


async def caught_up(*limiters: Any) -> None:
    """Each has told the others what it had to tell, and heard what they had."""
    for _ in range(2):
        for limiter in limiters:
            if isinstance(limiter, AccountLimiter):
                await wait_all_tasks_blocked()
            else:
                await limiter.open()
                for _ in range(2):  # one turn may be under way
                    turn = limiter._changed
                    limiter._keeper.poke()
                    await asyncio.wait_for(turn.wait(), PATIENCE)
    await asyncio.sleep(0)


async def waiter(limiter: Any, *others: Any, **options: Any) -> asyncio.Task[Any]:
    """Somebody who waits for a slot by now."""
    task = asyncio.create_task(limiter.acquire(**options))
    await asyncio.sleep(0)
    await caught_up(limiter, *others)
    return task


def held(limiter: Any) -> tuple[int, int, int]:
    now = limiter.statistics()
    return now.running, now.submitting, now.forsaken


async def test_who_is_let_go_of_while_it_opens_leaves_it_usable(limiters: Any) -> None:
    """The first job asks for a slot, which opens the limiter; a more urgent one lets it ask anew."""
    limiter = limiters()
    for turns in range(3):
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            for _ in range(turns):
                await asyncio.sleep(0)
            slot = await limiter.acquire()
            slot.release()
    (await acquire(limiter, priority=5)).release()


async def test_a_free_slot_is_taken_at_once(limiters) -> None:
    """Nobody waits for what is there."""
    slot = await acquire(limiters())
    assert not slot.running


async def test_with_nothing_known_one_goes_at_a_time(limiters) -> None:
    """An acceptance lets the next one go, wherever it waits."""
    one, two = limiters(), limiters()
    first = await acquire(one)
    waiting = [await waiter(two, one) for _ in range(2)]
    assert not any(task.done() for task in waiting)
    first.accepted(NOTHING)
    await asyncio.wait(waiting, return_when="FIRST_COMPLETED", timeout=PATIENCE)
    assert sum(task.done() for task in waiting) == 1
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


@pytest.mark.parametrize("way", ["release", "refuse", "withdraw", "announce"])
async def test_whoever_waits_elsewhere_is_woken_by_any_change(limiters, way: str) -> None:
    """An end, a submission that took nothing, or a larger limit."""
    one, two = limiters(), limiters()
    slots = await full(one, 2)
    if way in ("refuse", "withdraw"):
        slots[0].release()
        slots[0] = await acquire(one)
    waiting = await waiter(two, one)
    assert not waiting.done()
    if way == "announce":
        slots[0].observed(RateLimit(limit=3))
    elif way == "refuse":
        slots[0].refused(RateLimitError("no", limit=2, active=1, retry_after=0.01))
    else:
        slots[0].release()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_a_cancelled_waiter_has_taken_nothing(limiters) -> None:
    """The slot goes to the next one."""
    one, two = limiters(), limiters()
    (slot,) = await full(one, 1)
    first, second = await waiter(two, one), await waiter(one, two)
    slot.release()
    first.cancel()
    await asyncio.wait_for(second, PATIENCE)
    await caught_up(one, two)
    assert first.cancelled()
    assert held(one) == (0, 1, 0)
    if two is not one:
        assert held(two) == (0, 0, 0)
        assert two.statistics().others == 1


@pytest.mark.parametrize("moment", range(6))
async def test_a_waiter_cancelled_at_any_moment_leaves_the_slot_to_others(limiters, moment: int) -> None:
    """Also while it is being handed out."""
    one, two = limiters(), limiters()
    (slot,) = await full(one, 1)
    waiting = await waiter(two, one)
    slot.release()
    await asyncio.sleep(moment / 2000)
    waiting.cancel()
    await asyncio.wait((waiting,))
    taken = waiting.result() if not waiting.cancelled() else await acquire(one)
    taken.release()
    await caught_up(one, two)
    assert held(one) == held(two) == (0, 0, 0)


async def test_a_forsaken_slot_counts_for_its_time(limiters) -> None:
    """Nobody sees its end; time alone frees it, for everybody."""
    one, two = limiters(), limiters()
    (slot,) = await full(one, 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    slot.forsake(0.4)
    await caught_up(one, two)
    await acquire(two)
    assert loop.time() - began >= 0.4
    await caught_up(one, two)
    assert one.statistics().forsaken == 0


async def test_a_pause_holds_everybody(limiters) -> None:
    """After a refusal nobody goes before its Retry-After."""
    one, two = limiters(), limiters()
    slot, loop = await acquire(one), asyncio.get_running_loop()
    began = loop.time()
    slot.refused(RateLimitError("no", limit=9, active=0, retry_after=0.4))
    await acquire(two)
    assert loop.time() - began >= 0.4
    assert one.statistics().refusals == 1


async def test_giving_back_twice_does_nothing(limiters) -> None:
    """A `finally` may release what was refused, forsaken or released before."""
    one, two = limiters(), limiters()
    slots = await full(one, 3)
    slots[0].release()
    slots[1].forsake(60.0)
    slots[2].refused(ServerBusyError("busy"))
    for slot in slots:
        slot.release()
        slot.forsake(60.0)
    await caught_up(one, two)
    assert held(one) == (0, 0, 1)
    assert one.statistics().refusals == 1


async def test_accepted_twice_counts_once(limiters) -> None:
    """The second time only its headers count."""
    one, two = limiters(), limiters()
    slot = await acquire(one)
    slot.accepted(NOTHING)
    slot.accepted(RateLimit(limit=4))
    await caught_up(one, two)
    assert held(one) == (1, 0, 0)
    assert two.statistics().limit == 4


async def test_what_one_learns_all_know(limiters) -> None:
    """The limit, and what strangers hold of it."""
    one, two = limiters(), limiters()
    slot = await acquire(one)
    slot.accepted(RateLimit(limit=5, active=3))
    await caught_up(one, two)
    assert two.statistics().limit == 3
    assert two.statistics().scope == one.statistics().scope


async def test_open_requests_are_shared_out_where_they_are_what_counts(limiters) -> None:
    """Each process opens its share of them."""
    one, two = limiters(scope="request"), limiters(scope="request")
    (await acquire(one)).accepted(RateLimit(limit=4))
    await caught_up(one, two)
    width = one._gate.width if one is two else one.gate.width + two.gate.width
    assert width == 4
    slot = await acquire(two)
    async with slot.request():
        assert two.statistics().open_requests == 1
    assert two.statistics().scope == "request"


async def test_many_waiters_never_exceed_the_limit_and_all_get_through(limiters) -> None:
    """However they are woken, cancelled and released, and wherever they are."""
    both, running, most, through = (limiters(), limiters()), 0, 0, 0
    first = await acquire(both[0])
    first.accepted(RateLimit(limit=4))
    first.release()

    async def job(number: int) -> None:
        nonlocal running, most, through
        async with both[number % 2].slot() as slot:
            slot.accepted(RateLimit(limit=4))
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
        through += 1
        if number % 7 == 0:
            tasks[-1].cancel()

    tasks = [asyncio.create_task(job(number)) for number in range(60)]
    await asyncio.wait_for(asyncio.wait(tasks), PATIENCE)
    assert through >= 59
    assert most <= 4
    await caught_up(*both)
    assert held(both[0]) == held(both[1]) == (0, 0, 0)


async def test_ones_own_ceiling_holds(limiters) -> None:
    """Below the account's limit; in the other processes it says nothing."""
    one = limiters(max_concurrency=2)
    slots = await full(one, 2)
    slots[0].observed(RateLimit(limit=5))
    waiting = await waiter(one)
    assert not waiting.done()
    assert one.statistics().limit == 2
    slots[0].release()
    await asyncio.wait_for(waiting, PATIENCE)


@pytest.mark.parametrize("options", [{"max_concurrency": 0}, {"scope": "galaxy"}])
async def test_nonsense_is_refused(limiters, options) -> None:
    """At once, not when the first job waits for ever."""
    with pytest.raises(ValueError, match="must be"):
        limiters(**options)


async def test_its_repr_shows_the_live_numbers(limiters) -> None:
    """`?` while the limit is still being found."""
    limiter = limiters()
    assert repr(limiter).endswith("Limiter [slots: 0/?]>")
    await full(limiter, 3)
    await caught_up(limiter)
    assert repr(limiter).endswith("Limiter [slots: 3/3]>")
