"""One unanswered submission at a time, if slots can wait: who may pass, who is alone, and that nobody is ever stuck."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from patience import PATIENCE
from running import IN_A_HURRY, run

from nanobanana_async.batch._patience import Patience
from nanobanana_async.batch._turnstile import Turnstile

LONG, SHORT = 3600.0, 0.01


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_at_a_time():
    """The second enters when the first has left."""
    turnstile = Turnstile(lambda: LONG)
    first = await turnstile.enter()
    second = asyncio.create_task(turnstile.enter())
    await settled()
    assert not second.done()
    turnstile.leave(first)
    turn = await second
    assert first.alone
    assert turn.alone
    turnstile.leave(first)  # long gone: takes nobody's place
    third = asyncio.create_task(turnstile.enter())
    await settled()
    assert not third.done()
    turnstile.leave(turn)
    turnstile.leave(await third)


async def test_who_gives_up_waiting_leaves_no_trace():
    """Cancelled in the queue, the next one gets the turn."""
    turnstile = Turnstile(lambda: LONG)
    first = await turnstile.enter()
    impatient, patient = (asyncio.create_task(turnstile.enter()) for _ in range(2))
    await settled()
    impatient.cancel()
    await settled()
    turnstile.leave(first)
    turnstile.leave(await patient)


async def test_an_overdue_one_is_passed_and_neither_is_alone():
    """From then on, no answer's balance tells of one submission only."""
    turnstile = Turnstile(lambda: SHORT)
    slow = await turnstile.enter()
    passing = await turnstile.enter()
    assert not slow.alone
    assert not passing.alone
    turnstile.leave(slow)
    turnstile.leave(passing)
    last = await turnstile.enter()
    assert last.alone
    turnstile.leave(last)


async def test_an_overdue_one_that_nobody_passes_is_alone():
    """All slots are taken, say: then its answer's balance still tells of it only."""
    turnstile = Turnstile(lambda: SHORT)
    overdue = asyncio.Event()
    slow = await turnstile.enter(on_overdue=overdue.set)
    await overdue.wait()
    assert slow.alone
    turnstile.leave(slow)


@pytest.mark.parametrize(
    ("slot_interval", "expected"),
    [(math.inf, 10.0), (60.0, 10.0), (12.0, 6.0), (0.4, 0.2), (0.04, 0.05), (0.0, 0.05)],
)
def test_a_submission_holds_up_the_others_as_long_as_slots_can_wait(slot_interval, expected):
    """Within two bounds: answers that come at once are not worth passing, and some never come."""
    assert Patience(answer_timeout=10.0, overtake_delay=0.05).hold_up(slot_interval) == pytest.approx(expected)


async def test_slow_answers_leave_no_slot_empty(online, tmp_path):
    """Six slots are free and no answer comes: all six are used, and what is answered later is all recorded."""
    async with online(limit=6) as (emulator, client):
        await client.generate("tells of the limit, and how short generations are")
        emulator.latency = 1.0
        summary = await run(client, tmp_path, 6, patience=replace(IN_A_HURRY, overtake_delay=0.05))
        assert summary.all_stored
        assert emulator.ledger.charges == 1 + summary.credits_used == 7
    with closing(sqlite3.connect(tmp_path / "batch.db")) as journal:
        steps = [state for (state,) in journal.execute("SELECT state FROM attempt ORDER BY id")]
    assert steps.index("running") == 6


async def test_a_judgement_keeps_the_place_it_has():
    """However long it takes: nobody enters within."""
    turnstile = Turnstile(lambda: SHORT)
    turn = await turnstile.enter()
    async with turnstile.alone(turn):
        entering = asyncio.create_task(turnstile.enter())
        await asyncio.sleep(5 * SHORT)
        assert not entering.done()
    turnstile.leave(turn)
    turnstile.leave(await entering)


async def test_an_overtaken_one_waits_until_nothing_is_on_its_way():
    """Its judgement comes after the answers of those that passed, and before anybody else."""
    turnstile = Turnstile(lambda: SHORT)
    slow = await turnstile.enter()
    passing = await turnstile.enter()
    judged = asyncio.Event()

    async def judge():
        async with turnstile.alone(slow):
            judged.set()

    judging = asyncio.create_task(judge())
    await settled()
    assert not judged.is_set()
    turnstile.leave(passing)
    await judging
    turnstile.leave(await turnstile.enter())


async def test_two_in_doubt_do_not_wait_for_each_other():
    """Both are unanswered for good: they are judged together, not one after the other's answer."""
    turnstile = Turnstile(lambda: SHORT)
    turns = [await turnstile.enter() for _ in range(3)]

    async def judge(turn):
        async with turnstile.alone(turn):
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*map(judge, turns)), PATIENCE)
    turnstile.leave(await turnstile.enter())


async def test_a_judgement_that_is_cancelled_lets_the_others_through():
    """While it waits, and while it judges."""
    turnstile = Turnstile(lambda: LONG)
    turn = await turnstile.enter()
    with pytest.raises(RuntimeError):
        async with turnstile.alone(turn):
            raise RuntimeError
    slow = await turnstile.enter()
    turnstile._overtake(slow)
    passing = await turnstile.enter()

    async def judge():
        async with turnstile.alone(slow):
            pass

    judging = asyncio.create_task(judge())
    await settled()
    judging.cancel()
    await settled()
    turnstile.leave(passing)
    turnstile.leave(await asyncio.wait_for(turnstile.enter(), PATIENCE))


# ---- the doorway


def lined_up(turnstile, names, let_in):
    places = [turnstile.place() for _ in names]
    for name, place in zip(names, places, strict=True):
        place.line_up(partial(let_in.append, name))
    return places


def test_rows_are_let_in_one_by_one_in_the_same_moment():
    """Who passes on calls the next: no turn of the loop is between."""
    let_in = []
    first, second, _ = lined_up(Turnstile(lambda: LONG), "abc", let_in)
    assert let_in == ["a"]
    first.pass_on()
    first.pass_on()  # only once
    assert let_in == ["a", "b"]
    second.pass_on()
    assert let_in == ["a", "b", "c"]


def test_who_waits_no_more_is_not_let_in():
    """Nor does it let anybody in before its turn."""
    let_in = []
    first, second, _ = lined_up(Turnstile(lambda: LONG), "abc", let_in)
    second.pass_on()
    assert let_in == ["a"]
    first.pass_on()
    assert let_in == ["a", "c"]


def test_who_goes_through_without_stopping_lets_the_next_one_in():
    """It may pass on as soon as it is let in."""
    turnstile, let_in = Turnstile(lambda: LONG), []
    (first,) = lined_up(turnstile, "a", let_in)
    through = turnstile.place()
    through.line_up(through.pass_on)
    lined_up(turnstile, "b", let_in)
    first.pass_on()
    assert let_in == ["a", "b"]
