"""The client's own life: loops, tasks, sessions, closing, and never being closed."""

import asyncio
import math
import pickle
import warnings

import aiohttp
import anyio
import pytest

from nanobanana_async import (
    Client,
    JobStatus,
)
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")


def test_one_client_serves_successive_loops(tmp_path):
    """Opened and closed in each: nothing of the first loop is left in it."""
    client = Client("nb_test", base_url="http://127.0.0.1:1", poll=0.01)

    async def use_once(prompt):
        async with Emulator(duration=0.01, image_size=48) as emulator:
            client._seats[0].transport.base_url = emulator.url  # each loop has an emulator of its own
            async with client:
                generations = await asyncio.gather(client.generate(prompt), client.generate(prompt))
                return [await client.download(generation, tmp_path) for generation in generations]

    assert len(asyncio.run(use_once("one")) + asyncio.run(use_once("two"))) == 4


async def test_opened_in_one_task_and_closed_in_another(online):
    """As pytest's async fixtures do."""
    async with Emulator(duration=0.01) as emulator:
        client = Client("nb_test", base_url=emulator.url, poll=0.01)
        await asyncio.create_task(client.__aenter__())
        assert (await asyncio.create_task(client.generate("a cat"))).id
        await asyncio.create_task(client.__aexit__(None, None, None))


async def test_used_without_a_block(online):
    """`aclose` is enough, and may be called twice."""
    async with Emulator(duration=0.01) as emulator:
        client = Client("nb_test", base_url=emulator.url, poll=0.01)
        assert (await client.generate("a cat")).id
        await client.aclose()
        await client.aclose()


async def test_a_closed_client_says_so(online):
    """Misuse is a RuntimeError."""
    async with online() as (_, client):
        await client.aclose()
        calls = (client.generate, client.submit, client.get, client.wait, client.download, client.map, client.stream)
        for call in calls:
            with pytest.raises(RuntimeError, match="closed"):
                await call("x")
        with pytest.raises(RuntimeError, match="closed"):
            await client.credits()


async def test_its_numbers_outlive_it(online):
    """What was done can be told after the end."""
    async with online() as (_, client):
        await client.generate("a cat")
    assert (client.statistics().completed, client.statistics().credits_used) == (1, 1)


async def test_a_session_of_the_caller_stays_open(online):
    """Who creates it closes it."""
    async with aiohttp.ClientSession() as session:
        async with online(client={"session": session}) as (_, client):
            await client.generate("a cat")
        assert not session.closed


async def test_closing_ends_calls_under_way(online, tmp_path):
    """A wait, a look and a download end with the client instead of going on without it."""
    faults = FaultPlan(Fault("credits", "stall"), Fault("image", "stall"))
    async with online(duration=0.01, faults=faults) as (emulator, client):
        generation = await client.generate("a cat")
        emulator.duration = math.inf
        await client.submit("endless")
        await emulator.until(lambda: emulator.ledger.active == 1)
        endless = emulator.ledger.charged()[1].generation_id
        calls = (client.wait(endless), client.credits(), client.download(generation, tmp_path))
        tasks = [asyncio.create_task(call) for call in calls]
        await emulator.until(lambda: emulator.faults.fired.total() == 2)
        await client.aclose()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 3
        assert list(tmp_path.iterdir()) == []


async def test_two_closers_both_wait_for_the_answers_of_submissions(online):
    """The second must not cut the connection on which the first still waits for an id."""
    async with online(latency=0.05, duration=math.inf) as (emulator, client):
        job = await client.submit("a cat")
        await emulator.until(lambda: emulator.ledger.active == 1)
        await asyncio.gather(client.aclose(), client.aclose())
        assert job.generation_id == emulator.ledger.charged()[0].generation_id


async def test_closing_in_a_cancelled_scope_still_waits_for_the_ids(online):
    """An anyio scope that has ended does not cut the clean-up short."""
    async with online(latency=0.05, duration=math.inf) as (emulator, client):
        job = await client.submit("a cat")
        await emulator.until(lambda: emulator.ledger.active == 1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.aclose()
        assert job.generation_id == emulator.ledger.charged()[0].generation_id


async def test_a_second_cancellation_gives_the_answers_up(online):
    """Whoever presses Ctrl-C twice doesn't want to wait."""
    faults = FaultPlan(Fault("submit", "stall"))
    async with online(faults=faults) as (emulator, client):
        job = await client.submit("a cat")
        await emulator.until(lambda: emulator.ledger.charges == 1)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        assert closing.cancelled()
        assert "may run it all the same" in str(job.error)
        assert client.statistics().abandoned == 1


def test_a_cancelled_main_task_ends_cleanly(online):
    """Ctrl-C cancels the main task: the block closes the client, ids are told, nothing else is raised."""
    told = []

    async def main():
        async with online(limit=3, duration=math.inf) as (emulator, client):
            told.extend([await client.submit(f"cat {number}") for number in range(9)])
            await emulator.until(lambda: emulator.ledger.active == 3)
            asyncio.current_task().cancel()
            await client.idle()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert sum(job.generation_id is not None for job in told) == 3
    assert {job.status for job in told} == {JobStatus.CANCELLED}


async def test_a_client_that_was_never_closed_warns(online):
    """A ResourceWarning at its end, as for any other open resource."""
    async with Emulator(duration=0.01) as emulator:
        client = Client("nb_test", base_url=emulator.url, poll=0.01)
        await client.generate("a cat")
        with pytest.warns(ResourceWarning, match="Client was not closed"):
            client.__del__()
        await client.aclose()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.__del__()


async def test_a_client_belongs_to_one_running_loop(online):
    """A second loop in another thread is told so."""
    async with online() as (_, client):
        with pytest.raises(RuntimeError, match="another running event loop"):
            await asyncio.to_thread(lambda: asyncio.run(client.submit("a cat")))


def test_a_client_does_not_pickle():
    """It holds the key and open connections."""
    with pytest.raises(TypeError, match="key"):
        pickle.dumps(Client("nb_test"))
