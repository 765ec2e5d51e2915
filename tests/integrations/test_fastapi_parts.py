"""The small parts under the FastAPI router, each by itself."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from contextlib import AbstractContextManager

from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE
from web import eventually

from nanobanana_async import GenerateRequest, Job
from nanobanana_async.integrations.fastapi._lifespan import _startup_frozen
from nanobanana_async.integrations.fastapi._places import Live, ranks
from nanobanana_async.integrations.fastapi._records import JobRecord
from nanobanana_async.integrations.fastapi._room import Room
from nanobanana_async.integrations.fastapi._signals import before_the_end
from nanobanana_async.integrations.fastapi._turns import Turns
from nanobanana_async.integrations.fastapi._watchers import Watchers


def job(name: str, owner: str = "ann", status: str = "queued", priority: float = 0) -> Live:
    record = JobRecord(name, owner, {"prompt": "a"}, status=status, priority=priority)
    return Live(record, Job(GenerateRequest(prompt="a")))


# ---- places


def test_owners_take_turns():
    """However many jobs one of them has, and whoever came first."""
    jobs = [job("a1"), job("a2"), job("a3"), job("b1", "bob"), job("b2", "bob"), job("c1", "cid")]
    assert ranks(jobs) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_who_has_slots_goes_after_who_has_none():
    jobs = [job("a0", status="running"), job("a1"), job("b1", "bob")]
    assert ranks(jobs) == ["b1", "a1"]


def test_the_urgent_go_first():
    assert ranks([job("a1"), job("b1", "bob", priority=1)]) == ["b1", "a1"]


# ---- room


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["queued", "running", "gone"])))
)
def test_the_room_knows_who_waits(changes):
    """Whatever it is told, in any order, and twice."""
    room, waiting = Room(4, 2), {}
    for owner, name, status in changes:
        record = JobRecord(owner + name, owner, {}, status=status)
        if status == "gone":
            room.leave(record)
        else:
            room.update(record)
        waiting[record.id] = status == "queued"
        for asking in "abc":
            own = sum(on for name, on in waiting.items() if name[0] == asking)
            full = own >= 2 or sum(waiting.values()) >= 4
            assert (room.refusal(asking) is not None) == full


# ---- turns


async def test_what_comes_together_begins_a_few_at_a_time_and_in_order():
    turns, begun, most = Turns(2), [], []

    async def request(number: int) -> None:
        await turns.next()
        begun.append(number)

    async def watch() -> None:
        while len(begun) < 7:
            before = len(begun)
            await asyncio.sleep(0)
            most.append(len(begun) - before)

    await asyncio.gather(*(request(number) for number in range(7)), watch())
    assert begun == [0, 1, 2, 3, 4, 5, 6]
    assert max(most) <= 4  # the turn before, and those woken in it


async def test_who_gives_up_takes_no_turn():
    turns = Turns(1)
    tasks = [asyncio.create_task(turns.next()) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait_for(tasks[3], PATIENCE)
    assert tasks[1].cancelled()


# ---- watchers


async def test_a_change_wakes_those_who_watch_it_and_nobody_is_left_behind():
    watchers = Watchers()
    with watchers.watching("a") as one, watchers.watching("b") as other:
        watchers.notify("a")
        assert one.done()
        assert not other.done()
        watchers.notify_all()
        assert other.done()
    assert not watchers._waiting


# ---- signals


async def test_the_end_is_heard_early_and_by_whoever_heard_it_before():
    heard: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("server"))
    try:
        with before_the_end(lambda: heard.append("us")):
            os.kill(os.getpid(), signal.SIGTERM)
            await eventually(lambda: len(heard) == 2)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        assert sorted(heard) == ["server", "server", "us"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_applications_of_one_process_may_end_in_any_order():
    """The handler of one whose loop is gone stays in the chain; it must pass the signal on, not fail."""
    heard: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("server"))
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def begin(name: str) -> AbstractContextManager[None]:
        entered = before_the_end(lambda: heard.append(name))
        entered.__enter__()
        return entered

    async def end(entered: AbstractContextManager[None]) -> None:
        entered.__exit__(None, None, None)

    try:
        one, other = first.run_until_complete(begin("one")), second.run_until_complete(begin("other"))
        first.run_until_complete(end(one))
        first.close()
        os.kill(os.getpid(), signal.SIGTERM)
        second.run_until_complete(asyncio.sleep(0))
        assert sorted(heard) == ["other", "server"]
        second.run_until_complete(end(other))
        os.kill(os.getpid(), signal.SIGTERM)
        assert sorted(heard) == ["other", "server", "server"]
    finally:
        signal.signal(signal.SIGTERM, before)
        first.close()
        second.close()


async def test_a_signal_that_ends_the_process_stays_as_it_is():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with before_the_end(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_signals_are_left_alone():
    ours = signal.getsignal(signal.SIGINT)

    async def inside() -> None:
        with before_the_end(lambda: None):
            assert signal.getsignal(signal.SIGINT) is ours

    thread = threading.Thread(target=lambda: asyncio.run(inside()))
    thread.start()
    thread.join()


def test_the_start_up_is_out_of_the_collectors_way_until_the_end():
    before = gc.get_freeze_count()
    with _startup_frozen():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0
