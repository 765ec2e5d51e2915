"""What users hold: looking, waiting, downloading, and the client's own life."""

import asyncio
import math
import pickle
import warnings

import aiohttp
import anyio
import pytest

from nanobanana_async import (
    APIStatusError,
    Backoff,
    Client,
    ConfigurationError,
    ConnectError,
    GenerationFailedError,
    GenerationTimeoutError,
    InvalidRequestError,
    JobStatus,
    NotFoundError,
    PollPlan,
    RetryPolicy,
    ServerError,
)
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")


# ---- looking and waiting


async def test_one_look_tells_whatever_is_there(online):
    """`get` neither waits nor raises for a generation that still runs, or failed."""
    async with online(duration=math.inf, limit=2) as (emulator, client):
        jobs = [await client.submit(prompt) for prompt in ("a cat", "[fail]")]
        await emulator.until(lambda: emulator.ledger.active == 2)
        ids = [entry.generation_id for entry in emulator.ledger.charged()]
        assert [(await client.get(name)).status for name in ids] == ["processing"] * 2
        emulator.finish()
        assert [(await client.get(name)).status for name in ids] == ["completed", "failed"]
        await asyncio.gather(*(job.result() for job in jobs), return_exceptions=True)


async def test_an_unknown_id_is_not_found(online):
    """By `get` at once, by `wait` after a few looks: some records come late."""
    async with online() as (_, client):
        with pytest.raises(NotFoundError):
            await client.get("clx-nobody")
        with pytest.raises(NotFoundError) as caught:
            await client.wait("clx-nobody")
        assert caught.value.generation_id == "clx-nobody"


async def test_wait_resumes_by_id(online):
    """A later client picks up what an earlier one started."""
    async with online(duration=math.inf) as (emulator, client):
        job = await client.submit("a cat")
        await emulator.until(lambda: emulator.ledger.active == 1)
        await client.aclose()
        async with Client("nb_test", base_url=emulator.url, poll=0.01) as later:
            emulator.finish()
            generation = await later.wait(job.generation_id)
            assert (generation.id, generation.prompt) == (job.generation_id, "a cat")
            assert emulator.ledger.charges == 1


async def test_waiting_for_a_failed_generation_raises(online):
    """As waiting for a job does."""
    async with online() as (_, client):
        job = await client.submit("[fail]")
        with pytest.raises(GenerationFailedError):
            await job.result()
        with pytest.raises(GenerationFailedError) as caught:
            await client.wait(job.generation_id)
        assert caught.value.credits_used == 1


@pytest.mark.parametrize("how", ["generate", "wait"])
async def test_patience_that_ends_says_how_to_go_on(online, how):
    """GenerationTimeoutError has the id, the credits, and is a builtin TimeoutError."""
    async with online(duration=math.inf) as (emulator, client):
        call = client.generate("a cat", timeout=0.03)
        if how == "wait":
            call.close()
            await client.submit("a cat")
            await emulator.until(lambda: emulator.ledger.active == 1)
            call = client.wait(emulator.ledger.charged()[0].generation_id, timeout=0.03)
        with pytest.raises(TimeoutError, match=r"resume with client\.wait\('clx") as caught:
            await call
        assert isinstance(caught.value, GenerationTimeoutError)
        assert caught.value.generation_id == emulator.ledger.charged()[0].generation_id
        emulator.finish()
        assert (await client.wait(caught.value.generation_id)).image_urls


async def test_a_job_whose_wait_timed_out_is_still_running(online):
    """At the service it is."""
    async with online(duration=math.inf) as (_, client):
        job = await client.submit("a cat", timeout=0.02)
        with pytest.raises(GenerationTimeoutError):
            await job.result()
        assert job.status is JobStatus.RUNNING
        assert job.credits_used == 1


async def test_models_and_credits(online):
    """The table of models needs no key; the balance is an int."""
    async with online(credits=77) as (emulator, client):
        models = await client.models()
        assert [model.name for model in models] == [model.name for model in emulator.models]
        assert all(model.credits_cost >= 1 and model.display_name for model in models)
        assert await client.credits() == 77


async def test_reads_are_repeated_when_they_fail(online):
    """They cost nothing."""
    plan = FaultPlan(
        Fault("credits", "error_500", times=1),
        Fault("credits", "reset_before", times=1),
        Fault("models", "garbage_200", times=1),
        Fault("models", "truncate", times=1),
    )
    async with online(faults=plan) as (_, client):
        assert await client.credits() == 1000
        assert await client.models()


async def test_reads_give_up_in_the_end(online):
    """With the last error."""
    async with online(faults=FaultPlan(Fault("credits", "error_500"))) as (emulator, client):
        with pytest.raises(ServerError):
            await client.credits()
        assert emulator.ledger.requests["GET /credits"] == 5


async def test_download_takes_a_generation_or_an_id(online, tmp_path):
    """Files are there whole, in order, named by the id or a stem."""
    async with online() as (_, client):
        generation = await client.generate("a cat", quantity=2)
        by_generation = await client.download(generation, tmp_path / "one")
        by_id = await client.download(generation.id, tmp_path / "two", stem="cat")
        assert [path.name for path in by_generation] == [f"{generation.id}-1.png", f"{generation.id}-2.png"]
        assert [path.name for path in by_id] == ["cat-1.png", "cat-2.png"]
        assert [path.read_bytes() for path in by_id] == [path.read_bytes() for path in by_generation]


async def test_references_are_paid_and_sent(online, tmp_path):
    """Bytes, a path and a link become what the API takes; each beyond the first costs a credit."""
    async with online() as (emulator, client):
        (picture,) = await client.download(await client.generate("a cat"), tmp_path)
        references = [picture, picture.read_bytes(), "https://example.org/a.png"]
        generation = await client.generate("a hat for it", reference_images=references)
        assert emulator.ledger.charged()[1].references == 3
        assert generation.credits_used == 3


@pytest.mark.parametrize(
    "fields", [{"prompt": "  "}, {"prompt": "x", "quantity": 0}, {"prompt": "x", "reference_images": ["missing.png"]}]
)
async def test_an_impossible_request_is_never_sent(online, fields):
    """Found before it is queued."""
    async with online() as (emulator, client):
        with pytest.raises(InvalidRequestError):
            await client.generate(**fields)
        assert emulator.ledger.requests == {}


# ---- the client's own life


def test_one_client_serves_successive_loops(tmp_path):
    """Opened and closed in each: nothing of the first loop is left in it."""
    client = Client("nb_test", base_url="http://127.0.0.1:1", poll=0.01)

    async def use_once(prompt):
        async with Emulator(duration=0.01, image_size=48) as emulator:
            client._transport.base_url = emulator.url  # each loop has an emulator of its own
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


async def test_the_environment_gives_key_and_base_url(monkeypatch):
    """NANO_BANANA_API_KEY before NB_API_KEY; NANO_BANANA_BASE_URL."""
    async with Emulator(keys=["nb_first"], duration=0.01) as emulator:
        monkeypatch.setenv("NB_API_KEY", "nb_second")
        monkeypatch.setenv("NANO_BANANA_API_KEY", "nb_first")
        monkeypatch.setenv("NANO_BANANA_BASE_URL", emulator.url)
        async with Client() as client:
            assert await client.credits() == 1000
        monkeypatch.delenv("NANO_BANANA_API_KEY")
        async with Client() as client:
            with pytest.raises(APIStatusError):
                await client.credits()


@pytest.mark.parametrize(
    "options",
    [{"api_key": ""}, {"api_key": "two words"}, {"base_url": "ftp://x"}, {"max_concurrency": 0}],
)
def test_an_impossible_client_is_never_made(monkeypatch, options):
    """Before any request."""
    monkeypatch.delenv("NANO_BANANA_API_KEY", raising=False)
    monkeypatch.delenv("NB_API_KEY", raising=False)
    with pytest.raises(ConfigurationError):
        Client(**{"api_key": "nb_test", **options})


async def test_a_service_that_is_not_there(unused_tcp_port):
    """ConnectError after the retries, for reads and submissions; nothing was charged."""
    nobody = f"http://127.0.0.1:{unused_tcp_port}/api/v1"
    async with Client(
        "nb_test", base_url=nobody, retry=RetryPolicy(max_attempts=2, backoff=Backoff(initial_delay=0.01))
    ) as client:
        with pytest.raises(ConnectError, match="check the network"):
            await client.credits()
        with pytest.raises(ConnectError):
            await client.generate("a cat")
        assert client.statistics().abandoned == 0


async def test_repr_shows_the_live_numbers(online):
    """And never the key."""
    async with online(limit=2, duration=math.inf) as (emulator, client):
        for number in range(5):
            await client.submit(f"cat {number}")
        await emulator.until(lambda: emulator.ledger.active == 2)
        await anyio.lowlevel.checkpoint()
        assert "3 queued | slots: 2/2" in repr(client)
        assert "nb_test" not in repr(client)


def test_a_client_does_not_pickle():
    """It holds the key and open connections."""
    with pytest.raises(TypeError, match="key"):
        pickle.dumps(Client("nb_test"))


async def test_a_poll_plan_of_your_own(online):
    """One interval, or a plan."""
    async with online(client={"poll": PollPlan(initial_delay=0.03, interval=0.001)}) as (emulator, client):
        await client.generate("a cat")
        assert emulator.ledger.charged()[0].polls <= 2
