"""The edge: what is sent and to whom, what an error of the network means, and that the key stays where it belongs."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import math
import pickle
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
from aioresponses import aioresponses
from patience import PATIENCE
from yarl import URL

from nanobanana_async import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    NanoBananaError,
    RequestTimeoutError,
    ResponseDecodingError,
    SubmissionUncertainError,
    Timeouts,
    TransportError,
)
from nanobanana_async._addresses import check_base_url, find_proxy
from nanobanana_async._api import Api
from nanobanana_async._transport import LARGE_BODY, Transport

MIB = 1024 * 1024
KEY = "nb_0123456789abcdef"
API = "https://api.test/v1"
CDN = "https://cdn.test/a.png?sig=a%2Fb"
SHORT = Timeouts(request_timeout=0.05, submit_timeout=0.05, idle_timeout=0.05, download_timeout=0.05)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve: TypeAlias = Callable[[Talk], AbstractAsyncContextManager[str]]


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    with aioresponses() as mock:
        yield mock


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own environment must not matter."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(KEY, base_url=API)
    yield made
    await made.aclose()


@asynccontextmanager
async def serve(talk: Talk) -> AsyncIterator[str]:
    """A server that does to each connection what the test says; its URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def talking(talk: Talk, **options: Any) -> AsyncIterator[Transport]:
    """A transport whose API is such a server."""
    async with serve(talk) as url:
        made = Transport(KEY, base_url=url, **options)
        try:
            yield made
        finally:
            await made.aclose()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(answer: bytes) -> Talk:
    """Reads the request's head, says this, and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer)
        await writer.drain()

    return talk


def sent(mock: aioresponses) -> dict[str, Any]:
    """What the one request was made with."""
    ((call,),) = mock.requests.values()
    return dict(call.kwargs)


# ---- what is sent -------------------------------------------------------------------------------------------


async def test_a_request_carries_key_agent_and_type(mocked: aioresponses, transport: Transport) -> None:
    """What every call to the API needs."""
    mocked.post(f"{API}/generate", body=b"{}")
    await transport.request("POST", "/generate", body=b'{"prompt":"a"}')
    call = sent(mocked)
    assert call["headers"]["Authorization"] == f"Bearer {KEY}"
    assert call["headers"]["User-Agent"].startswith("nanobanana-async/")
    assert call["headers"]["Content-Type"] == "application/json"
    assert call["data"] == b'{"prompt":"a"}'


async def test_the_models_need_no_key(mocked: aioresponses, transport: Transport) -> None:
    """So none is sent."""
    mocked.get(f"{API}/models", body=b"{}")
    await transport.request("GET", "/models", authenticated=False)
    assert "Authorization" not in sent(mocked)["headers"]


async def test_without_a_key_only_what_needs_none_is_sent(mocked: aioresponses) -> None:
    """The price list is for everybody; anything else says what is missing."""
    transport = Transport(None, base_url=API)
    mocked.get(f"{API}/models", body=b"{}")
    await transport.request("GET", "/models", authenticated=False)
    with pytest.raises(ConfigurationError, match="NANO_BANANA_API_KEY"):
        await transport.request("GET", "/credits")
    await transport.aclose()


async def test_the_user_agent_may_be_chosen(mocked: aioresponses) -> None:
    """A firewall may dislike ours."""
    transport = Transport(KEY, base_url=API, user_agent="mine/1")
    mocked.get(f"{API}/credits", body=b"{}")
    await transport.request("GET", "/credits")
    assert sent(mocked)["headers"]["User-Agent"] == "mine/1"
    await transport.aclose()


@pytest.mark.parametrize("agent", ["mine/1\r\nX-Other: 1", "mine\0"])
def test_a_user_agent_is_one_line(agent: str) -> None:
    """Found at once, instead of with every request."""
    with pytest.raises(ConfigurationError, match="no user agent"):
        Transport(KEY, base_url=API, user_agent=agent)


async def test_an_id_is_quoted(mocked: aioresponses, transport: Transport) -> None:
    """Whatever an id is made of, it stays one parameter."""
    mocked.get(f"{API}/generate?id=a%26b%3Dc", body=b"{}")
    await transport.request("GET", "/generate", params={"id": "a&b=c"})
    assert len(mocked.requests) == 1


async def test_images_are_fetched_without_the_key(mocked: aioresponses, transport: Transport) -> None:
    """No host but the API's own gets it; a signed link is sent as it is."""
    mocked.get(URL(CDN, encoded=True), body=b"\x89PNG")
    async with await transport.fetch(CDN, headers={"Range": "bytes=4-"}) as response:
        assert (await response.read()).body == b"\x89PNG"
    call = sent(mocked)
    assert KEY not in str(call)
    assert call["headers"]["Range"] == "bytes=4-"


async def test_even_the_apis_own_images_are_fetched_without_the_key(mocked: aioresponses, transport: Transport) -> None:
    """A link is no API call, and what answers it may redirect anywhere."""
    mocked.get("https://api.test/outputs/1.png", body=b"\x89PNG")
    async with await transport.fetch("https://api.test/outputs/1.png"):
        assert KEY not in str(sent(mocked))


async def test_a_redirect_is_not_followed() -> None:
    """Neither may the key cross to another origin, nor a POST be sent twice."""
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    async with talking(talk) as transport:
        response = await transport.request("POST", "/generate", body=b"{}")
    assert (response.status, len(heads)) == (307, 1)


async def test_a_large_body_is_sent_whole_with_its_length() -> None:
    """Nine reference images as data URIs are some 18 MB."""
    body, seen = b"x" * (LARGE_BODY + 1), []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_head(reader))
        seen.append(await reader.readexactly(len(body)))
        writer.write(OK)

    async with talking(talk) as transport:
        await transport.request("POST", "/generate", body=body)
    assert f"Content-Length: {len(body)}".encode() in seen[0]
    assert b"Content-Type: application/json" in seen[0]
    assert seen[1] == body


async def test_a_refusal_before_the_body_was_read_is_read() -> None:
    """A server may say 413 to the head of a request, and read no further."""
    refused = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await refused.wait()

    async with talking(talk) as transport, asyncio.timeout(PATIENCE):
        response = await transport.request("POST", "/generate", body=b"x" * 30_000_000)
        refused.set()
    assert response.status == 413


# ---- proxies and netrc --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"https_proxy": "http://p.test:3128"}, "https://api.test/v1", "http://p.test:3128"),
        ({"https_proxy": "p.test:3128"}, "https://api.test/v1", "http://p.test:3128"),
        ({"http_proxy": "http://p.test:3128"}, "https://api.test/v1", None),
        ({"https_proxy": "http://p.test:3128", "no_proxy": "api.test"}, "https://api.test/v1", None),
        ({"http_proxy": "http://p.test:3128"}, "http://localhost:8000", None),
        ({"http_proxy": "http://p.test:3128"}, "http://127.0.0.2:8000", None),
        ({"http_proxy": "http://p.test:3128"}, "http://[::1]:8000", None),
        ({}, "https://api.test/v1", None),
    ],
)
def test_the_environments_proxy_is_used_but_not_for_this_machine(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emulator on this machine is not behind the company's proxy."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(url) == proxy


async def test_requests_go_through_the_proxy_with_its_own_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy's credentials are the proxy's, the key the API's."""
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_head(reader)).decode())
        writer.write(OK)

    async with serve(talk) as url:
        monkeypatch.setenv("http_proxy", url.replace("http://", "http://user:pass@"))
        transport = Transport(KEY, base_url="http://api.test/v1")
        await transport.request("GET", "/credits")
        await transport.aclose()
    assert heads[0].startswith("GET http://api.test/v1/credits ")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:pass').decode()}" in heads[0]


async def test_a_proxy_that_refuses_means_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its CONNECT failed, so the API has seen nothing and nothing is charged."""
    async with serve(answering(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")) as url:
        monkeypatch.setenv("https_proxy", url)
        transport = Transport(KEY, base_url=API)
        with pytest.raises(ConnectError, match="the proxy answered 407") as caught:
            await transport.request("POST", "/generate", body=b"{}")
        await transport.aclose()
    assert KEY not in everything(caught.value)


async def test_a_netrc_does_not_displace_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A default entry in ~/.netrc matches every host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_head(reader)).decode())
        writer.write(OK)

    async with serve(talk) as url:
        monkeypatch.setenv("http_proxy", url)
        transport = Transport(KEY, base_url="http://api.test/v1")
        await transport.request("GET", "/credits")
        await transport.aclose()
    assert f"Authorization: Bearer {KEY}" in heads[0]


# ---- what an error means ------------------------------------------------------------------------------------


async def test_a_closed_port_means_never_sent() -> None:
    """Safe to send again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    transport = Transport(KEY, base_url=f"http://127.0.0.1:{port}")
    with pytest.raises(ConnectError, match="POST /generate: no connection"):
        await transport.request("POST", "/generate", body=b"{}")
    await transport.aclose()


async def test_an_unknown_host_means_never_sent(monkeypatch: pytest.MonkeyPatch, transport: Transport) -> None:
    """Name resolution failed."""

    async def fail(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(ConnectError):
        await transport.request("POST", "/generate", body=b"{}")


async def test_a_failed_handshake_means_never_sent() -> None:
    """TLS stands before the request."""
    async with serve(stall_inside) as url:
        transport = Transport(KEY, base_url=url.replace("http:", "https:"))
        with pytest.raises(ConnectError):
            await transport.request("POST", "/generate", body=b"{}")
        await transport.aclose()


async def test_a_full_pool_means_never_sent(mocked: aioresponses) -> None:
    """The wait for a place among a caller's own connections is a part of connecting."""
    mocked.post(f"{API}/generate", exception=aiohttp.ConnectionTimeoutError("no place"))
    transport = Transport(KEY, base_url=API)
    with pytest.raises(ConnectError):
        await transport.request("POST", "/generate", body=b"{}")
    await transport.aclose()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Resets the connection before anything was read."""
    writer.transport.abort()


async def read_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Resets it once the request is there: it may have been acted upon."""
    await read_head(reader)
    writer.transport.abort()


async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await reader.read()


async def stall_inside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers by half."""
    writer.write(OK[:-1])
    await reader.read()


@pytest.mark.parametrize(
    ("talk", "error"),
    [
        (hang_up, TransportError),
        (read_and_hang_up, TransportError),
        (stall, RequestTimeoutError),
        (stall_inside, RequestTimeoutError),
        (answering(b""), TransportError),
        (answering(b"HTTP/1.1 abc\r\n\r\n"), TransportError),
        (answering(b"\x00\x01\x02\r\n\r\n"), TransportError),
        (answering(OK[:-1]), ResponseDecodingError),
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), ResponseDecodingError),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), ResponseDecodingError),
    ],
)
async def test_what_breaks_after_connecting_may_have_been_sent(talk: Talk, error: type[TransportError]) -> None:
    """Never a ConnectError, because that one is sent again."""
    timeouts = SHORT if error is RequestTimeoutError else None
    async with talking(talk, timeouts=timeouts) as transport:
        with pytest.raises(error) as caught:
            await transport.request("POST", "/generate", body=b"{}")
    assert not isinstance(caught.value, ConnectError)
    assert str(caught.value).startswith("POST /generate: ")


MOST = 8 * MIB


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no more of an answer than MOST."""
    monkeypatch.setattr("nanobanana_async._transport.MAX_ANSWER_BYTES", MOST)


def endless(unit: bytes) -> Talk:
    """Begins to answer and never ends."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(unit)
                await writer.drain()

    return talk


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_endless_answer_is_not_read_for_ever(method: str) -> None:
    """It would fill the memory. Of a submission nobody knows then whether it was taken: uncertain, not refused."""
    expected = {"GET": ResponseDecodingError, "POST": SubmissionUncertainError}[method]
    async with talking(endless(b" " * MIB)) as transport:
        api = Api(transport)
        with pytest.raises(expected, match=f"longer than {MOST:,} bytes"):
            await (api.get("clx9") if method == "GET" else api.submit(b"{}"))


@pytest.mark.usefixtures("short_answers")
async def test_a_small_answer_that_unpacks_to_a_huge_one_is_not_read_for_ever() -> None:
    """What counts is the memory it takes, not the line."""
    bomb = gzip.compress(bytes(MOST + 1))
    headers = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n"
    answer = f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + bomb
    async with talking(answering(answer)) as transport:
        with pytest.raises(ResponseDecodingError, match="longer than"):
            await transport.request("GET", "/credits")


@pytest.mark.usefixtures("short_answers")
async def test_a_json_answer_to_a_stream_is_not_read_for_ever() -> None:
    """A stream may be answered by plain JSON, which is read whole as well."""
    async with talking(endless(b" " * MIB)) as transport:
        with pytest.raises(SubmissionUncertainError, match="longer than"):
            async with Api(transport).stream(b"{}"):
                pass


async def test_a_large_answer_is_read_whole() -> None:
    """Images may come as data URIs inside of it."""
    body = b'{"data":"' + b"A" * (8 * MIB) + b'"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with talking(answering(answer)) as transport:
        assert (await transport.request("GET", "/generate")).body == body


async def test_a_silent_stream_times_out() -> None:
    """Its heartbeats come every 15 s; silence longer than that is a dead connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await reader.read()

    async with (
        talking(talk) as transport,
        await transport.stream("/generate", body=b"{}", idle_timeout=0.05) as response,
    ):
        assert await response.chunk() == b"data: 1\n\n"
        with pytest.raises(RequestTimeoutError):
            await response.chunk()


async def test_an_endless_stream_ends_with_the_generations_patience() -> None:
    """Heartbeats alone must not hold a slot for ever."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while not writer.is_closing():
            writer.write(b": ping\n\n")
            await asyncio.sleep(0.005)

    async def read_all(transport: Transport) -> None:
        async with await transport.stream("/generate", body=b"{}", idle_timeout=1.0) as response:
            while await response.chunk():
                pass

    async with talking(talk, timeouts=Timeouts(generation_timeout=0.05)) as transport:
        with pytest.raises(RequestTimeoutError):
            await read_all(transport)


async def test_a_callers_session_may_not_turn_a_refusal_into_a_lost_answer() -> None:
    """`raise_for_status` would hide a 429 in an exception that looks as if the answer had been lost."""
    refusal = b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n"
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        talking(answering(refusal), session=session) as transport,
    ):
        assert (await transport.request("POST", "/generate", body=b"{}")).status == 429
        async with await transport.fetch(f"{transport.base_url}/a.png") as response:
            assert response.status == 429


# ---- every request is finite --------------------------------------------------------------------------------


async def test_every_request_is_finite(mocked: aioresponses, transport: Transport) -> None:
    """Connecting is always bounded, and so is either the whole or every silence of it."""
    for path in ("/credits", "/generate"):
        mocked.get(f"{API}{path}", body=b"{}")
        mocked.post(f"{API}{path}", body=b"{}", repeat=True)
    mocked.get(URL(CDN, encoded=True), body=b"")
    await transport.request("GET", "/credits")
    await transport.request("POST", "/generate", timeout=7.0)
    async with await transport.stream("/generate", body=b"", idle_timeout=3.0), await transport.fetch(CDN):
        pass
    limits = [call.kwargs["timeout"] for calls in mocked.requests.values() for call in calls]
    assert len(limits) == 4
    assert {limit.connect for limit in limits} == {limit.sock_connect for limit in limits} == {10.0}
    assert all(limit.total or limit.sock_read for limit in limits)
    assert [(limit.total, limit.sock_read) for limit in limits] == [(30, None), (7, None), (900, 3), (None, 60)]


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", [field.name for field in fields(Timeouts)])
def test_a_timeout_that_is_none_is_refused(name: str, seconds: float) -> None:
    """aiohttp takes 0 for "no limit"."""
    with pytest.raises(ConfigurationError, match=name):
        Timeouts(**{name: seconds})


def test_one_number_bounds_every_single_request() -> None:
    """Not the wait for a generation, which is many requests; connecting never gets longer by it."""
    limits = Timeouts.of(60.0)
    assert (limits.request_timeout, limits.submit_timeout, limits.sync_timeout) == (60.0, 60.0, 60.0)
    assert (limits.connect_timeout, limits.generation_timeout) == (10.0, 900.0)
    assert Timeouts.of(0.5).connect_timeout == 0.5
    assert Timeouts.of(limits) is limits


# ---- the key ------------------------------------------------------------------------------------------------


def everything(error: BaseException) -> str:
    """All that anybody might print of an error and what caused it."""
    shown, seen, chain = [], set(), [error]
    while chain:
        link = chain.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        shown += [repr(link), str(link), repr(vars(link)), *traceback.format_exception(link, chain=False)]
        shown.append(repr(pickle.dumps(link)) if isinstance(link, NanoBananaError) else "")
        chain += [cause for cause in (link.__cause__, link.__context__) if cause is not None]
    return "\n".join(shown)


ECHOES = {
    "error body": json.dumps({"error": f"Invalid API key {KEY}"}).encode(),
    "nested": json.dumps({"error": {"message": KEY, "type": KEY}}).encode(),
    "plain": f"no such key: {KEY}".encode(),
    "page": f"<html>{KEY}</html>".encode(),
}


def http(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("form", ECHOES)
@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "429 Slow", "503 Busy"])
@pytest.mark.parametrize("mode", ["submit", "stream", "get"])
async def test_an_echoed_key_is_in_no_error(form: str, status: str, mode: str) -> None:
    """A server may repeat what it was sent; who reports our error must not publish the key."""
    async with talking(answering(http(status, ECHOES[form]))) as transport:
        api = Api(transport)
        with pytest.raises(NanoBananaError) as caught:
            await (open_stream(api) if mode == "stream" else api.submit(b"{}") if mode == "submit" else api.get("clx1"))
    assert KEY not in everything(caught.value)


async def open_stream(api: Api) -> None:
    async with api.stream(b"{}") as source:
        raise NanoBananaError(str([event async for event in source.events()]))


async def test_a_key_echoed_inside_a_stream_is_crossed_out() -> None:
    """Also when the network cuts it in two."""
    first, second = f'data: {{"type":"error","message":"bad key {KEY}"}}\n\n'.encode().split(b"0123", 1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + first)
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(b"0123" + second)

    async with talking(talk) as transport, Api(transport).stream(b"{}") as source:
        (event,) = [event async for event in source.events()]
    assert json.loads(event.data)["message"] == "bad key nb_***"


@pytest.mark.parametrize(
    "talk",
    [hang_up, read_and_hang_up, stall, answering(b"HTTP/1.1 abc\r\n\r\n"), answering(b"HTTP/1.1 200 OK\r\na\r\n\r\n")],
)
async def test_no_error_of_the_network_shows_the_key(talk: Talk) -> None:
    """aiohttp's errors may hold the request, with its headers."""
    async with talking(talk, timeouts=SHORT) as transport:
        with pytest.raises(SubmissionUncertainError) as caught:
            await Api(transport).submit(b"{}")
    assert KEY not in everything(caught.value)


async def test_a_redirect_that_repeats_the_key_is_told_without_it() -> None:
    """In a query, as such redirects do."""
    answer = f"HTTP/1.1 302 Found\r\nLocation: /login?key={KEY}\r\nContent-Length: 0\r\n\r\n".encode()
    async with talking(answering(answer)) as transport:
        with pytest.raises(NanoBananaError, match="redirected to /login; set base_url") as caught:
            await Api(transport).credits()
    assert KEY not in everything(caught.value)


async def test_nothing_is_logged_of_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """Not even at the lowest level."""
    caplog.set_level(logging.DEBUG)
    async with talking(answering(http("401 Unauthorized", ECHOES["plain"]))) as transport:
        with pytest.raises(AuthenticationError):
            await Api(transport).credits()
    assert KEY not in caplog.text


def test_a_transport_shows_and_pickles_no_key() -> None:
    """Its repr tells where it leads to; a pickle would carry the key to disk."""
    transport = Transport(KEY, base_url=API)
    assert repr(transport) == f"<Transport {API}>"
    assert KEY not in repr(vars(transport))
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(transport)


async def test_a_short_key_crosses_out_no_words() -> None:
    """An emulator's key may be three letters that stand in every id."""
    async with serve(answering(http("200 OK", b'{"generationId":"nb_clx1"}'))) as url:
        transport = Transport("nb_", base_url=url)
        assert (await Api(transport).submit(b"{}")).value.generation_id == "nb_clx1"
        await transport.aclose()


# ---- base URLs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://x.test/api/v1", "https://x.test/api/v1/", " https://x.test/api/v1\n"])
def test_a_base_url_is_kept_without_what_surrounds_it(url: str) -> None:
    """Paths are appended to it."""
    assert check_base_url(url) == "https://x.test/api/v1"


@pytest.mark.parametrize(
    "url",
    [
        "", "x.test/api", "ftp://x.test", "https://", "https:///api", "https://x.test:99999", "https://x.test:no",
        "https://[::1", "https://x.test/api?key=1", "https://x.test/#api", f"https://{KEY}@x.test", KEY,
    ],
)  # fmt: skip
def test_an_unusable_base_url_is_refused_without_repeating_a_key(url: str) -> None:
    """What stands in the wrong place may be the key."""
    with pytest.raises(ConfigurationError, match="base_url is no base URL") as caught:
        check_base_url(url)
    assert KEY not in everything(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "''"), ("x.test/api", "'x.test/api'"), ("ftp://x.test", "'ftp://x.test'"),
        ("https://x.test/api?key=1", "'https://x.test/api'"), ("https://x.test/#k", "'https://x.test/'"),
        ("https://me:secret@x.test", "not shown"), ("secret", "not shown"),
    ],
)  # fmt: skip
def test_an_unusable_base_url_is_shown_with_where_it_stood(
    url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it can be found; but nothing of it that may be a secret."""
    monkeypatch.setenv("NANO_BANANA_BASE_URL", url)
    with pytest.raises(ConfigurationError, match="NANO_BANANA_BASE_URL is no base URL: ") as caught:
        check_base_url(url)
    assert shown in str(caught.value)
    assert "secret" not in str(caught.value).replace("a secret", "")
    monkeypatch.delenv("NANO_BANANA_BASE_URL")
    with pytest.raises(ConfigurationError, match=r"^base_url is no base URL: "):
        check_base_url(url)


@pytest.mark.parametrize(
    ("url", "warned"), [("http://x.test", True), ("http://localhost:1", False), ("http://127.0.0.1:1", False)]
)
def test_plain_http_is_warned_of(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Anybody between here and there reads the key; on this machine nobody is in between."""
    with caplog.at_level("WARNING", "nanobanana_async"):
        check_base_url(url)
    assert ("plain http to x.test" in caplog.text) is warned


# ---- sessions -----------------------------------------------------------------------------------------------


async def test_a_session_of_the_callers_is_used_and_left_open(mocked: aioresponses) -> None:
    """Who creates it closes it."""
    mocked.get(f"{API}/credits", body=b"{}")
    async with aiohttp.ClientSession() as session:
        transport = Transport(KEY, base_url=API, session=session)
        await transport.request("GET", "/credits")
        await transport.aclose()
        assert not session.closed


async def test_closing_is_idempotent_and_a_later_request_starts_anew(mocked: aioresponses) -> None:
    """A transport is no more than its settings until it is used."""
    mocked.get(f"{API}/credits", body=b"{}", repeat=True)
    transport = Transport(KEY, base_url=API)
    await transport.aclose()
    for _ in range(2):
        assert (await transport.request("GET", "/credits")).status == 200
        await transport.aclose()
        await transport.aclose()


def test_one_transport_serves_one_loop_after_another(mocked: aioresponses) -> None:
    """`asyncio.run` twice, with a client made outside of both."""
    mocked.get(f"{API}/credits", body=b"{}", repeat=True)
    transport = Transport(KEY, base_url=API)

    async def use() -> int:
        try:
            return (await transport.request("GET", "/credits")).status
        finally:
            await transport.aclose()

    assert [asyncio.run(use()), asyncio.run(use())] == [200, 200]
