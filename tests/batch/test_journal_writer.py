"""The writer thread: who shares a commit, who is told what, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial

import pytest
from patience import PATIENCE

from nanobanana_async.batch._writer import Writer


@contextmanager
def session(path, commits):
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)")
        connection.set_trace_callback(lambda statement: commits.append(1) if statement == "COMMIT" else None)
        yield connection


class Bench:
    """A writer, and a gate that keeps its thread busy until it is opened."""

    def __init__(self, path):
        self.path = path
        self.commits = []
        self.gate = threading.Event()
        self.writer = Writer(lambda: session(path, self.commits), explain=lambda error: OSError(str(error)))

    def insert(self, number):
        return self.writer.run(lambda connection: insert(connection, number))

    async def busy(self):
        """The thread is in an order that ends with the gate."""
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work(_):
            loop.call_soon_threadsafe(entered.set)
            self.gate.wait()

        order = self.writer.run(work)
        await entered.wait()
        return order

    def written(self):
        with closing(sqlite3.connect(self.path)) as connection:
            return [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n")]


def insert(connection, number):
    connection.execute("INSERT INTO t VALUES (?)", (number,))
    return number


@pytest.fixture
async def bench(tmp_path):
    bench = Bench(tmp_path / "t.db")
    await bench.writer.start()
    yield bench
    bench.gate.set()
    await bench.writer.aclose()


@asynccontextmanager
async def queued(bench, numbers):
    """Orders that wait together; the gate opens when the body ends."""
    busy = await bench.busy()
    orders = [bench.insert(number) for number in numbers]
    await asyncio.sleep(0)  # let each put its order
    yield orders
    bench.gate.set()
    await busy


async def test_waiting_producers_share_a_commit(bench):
    async with queued(bench, range(64)) as orders:
        pass
    assert await asyncio.gather(*orders) == list(range(64))
    assert len(bench.commits) == 2  # the busy order's and theirs


async def test_an_answer_comes_after_the_commit(bench):
    """Another connection sees the row at once."""
    await bench.insert(1)
    assert bench.written() == [1]


async def test_a_failing_order_does_not_harm_the_others_in_its_group(bench):
    await bench.insert(2)
    async with queued(bench, [1, 2, 3]) as orders:
        pass
    first, second, third = await asyncio.gather(*orders, return_exceptions=True)
    assert (first, third) == (1, 3)
    assert isinstance(second, OSError)
    assert isinstance(second.__cause__, sqlite3.IntegrityError)
    assert bench.written() == [1, 2, 3]


async def test_an_order_that_fails_half_way_leaves_nothing(bench):
    def work(connection):
        insert(connection, 1)
        raise KeyError("no")

    with pytest.raises(KeyError):
        await bench.writer.run(work)
    assert bench.written() == []


async def test_an_order_alone_is_run_once_whatever_its_neighbours_do(bench):
    calls = []
    async with queued(bench, [1]) as orders:
        orders += [bench.writer.run(work, alone=True) for work in (calls.append, lambda _: 1 // 0)]
        orders.append(bench.insert(1))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*orders, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, type(None), ZeroDivisionError, OSError]
    assert len(calls) == 1


async def test_cancelling_a_producer_neither_loses_its_write_nor_breaks_the_group(bench):
    async with queued(bench, [1, 2, 3]) as orders:
        orders[1].cancel()
    assert (await orders[0], await orders[2]) == (1, 3)
    assert orders[1].cancelled()
    assert bench.written() == [1, 2, 3]


async def test_a_failure_that_nobody_waits_for_is_logged(bench, caplog):
    await bench.insert(1)
    async with queued(bench, [1, 2]) as orders:
        orders[0].cancel()
    await orders[1]
    assert "after its producer was cancelled: UNIQUE" in caplog.text


async def test_closing_commits_what_waits_and_ends_the_thread(bench):
    async with queued(bench, [1, 2]) as orders:
        closing_ = asyncio.ensure_future(bench.writer.aclose())
        await asyncio.sleep(0)
    await closing_
    assert await asyncio.gather(*orders) == [1, 2]
    assert not any(thread.name == "nanobanana-journal" for thread in threading.enumerate())


async def test_a_cancelled_close_still_waits_for_the_thread(bench, monkeypatch):
    """Or the folder would be found half closed, its lock still held."""
    join = bench.writer._thread.join

    def open_gate_and_join():
        bench.gate.set()
        join()

    monkeypatch.setattr(bench.writer._thread, "join", open_gate_and_join)
    await bench.busy()
    bench.insert(1)
    closing_ = asyncio.ensure_future(bench.writer.aclose())
    await asyncio.sleep(0)
    closing_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing_
    assert bench.written() == [1]
    assert not bench.writer._thread.is_alive()


async def test_a_closed_writer_says_so(bench):
    await bench.writer.aclose()
    await bench.writer.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await bench.insert(1)


async def test_a_session_that_does_not_open_leaves_no_thread(tmp_path):
    bench = Bench(tmp_path / "missing" / "t.db")
    with pytest.raises(OSError, match="unable to open"):
        await bench.writer.start()
    assert not bench.writer._thread.is_alive()


# ---- orders in no hurry -------------------------------------------------------------------------------------


def patiently(bench, number, linger=60.0):
    return bench.writer.run(lambda connection: insert(connection, number), linger=linger)


async def test_a_patient_order_goes_with_the_next_that_is_not(bench):
    """In one transaction, and before it: orders are run as they came."""
    patient = [patiently(bench, number) for number in (1, 2)]
    await asyncio.sleep(0)
    found = await bench.writer.run(lambda connection: connection.execute("SELECT n FROM t").fetchall())
    assert found == [(1,), (2,)]
    assert await asyncio.gather(*patient) == [1, 2]
    assert len(bench.commits) == 1


async def test_a_patient_order_is_not_left_alone_for_long(bench):
    """Nobody comes: it goes by itself."""
    assert await asyncio.wait_for(patiently(bench, 1, linger=0.01), PATIENCE) == 1


async def test_the_least_patient_order_says_when_all_go(bench):
    """Those before it go along, those after it wait for themselves."""
    first, second = patiently(bench, 1), patiently(bench, 2, linger=0.01)
    assert await asyncio.wait_for(asyncio.gather(first, second), PATIENCE) == [1, 2]
    third = patiently(bench, 3)
    await asyncio.sleep(0)
    assert len(bench.commits) == 1
    await bench.writer.aclose()
    assert await third == 3


async def test_closing_commits_patient_orders(bench):
    """Their producers still wait."""
    order = patiently(bench, 1)
    await asyncio.sleep(0)
    await bench.writer.aclose()
    assert await order == 1
    assert bench.written() == [1]


async def test_a_loop_s_handles_need_not_know_their_moment(tmp_path, monkeypatch):
    """As uvloop's, for what is due already."""
    loop = asyncio.get_running_loop()
    timed = loop.call_at

    def call_at(due, call, *given, **named):
        return (loop.call_soon if due <= loop.time() else partial(timed, due))(call, *given, **named)

    monkeypatch.setattr(loop, "call_at", call_at)
    bench = Bench(tmp_path / "db")
    await bench.writer.start()
    await asyncio.wait_for(asyncio.gather(bench.insert(1), bench.insert(2)), PATIENCE)
    await bench.writer.aclose()
