"""Looking at what runs: late records, failing looks, and a service that answers in other words than the emulator."""

import asyncio
from pathlib import Path

import pytest
from witness import PNG, Witness

from nanobanana_async import (
    Backoff,
    Client,
    GenerateRequest,
    GenerationFailedError,
    LearnedPlan,
    NotFoundError,
    PollPlan,
    RetryPolicy,
)
from nanobanana_async._api import Api
from nanobanana_async._transport import Transport
from nanobanana_async._watch import LONGEST_REST, Watch
from nanobanana_async._wire import generate_body
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")


# ---- the emulator's reading


@pytest.mark.parametrize(
    "kind", ["error_500", "html_wall", "reset_before", "garbage_200", "truncate", "busy", "refuse"]
)
async def test_a_failed_look_never_fails_a_job(online, kind):
    """It is looked at again."""
    async with online(faults=FaultPlan(Fault("poll", kind, times=2))) as (emulator, client):
        assert (await client.generate("a cat")).image_urls
        assert emulator.ledger.charges == 1


async def test_refused_looks_make_the_plan_look_less_often(online):
    """They hold no slot and fail no job; a plan that learns is told of them."""
    plan = LearnedPlan()
    async with online(faults=FaultPlan(Fault("poll", "refuse", times=2)), client={"poll": plan}) as (_, client):
        assert client.plan is plan
        assert (await client.generate("a cat")).image_urls
        assert plan.q > 0.2
        assert client.statistics().refusals == 0


async def test_waits_by_id_share_the_ceiling_of_the_plan(online):
    """However many are begun at once."""
    plan = LearnedPlan(max_polls_per_second=40.0)
    async with online(limit=10, duration=0.01, client={"poll": plan}) as (emulator, client):
        names = [made.id for made in await asyncio.gather(*map(client.generate, map("cat {}".format, range(10))))]
        looks, began = emulator.ledger.requests["GET /generate"], asyncio.get_running_loop().time()
        await asyncio.gather(*(client.wait(name) for name in names * 2))
        assert emulator.ledger.requests["GET /generate"] == looks + 20
        assert asyncio.get_running_loop().time() - began > 0.3


async def test_a_record_that_comes_late_is_waited_for(online):
    """A 404 or two right after the submission are no answer yet."""
    async with online(faults=FaultPlan(Fault("poll", "expire", times=2))) as (_, client):
        assert (await client.generate("a cat")).image_urls


async def test_a_record_that_never_comes_is_an_error_with_its_id(online):
    """Believed after a few looks in a row."""
    async with online(faults=FaultPlan(Fault("poll", "expire"))) as (emulator, client):
        with pytest.raises(NotFoundError) as caught:
            await client.generate("a cat")
        assert caught.value.generation_id == emulator.ledger.charged()[0].generation_id
        assert caught.value.credits_used == 1


async def test_a_key_revoked_while_jobs_run_fails_them_with_their_ids(online):
    """They are paid: the ids pick them up under another key of the account."""
    async with online(duration=0.05, sigma=0) as (emulator, client):
        job = await client.submit("a cat")
        await emulator.until(lambda: emulator.ledger.active == 1)
        account = emulator.account("nb_test")
        account.access = False
        with pytest.raises(Exception, match="enable API access") as caught:
            await job.result()
        assert caught.value.generation_id == job.generation_id
        account.access = True
        assert (await client.wait(job.generation_id)).image_urls


async def test_a_single_url_is_as_good_as_a_list(online):
    """Some records carry `outputImageUrl`."""
    async with online(single_url=True) as (_, client):
        assert len((await client.generate("a cat")).image_urls) == 1


@pytest.mark.parametrize("style", ["relative", "protocol-relative", "data"])
async def test_images_are_found_however_their_links_are_written(online, tmp_path, style):
    """Relative to the API's host, to its scheme, or not links at all."""
    async with online(url_style=style) as (_, client):
        (path,) = await client.download(await client.generate("a cat"), tmp_path)
        assert path.read_bytes().startswith(b"\x89PNG")


# ---- the witness's reading


@pytest.fixture
async def both():
    retry = RetryPolicy(backoff=Backoff(initial_delay=0.01, max_delay=0.01))
    async with Witness() as witness, Client("nb_witness", base_url=witness.url, poll=0.01, retry=retry) as client:
        yield witness, client


async def test_odd_answers_of_an_async_job(both, tmp_path: Path):
    """Unknown at first, then pending, then one link and a number in quotes."""
    witness, client = both
    generation = await client.generate("a cat")
    assert (generation.id, generation.prompt, generation.credits_used) == ("gen_0", "a cat", 1)
    assert generation.created_at is generation.expires_at is None
    (path,) = await client.download(generation, tmp_path)
    assert path.read_bytes() == PNG
    assert path.suffix == ".png"
    assert witness.keys == {"api": {"Bearer nb_witness"}, "images": {None}}


async def test_links_that_come_after_the_end_are_waited_for(both):
    """Completed with no image yet is looked at again; only when it stays so, it is a failure, with its id."""
    witness, client = both
    witness.empty_looks = 3
    assert (await client.generate("a cat")).image_urls == ("/files/gen_0",)
    witness.empty_looks = 4
    with pytest.raises(GenerationFailedError, match="completed without any image") as caught:
        await client.generate("a dog")
    assert caught.value.generation_id == "gen_1"
    assert (await client.wait("gen_1")).image_urls == ("/files/gen_1",)


async def test_looks_that_are_too_many_say_nothing_of_slots(both):
    """A 429 of another type is no sign that open requests hold them: no submission goes out beyond the limit."""
    witness, client = both
    witness.limited_looks = 6
    await asyncio.gather(*(client.generate(f"cat {number}") for number in range(6)))
    assert client.statistics().scope != "request"
    assert (witness.peak, witness.refused) == (2, 0)


async def test_a_look_waits_no_hour(both):
    """Its generation goes on whatever Retry-After says, and so does its slot."""
    witness, _ = both
    rests = []

    async def sleep(seconds):
        rests.append(seconds)

    witness.limited_looks, witness.look_after = 1, "3600"
    transport = Transport("nb_witness", base_url=witness.url)
    api = Api(transport)
    submission = (await api.submit(generate_body(GenerateRequest(prompt="a cat"), [], "async"))).value
    watch = Watch(api, PollPlan.of(0.01), backoff=Backoff(jitter=0.0), sleep=sleep)
    await watch.until_end(submission.generation_id, timeout=900.0)
    await transport.aclose()
    assert LONGEST_REST < max(rests) < LONGEST_REST + 1


async def test_lower_case_headers_tell_the_limit(both):
    """Two at once, and no refusal."""
    witness, client = both
    await asyncio.gather(*(client.generate(f"cat {number}") for number in range(6)))
    assert (witness.peak, witness.refused) == (2, 0)
    assert sorted(witness.prompts) == [f"cat {number}" for number in range(6)]


async def test_a_refusal_in_other_words(both):
    """A nested error, its limit in quotes: the job goes out again when there is room."""
    witness, client = both
    witness.looks["someone else's"] = 0
    witness.limit = 1
    job = await client.submit("a cat")
    await witness.changed.wait()
    witness.looks.clear()
    assert (await job.result()).id == "gen_0"
    assert client.statistics().refusals == witness.refused == 1


async def test_odd_answers_of_the_other_modes(both):
    """A stream byte by byte with foreign events; a sync answer without a type of its own."""
    _, client = both
    async with client.stream("a city") as events:
        told = [event async for event in events]
    assert [event.type for event in told] == ["status", "complete"]
    assert told[-1].generation.image_urls == ("/files/gen_0",)
    assert (await client.generate("a cat", mode="sync")).id == "gen_1"


async def test_a_stream_answered_like_an_async_job_is_polled(both, new_job, recorder):
    """Plain JSON instead of events: accepted, so what its looks meet withdraws nothing."""
    witness, client = both
    witness.without_streams = True
    ledger, denied = recorder(), recorder()
    job = new_job(mode="stream", ledger=ledger)
    await client.enqueue(job)
    assert (await job.result()).image_urls == ("/files/gen_0",)
    assert ledger.hooks == ["intend", "accepted", "finished"]
    witness.never_found = True
    job = new_job(mode="stream", ledger=denied)
    await client.enqueue(job)
    with pytest.raises(NotFoundError):
        await job.result()
    assert denied.hooks == ["intend", "accepted"]


async def test_odd_answers_to_looks(both):
    """Numbers in quotes, models without most of their fields."""
    _, client = both
    assert await client.credits() == 42
    (model,) = await client.models()
    assert (model.name, model.credits_cost) == ("a&b", 2)
