"""Streams: progress that never falls, silence, breaks, and leaving early."""

import asyncio
import math

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nanobanana_async import (
    Client,
    ContentRejectedError,
    JobCancelledError,
    StreamInterruptedError,
    SubmissionUncertainError,
    Timeouts,
)
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")

IMPATIENT = Timeouts(idle_timeout=1.0)  # longer than a busy machine is silent


async def read(client, prompt="a city at night"):
    async with client.stream(prompt) as events:
        return [event async for event in events]


async def test_progress_never_falls(online):
    """The heartbeats between tell 0; here they don't."""
    progress = []
    async with (
        online(duration=math.inf, heartbeat=0.005) as (emulator, client),
        client.stream("a city at night") as events,
    ):
        async for event in events:
            progress.append(event.progress)
            if len(progress) == 10:
                emulator.finish()
    assert len(progress) > 10
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (5, 100)


async def test_the_last_event_has_the_generation(online):
    """And so has the stream itself, once it was told."""
    async with online() as (emulator, client):
        async with client.stream("a city") as events:
            told = [event async for event in events]
            assert events.generation is told[-1].generation
        assert [event.type for event in told[-2:]] == ["status", "complete"]
        assert told[-1].generation.id == emulator.ledger.charged()[0].generation_id
        assert client.statistics().completed == 1


async def test_a_stream_that_was_read_to_its_end_is_over(online):
    """A second look finds nothing more, instead of waiting forever."""
    async with online() as (_, client), client.stream("a city") as events:
        assert [event async for event in events]
        assert [event async for event in events] == []


async def test_noise_between_events_is_ignored(online):
    """Comments, and lines that are not JSON."""
    async with online(faults=FaultPlan(Fault("stream", "garbage_200"))) as (_, client):
        assert (await read(client))[-1].generation.image_urls


@pytest.mark.parametrize("kind", ["reset_after", "truncate", "stall"])
async def test_a_broken_stream_goes_on_by_polling(online, kind):
    """Reset, closed early, or silent beyond the idle timeout: the id is known, so nothing is lost."""
    plan = FaultPlan(Fault("stream", kind))
    async with online(faults=plan, client={"timeout": IMPATIENT}) as (emulator, client):
        events = await read(client)
        assert events[-1].generation.id == emulator.ledger.charged()[0].generation_id
        assert "polling" in events[-2].message
        assert emulator.ledger.requests["POST /generate"] == 1


@pytest.mark.parametrize("kind", ["reset_after", "truncate", "stall"])
async def test_a_stream_that_breaks_before_the_id_says_what_may_be_lost(online, kind):
    """It is uncertain, as any lost answer is, and never sent again by itself."""
    plan = FaultPlan(Fault("stream", kind))
    async with online(faults=plan, stream_ids=False, client={"timeout": IMPATIENT}) as (emulator, client):
        with pytest.raises(StreamInterruptedError, match="a paid generation may be running") as caught:
            await read(client)
        assert isinstance(caught.value, SubmissionUncertainError)
        assert not caught.value.retryable
        assert emulator.ledger.charges == emulator.ledger.requests["POST /generate"] == 1


async def test_a_stream_that_never_tells_an_id_completes_all_the_same(online):
    """The images are what was paid for."""
    async with online(stream_ids=False) as (_, client):
        generation = (await read(client))[-1].generation
        assert generation.image_urls
        assert generation.id == ""


async def test_heartbeats_keep_a_silent_stream_alive(online):
    """The idle timeout bounds each silence, not the whole."""
    async with online(duration=1.3, sigma=0, heartbeat=0.03, client={"timeout": IMPATIENT}) as (emulator, client):
        assert (await read(client))[-1].generation
        assert emulator.ledger.charged()[0].polls == 0


async def test_leaving_a_stream_early_leaves_the_generation_running(online):
    """Its slot stays counted until it ends; its id picks it up."""
    async with online(duration=math.inf) as (emulator, client):
        async with client.stream("a city") as events:
            await anext(events)
        assert (client.statistics().running, client.statistics().abandoned) == (0, 1)
        generation_id = events.job.generation_id
        emulator.finish()
        assert (await client.wait(generation_id)).image_urls
        await client.idle()
        assert client.statistics().abandoned == 0


async def test_a_stream_waits_for_its_slot(online):
    """It queues like any other job, and leaving it there is free."""
    async with online(duration=math.inf) as (emulator, client):
        await client.submit("runs")
        await emulator.until(lambda: emulator.ledger.active == 1)
        async with client.stream("waits") as events:
            assert client.statistics().queued == 1
        with pytest.raises(JobCancelledError, match="nothing was charged"):
            await anext(events)
        assert client.statistics().queued == 0
        assert emulator.ledger.charges == 1


async def test_a_stream_outside_its_block_is_an_error(online):
    """Reading it would wait forever."""
    async with online() as (_, client):
        with pytest.raises(RuntimeError, match="async with"):
            await anext(client.stream("a city"))


async def test_a_refused_stream_is_sent_again(online):
    """429 before the first event: uncharged, back to the queue."""
    async with online(faults=FaultPlan(Fault("submit", "refuse", times=1))) as (emulator, client):
        assert (await read(client))[-1].generation
        assert emulator.ledger.charges == 1


async def test_streams_share_the_slots_with_everybody(online):
    """Two streams and two async jobs at a limit of two."""
    async with online(limit=2) as (emulator, client):
        await asyncio.gather(read(client), client.generate("a"), read(client), client.generate("b"))
        assert emulator.ledger.peak_active <= 2
        assert emulator.ledger.refusals == {}


async def test_a_rejection_that_tells_no_credits_is_asked_for_them():
    """Streams need not tell what was taken; the generation's record does."""
    event = '{"type":"complete","message":"no","data":{"success":false,"warning":true,"generationId":"clx1"}}'

    async def stream(_: web.Request) -> web.Response:
        return web.Response(text=f"data: {event}\n\n", content_type="text/event-stream")

    async def record(_: web.Request) -> web.Response:
        return web.json_response({"data": {"id": "clx1", "processingStatus": "failed", "creditsUsed": 3}})

    app = web.Application()
    app.add_routes([web.post("/generate", stream), web.get("/generate", record)])
    async with TestServer(app) as server, Client("nb_test", base_url=str(server.make_url("/"))) as client:
        with pytest.raises(ContentRejectedError) as caught:
            async with client.stream("a cat") as events:
                _ = [event async for event in events]
        assert (caught.value.generation_id, caught.value.credits_used) == ("clx1", 3)
