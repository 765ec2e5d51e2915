"""One request per call, and what its end means for money."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses

from nanobanana_async import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BlockedError,
    ConnectError,
    InsufficientCreditsError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimit,
    RateLimitError,
    ResponseDecodingError,
    ServerBusyError,
    ServerError,
    SubmissionUncertainError,
    TransportError,
)
from nanobanana_async._api import Api
from nanobanana_async._timeouts import Timeouts
from nanobanana_async._transport import Transport

SAMPLES = Path(__file__).parent / "samples"
BASE = "https://api.test/v1"
GENERATE = f"{BASE}/generate"
ACCEPTED = {"success": True, "async": True, "generationId": "clx1", "creditsUsed": 1}
EVENTS = {"content_type": "text/event-stream"}


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    with aioresponses() as mock:
        yield mock


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    transport = Transport("nb_0123456789", base_url=BASE)
    yield Api(transport)
    await transport.aclose()


def unreachable() -> aiohttp.ClientConnectorError:
    key = ConnectionKey("api.test", 443, True, True, None, None, None)
    return aiohttp.ClientConnectorError(key, OSError(111, "refused"))


async def stream_events(api: Api) -> list[str]:
    """All of a stream's data; the submission's id when there was no stream."""
    async with api.stream(b"{}") as source:
        if source.submission is not None:
            return [source.submission.generation_id or ""]
        return [event.data async for event in source.events()]


async def post(api: Api, mode: str) -> Any:
    return await (stream_events(api) if mode == "stream" else api.submit(b"{}", blocking=mode == "sync"))


# ---- submissions --------------------------------------------------------------------------------------------


async def test_a_submission_tells_its_id_and_the_slots(mocked: aioresponses, api: Api) -> None:
    """The body's facts, and the headers' numbers beside them."""
    mocked.post(GENERATE, payload=ACCEPTED, headers={"X-RateLimit-Limit": "5", "X-RateLimit-Active": "2"})
    reply = await api.submit(b"{}")
    assert (reply.value.generation_id, reply.value.credits_used) == ("clx1", 1)
    assert reply.rate_limit == RateLimit(limit=5, active=2)


MODES = pytest.mark.parametrize("mode", ["async", "sync", "stream"])


@MODES
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, InsufficientCreditsError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (413, PayloadTooLargeError),
        (429, RateLimitError),
        (503, ServerBusyError),
        (302, APIStatusError),
        (409, APIStatusError),
    ],
)
async def test_a_refusal_is_told_as_itself(
    mocked: aioresponses, api: Api, mode: str, status: int, error: type[APIStatusError]
) -> None:
    """Nothing was charged, so it is never called uncertain."""
    mocked.post(GENERATE, status=status, payload={"error": "Server is busy"})
    with pytest.raises(error) as caught:
        await post(api, mode)
    assert type(caught.value) is error


@MODES
@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524])
async def test_a_broken_server_leaves_a_submission_uncertain(
    mocked: aioresponses, api: Api, mode: str, status: int
) -> None:
    """It may have been taken before the server, or the proxy before it, broke; a 503 too, when not the API says so."""
    mocked.post(GENERATE, status=status, body="<html>oops</html>", content_type="text/html")
    with pytest.raises(SubmissionUncertainError, match="compare the balance") as caught:
        await post(api, mode)
    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, ServerError)


@MODES
@pytest.mark.parametrize(("status", "message"), [(503, "Service unavailable"), (408, "Request timeout")])
async def test_an_error_that_promises_no_refund_leaves_a_submission_uncertain(
    mocked: aioresponses, api: Api, mode: str, status: int, message: str
) -> None:
    """Only the 503 that says busy is documented as refunded."""
    mocked.post(GENERATE, status=status, payload={"error": message})
    with pytest.raises(SubmissionUncertainError):
        await post(api, mode)


@MODES
@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ClientPayloadError("half"),
        aiohttp.SocketTimeoutError("silent"),
        aiohttp.ClientError("odd"),
        TimeoutError(),
        OSError("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_lost_answer_leaves_a_submission_uncertain(
    mocked: aioresponses, api: Api, mode: str, error: Exception
) -> None:
    """The request may have arrived."""
    mocked.post(GENERATE, exception=error)
    with pytest.raises(SubmissionUncertainError, match="it may be paid and running"):
        await post(api, mode)


@MODES
async def test_what_never_left_is_not_uncertain(mocked: aioresponses, api: Api, mode: str) -> None:
    """It is safe to send again."""
    mocked.post(GENERATE, exception=unreachable())
    with pytest.raises(ConnectError):
        await post(api, mode)


@MODES
@pytest.mark.parametrize("body", ["", "{}", "OK", "{", '{"success":true}'])
async def test_an_unreadable_yes_is_uncertain(mocked: aioresponses, api: Api, mode: str, body: str) -> None:
    """A 200 without an id was perhaps charged."""
    mocked.post(GENERATE, body=body, content_type="application/json")
    with pytest.raises(SubmissionUncertainError) as caught:
        await post(api, mode)
    assert isinstance(caught.value.__cause__, ResponseDecodingError)


@MODES
async def test_a_firewalls_page_is_a_refusal(mocked: aioresponses, api: Api, mode: str) -> None:
    """It stands before the API, so nothing was taken."""
    body = (SAMPLES / "403_wall.http").read_text().partition("\n\n")[2]
    assert "Cloudflare" in body
    mocked.post(GENERATE, status=403, body=body, content_type="text/html")
    with pytest.raises(BlockedError):
        await post(api, mode)


async def test_an_uncertain_submission_keeps_the_id_it_was_told(mocked: aioresponses, api: Api) -> None:
    """A 500 may name the generation that it lost: then it can be picked up."""
    mocked.post(GENERATE, status=500, payload={"error": "late", "generationId": "clx1", "creditsUsed": 2})
    with pytest.raises(SubmissionUncertainError) as caught:
        await api.submit(b"{}")
    assert (caught.value.generation_id, caught.value.credits_used) == ("clx1", 2)


@pytest.mark.parametrize(("blocking", "seconds"), [(False, 7.0), (True, 9.0)])
async def test_each_mode_has_its_own_deadline(mocked: aioresponses, blocking: bool, seconds: float) -> None:
    """An answer with images takes up to a minute; one with an id comes at once."""
    transport = Transport("nb_0123456789", base_url=BASE, timeouts=Timeouts(submit_timeout=7.0, sync_timeout=9.0))
    mocked.post(GENERATE, payload=ACCEPTED)
    await Api(transport).submit(b"{}", blocking=blocking)
    ((call,),) = mocked.requests.values()
    assert call.kwargs["timeout"].total == seconds
    await transport.aclose()


# ---- streams ------------------------------------------------------------------------------------------------


async def test_a_stream_gives_its_events(mocked: aioresponses, api: Api) -> None:
    """The recorded one, heartbeats and all."""
    mocked.post(GENERATE, body=(SAMPLES / "stream.sse").read_bytes(), **EVENTS)
    events = await stream_events(api)
    assert [json.loads(data)["type"] for data in events if data.startswith("{")][-1] == "complete"
    assert len(events) == 6


@pytest.mark.parametrize("content_type", ["text/event-stream; charset=utf-8", "text/plain", "application/octet-stream"])
async def test_a_stream_is_one_whatever_its_name(mocked: aioresponses, api: Api, content_type: str) -> None:
    """A proxy may rename it; to wait for its end and read it as JSON would lose what it tells."""
    mocked.post(GENERATE, body=b'data: {"type":"status"}\n\n', content_type=content_type)
    assert await stream_events(api) == ['{"type":"status"}']


async def test_a_stream_answered_as_async_is_a_submission(mocked: aioresponses, api: Api) -> None:
    """Plain JSON with an id: then poll."""
    mocked.post(GENERATE, payload=ACCEPTED)
    assert await stream_events(api) == ["clx1"]


async def test_a_streams_headers_tell_of_the_slots(mocked: aioresponses, api: Api) -> None:
    """Before its first event."""
    mocked.post(GENERATE, body=b"", headers={"X-RateLimit-Limit": "3"}, **EVENTS)
    async with api.stream(b"{}") as source:
        assert source.rate_limit == RateLimit(limit=3)


async def test_an_error_of_whoever_reads_a_stream_is_their_own(mocked: aioresponses, api: Api) -> None:
    """It is not taken for a lost answer."""
    mocked.post(GENERATE, body=b"data: 1\n\n", **EVENTS)
    with pytest.raises(TransportError, match="mine") as caught:
        async with api.stream(b"{}"):
            raise TransportError("mine")
    assert not isinstance(caught.value, SubmissionUncertainError)


async def test_a_runaway_event_ends_the_stream(mocked: aioresponses, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an answer that can't be read, in its middle or at its end."""
    monkeypatch.setattr("nanobanana_async._sse.MAX_EVENT_BYTES", 64)
    for body in (b"data: " + b"x" * 80, b"data: x\n" * 30 + b"data: last"):
        mocked.post(GENERATE, body=body, **EVENTS)
        with pytest.raises(ResponseDecodingError, match="the stream can't be read"):
            await stream_events(api)


async def test_leaving_a_stream_early_closes_it(mocked: aioresponses, api: Api) -> None:
    """Nothing is left to the garbage collector."""
    mocked.post(GENERATE, body=b"data: 1\n\ndata: 2\n\n", **EVENTS)
    tasks = asyncio.all_tasks()
    async with api.stream(b"{}") as source:
        events = source.events()
        assert (await anext(events)).data == "1"
        await events.aclose()
    assert asyncio.all_tasks() == tasks


# ---- reads --------------------------------------------------------------------------------------------------


async def test_a_look_tells_the_record_and_the_slots(mocked: aioresponses, api: Api) -> None:
    """A poll's own headers are news as well."""
    record = {"id": "clx1", "processingStatus": "processing"}
    mocked.get(f"{GENERATE}?id=clx1", payload={"data": record}, headers={"X-RateLimit-Active": "4"})
    reply = await api.get("clx1")
    assert (reply.value.status, reply.rate_limit.active) == ("processing", 4)


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        ('{"data":{"processingStatus":"processing"}}', False),
        ('{"data": {"processingStatus" : "processing", "prompt": "a cat"}}', False),
        ('{"data":{"processingStatus":"PROCESSING"}}', False),
        ('{"data":{"id":"clx1"}}', False),
        ('{"data":{"processingStatus":"completed"}}', True),
        ('{"data":{"processingStatus":"failed","errorMessage":"said \\"processingStatus\\":\\"processing\\""}}', True),
        ('{"data":{"processingStatus":"completed","first":{"processingStatus":"processing"}}}', True),
        ('{"data":{"outputImageUrls":["/1.png"],"steps":[{"processingStatus":"processing"}]}}', True),
        ('{"data":{"first":{"processingStatus":"processing"},"outputImageUrls":["/1.png"]}}', True),
        ('{"success":true,"data":{"outputImageUrls":[],"processingStatus":"processing"}}', False),
        ('{"data":{"outputImageUrls":["https://cdn.test/1.png"]}}', True),
    ],
)
async def test_a_watch_learns_what_has_ended(mocked: aioresponses, api: Api, body: str, ended: bool) -> None:
    """What still runs is told without a model of it; what only looks like it is not taken for it."""
    mocked.get(f"{GENERATE}?id=clx1", body=body, headers={"X-RateLimit-Active": "4"})
    reply = await api.look("clx1")
    assert (reply.value is not None, reply.rate_limit.active) == (ended, 4)


@pytest.mark.parametrize("status", [404, 500])
async def test_a_refused_look_is_no_running_generation(mocked: aioresponses, api: Api, status: int) -> None:
    """Whatever else its body says."""
    mocked.get(f"{GENERATE}?id=clx1", status=status, body='{"data":{"processingStatus":"processing"}}')
    with pytest.raises(APIStatusError):
        await api.look("clx1")


async def test_an_error_of_a_look_names_the_generation(mocked: aioresponses, api: Api) -> None:
    """And is never uncertain: to look again costs nothing."""
    mocked.get(f"{GENERATE}?id=clx1", status=404, payload={"error": "Not found"})
    with pytest.raises(NotFoundError, match=r"GET /generate\?id=clx1 answered 404: Not found"):
        await api.get("clx1")


@pytest.mark.parametrize("error", [aiohttp.ServerDisconnectedError(), TimeoutError()])
async def test_a_lost_look_is_a_transport_error(mocked: aioresponses, api: Api, error: Exception) -> None:
    """Retryable, as every read is."""
    mocked.get(f"{GENERATE}?id=clx1", exception=error)
    with pytest.raises(TransportError) as caught:
        await api.get("clx1")
    assert caught.value.retryable
    assert not isinstance(caught.value, SubmissionUncertainError)


async def test_the_models_are_a_list(mocked: aioresponses, api: Api) -> None:
    """Names with & and all."""
    mocked.get(f"{BASE}/models", payload={"data": [{"name": "nanobanan2&pro", "creditsCost": 4}]})
    assert [(model.name, model.credits_cost) for model in await api.models()] == [("nanobanan2&pro", 4)]


async def test_the_balance_is_a_number(mocked: aioresponses, api: Api) -> None:
    """An int, not an envelope."""
    mocked.get(f"{BASE}/credits", payload={"data": {"credits": 100}})
    assert await api.credits() == 100
