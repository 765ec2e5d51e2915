"""The one blocking call, and how the three modes tell of the same ends."""

import math

import pytest

from nanobanana_async import ContentRejectedError, GenerationFailedError, SubmissionUncertainError, Timeouts
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")

MODES = ["async", "sync", "stream"]


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_gives_the_same_generation(online, mode):
    """id, prompt, model, images, credits and the end of their links, whatever the way."""
    async with online() as (emulator, client):
        generation = await client.generate("a cat", mode=mode, quantity=1 if mode == "stream" else 2)
        (entry,) = emulator.ledger.charged()
        assert (entry.mode, entry.generation_id, entry.credits) == (mode, generation.id, generation.credits_used)
        assert (generation.prompt, len(generation.image_urls)) == ("a cat", entry.quantity)
        assert (generation.expires_at - generation.created_at).days == 15
        assert generation.model == entry.model


@pytest.mark.parametrize("mode", MODES)
async def test_a_content_warning_is_an_error_of_its_own(online, mode):
    """Charged, so the id and the credits are told."""
    async with online() as (emulator, client):
        with pytest.raises(ContentRejectedError, match="Content safety check failed") as caught:
            await client.generate("[unsafe]", mode=mode)
        (entry,) = emulator.ledger.charged()
        assert (caught.value.generation_id, caught.value.credits_used) == (entry.generation_id, 1)
        assert client.statistics().credits_used == 1
        assert client.statistics().abandoned == 0


@pytest.mark.parametrize("mode", ["async", "stream", "sync"])
async def test_a_failed_generation_tells_what_it_cost(online, mode):
    """Failures are charged and not refunded."""
    async with online() as (emulator, client):
        with pytest.raises(GenerationFailedError, match="Image generation failed") as caught:
            await client.generate("[fail]", mode=mode)
        (entry,) = emulator.ledger.charged()
        assert (caught.value.generation_id, caught.value.credits_used) == (entry.generation_id, 1)
        assert client.statistics().abandoned == 0


async def test_a_sync_call_answered_like_an_async_one_is_polled(online):
    """`"async": true` and an id instead of images."""
    async with online(sync_as_async=True) as (emulator, client):
        generation = await client.generate("a cat", mode="sync")
        assert generation.image_urls
        assert emulator.ledger.charged()[0].polls > 0


async def test_a_sync_call_may_last_longer_than_other_requests(online):
    """10 to 60 s are usual: its patience is its own."""
    timeouts = Timeouts(request_timeout=0.05, submit_timeout=0.05, sync_timeout=10)
    async with online(duration=0.15, sigma=0, client={"timeout": timeouts}) as (_, client):
        assert (await client.generate("a cat", mode="sync")).image_urls


async def test_a_sync_call_that_lasts_lets_others_go(online):
    """Refusals come at once, so a call still open after a second was accepted: the next may follow."""
    async with online(limit=2, duration=math.inf, announce="never") as (emulator, client):
        jobs = [await client.submit(prompt, mode="sync") for prompt in ("one", "two")]
        await emulator.until(lambda: emulator.ledger.active == 2)
        emulator.finish()
        assert [(await job.result()).prompt for job in jobs] == ["one", "two"]


async def test_a_sync_call_whose_patience_ends_is_uncertain(online):
    """It may be paid and running; it is not sent again."""
    async with online(faults=FaultPlan(Fault("submit", "stall")), client={"timeout": 1.0}) as (emulator, client):
        with pytest.raises(SubmissionUncertainError, match=r"client\.credits"):
            await client.generate("a cat", mode="sync")
        assert emulator.ledger.charges == emulator.ledger.requests["POST /generate"] == 1
