"""What users hold: looking, waiting, downloading, and the client's own life."""

import asyncio
import math

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


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
async def test_patience_that_can_not_last_is_refused_unpaid(online, timeout):
    """With none the generation would be paid and given up at once, and nan would look again and again for ever."""
    async with online() as (emulator, client):
        for call in (client.generate, client.submit):
            with pytest.raises(InvalidRequestError, match="timeout must be seconds above 0"):
                await call("a cat", timeout=timeout)
        with pytest.raises(InvalidRequestError, match="timeout must be"):
            client.stream("a cat", timeout=timeout)
        assert emulator.ledger.charges == 0


@pytest.mark.parametrize("fields", [{"priority": "a"}, {"priority": None}, {"priority": math.nan}, {"timeout": "a"}])
async def test_what_is_no_number_is_refused_unsent(online, fields):
    """A priority or a patience of some other type is told as any other mistake in a request."""
    async with online() as (emulator, client):
        for call in (client.generate, client.submit):
            with pytest.raises(InvalidRequestError, match=f"{next(iter(fields))} must be"):
                await call("a cat", **fields)
        with pytest.raises(InvalidRequestError, match="must be"):
            client.stream("a cat", **fields)
        assert emulator.ledger.charges == 0


async def test_an_unknown_mode_is_refused_unsent(online):
    """The service would say no more than 400."""
    async with online() as (emulator, client):
        with pytest.raises(InvalidRequestError, match="mode is one of async, sync, stream"):
            await client.generate("a cat", mode="batch")
        assert emulator.ledger.requests.total() == 0


async def test_no_patience_is_one_look(online):
    """`wait` with none: nothing is paid by it; less than none is a mistake."""
    async with online(duration=math.inf) as (emulator, client):
        job = await client.submit("a cat")
        await emulator.until(lambda: emulator.ledger.active == 1)
        generation_id = emulator.ledger.charged()[0].generation_id
        with pytest.raises(GenerationTimeoutError):
            await client.wait(generation_id, timeout=0)
        for timeout in (-1, math.nan):
            with pytest.raises(InvalidRequestError, match="timeout must be 0 seconds"):
                await client.wait(generation_id, timeout=timeout)
        job.cancel()


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


# ---- making one


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


async def test_a_poll_plan_of_your_own(online):
    """One interval, or a plan."""
    async with online(client={"poll": PollPlan(initial_delay=0.03, interval=0.001)}) as (emulator, client):
        await client.generate("a cat")
        assert emulator.ledger.charged()[0].polls <= 2
