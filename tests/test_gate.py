"""Open requests: never more than the width, submissions first, and who is cancelled was never open."""

from __future__ import annotations

import asyncio
import random

from anyio import wait_all_tasks_blocked

from nanobanana_async._gate import Gate


async def test_without_a_width_nobody_waits() -> None:
    """They are only counted."""
    gate = Gate()
    async with gate.request(), gate.request(submission=True):
        assert gate.open == 2
    assert gate.open == 0


async def test_submissions_go_before_looks_and_looks_in_order() -> None:
    """A submission fills a slot that stands idle."""
    gate, order = Gate(), []
    gate.width = 1

    async def ask(name: str) -> None:
        async with gate.request(submission=name.startswith("post")):
            order.append(name)

    async with gate.request():
        tasks = [asyncio.create_task(ask(name)) for name in ("look 1", "look 2", "post 1")]
        await wait_all_tasks_blocked()
    await asyncio.wait(tasks)
    assert order == ["post 1", "look 1", "look 2"]


async def test_a_gate_that_widens_lets_more_in() -> None:
    """Those who wait need no further call."""
    gate = Gate()
    gate.width = 1
    async with gate.request():
        waiting = asyncio.create_task(gate.turn(False))
        await wait_all_tasks_blocked()
        assert not waiting.done()
        gate.width = None
        await waiting
        assert gate.open == 2


async def test_one_cancelled_as_it_is_let_in_passes_its_turn_on() -> None:
    """The next one goes."""
    gate = Gate()
    gate.width = 1
    assert gate.enter()
    first, second = (asyncio.create_task(gate.turn(False)) for _ in range(2))
    await wait_all_tasks_blocked()
    gate.leave()
    first.cancel()
    await second
    assert (first.cancelled(), gate.open) == (True, 1)


async def test_random_cancellations_leak_nothing() -> None:
    """Whatever the order: never above the width, and back to nothing."""
    gate, most, dice = Gate(), 0, random.Random(1)
    gate.width = 3

    async def ask() -> None:
        nonlocal most
        async with gate.request(submission=dice.random() < 0.3):
            most = max(most, gate.open)
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(ask()) for _ in range(300)]
    while not all(task.done() for task in tasks):
        dice.choice(tasks).cancel()
        await asyncio.sleep(0)
    assert (most, gate.open, gate._waiting) == (3, 0, [])


async def test_a_request_knows_whether_it_was_alone() -> None:
    """No other was open when it began, nor began before it ended."""
    gate = Gate()
    async with gate.request() as first:
        assert first.alone
        async with gate.request() as second:
            assert not second.alone
        assert not first.alone
    async with gate.request() as third:
        assert third.alone
