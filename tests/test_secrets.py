"""The key goes to the API's own origin, and nowhere else: no log, repr, error, pickle or file has it."""

import asyncio
import copy
import logging
import pickle
import traceback

import pytest

from nanobanana_async import Backoff, Client, ConfigurationError, NanoBananaError, RetryPolicy, Timeouts
from nanobanana_async._job import Destination
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

KEY = "nb_a-very-secret-key-0123456789"

IN_A_HURRY = {"poll": 0.01, "retry": RetryPolicy(backoff=Backoff(initial_delay=0.01, max_delay=0.01))}
FAULTS = {
    "refused": FaultPlan(Fault("submit", "error_500", times=1)),
    "wall": FaultPlan(Fault("submit", "html_wall", times=1)),
    "reset": FaultPlan(Fault("submit", "reset_after", times=1)),
    "garbage": FaultPlan(Fault("submit", "garbage_200", times=1)),
    "cut": FaultPlan(Fault("submit", "truncate", times=1)),
    "stall": FaultPlan(Fault("submit", "stall", times=1)),
    "image": FaultPlan(Fault("image", "wrong_image", times=20)),
}


def told_by(error):
    """Everything an error shows, those behind it included."""
    yield from traceback.format_exception(error)
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        error = error.__cause__ or error.__context__


@pytest.fixture
def everything_logged(caplog):
    """All loggers at DEBUG, asyncio's and aiohttp's as well."""
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp", "aiohttp.client", "nanobanana_async"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_error_and_no_log_has_the_key(everything_logged, tmp_path, fault):
    """Whatever goes wrong on the wire."""
    asyncio.get_running_loop().set_debug(True)
    async with (
        Emulator(duration=0.01, faults=FAULTS[fault], image_size=48) as emulator,
        Client(KEY, base_url=emulator.url, **IN_A_HURRY, timeout=Timeouts(submit_timeout=0.05)) as client,
    ):
        job = await client.submit("a cat")
        with pytest.raises(NanoBananaError) as caught:  # either may be what fails
            await client.download(await job.result(), tmp_path)
        shown = [*told_by(caught.value), repr(client), repr(job), repr(client.statistics()), everything_logged.text]
    assert not [text for text in shown if KEY in text]
    assert KEY.encode() not in pickle.dumps(caught.value)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 abc\r\n\r\n", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\x00: b\r\n\r\n"]
)
async def test_an_answer_that_is_no_http_does_not_show_the_request(everything_logged, answer):
    """aiohttp's own error carries the request's headers: it must not hang on ours."""

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    async with server, Client(KEY, base_url=url, poll=0.01) as client:
        with pytest.raises(NanoBananaError) as caught:
            await client.generate("a cat")
    assert not [text for text in told_by(caught.value) if KEY in text]
    assert KEY not in everything_logged.text


async def test_a_server_that_repeats_the_key_does_not_get_it_into_an_error(everything_logged):
    """Some proxies echo what they were sent."""

    async def talk(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        body = b'{"error": "bad header: ' + request.split(b"Authorization: ")[1].split(b"\r\n")[0] + b'"}'
        writer.write(b"HTTP/1.1 400 No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    async with server, Client(KEY, base_url=url) as client:
        for call in (client.credits, lambda: client.generate("a cat")):
            with pytest.raises(NanoBananaError, match="bad header") as caught:
                await call()
            assert not [text for text in told_by(caught.value) if KEY in text]
    assert KEY not in everything_logged.text


async def test_the_image_origin_never_sees_the_key(tmp_path, new_job):
    """It is another host. Nor does any file have it."""
    async with (
        Emulator(duration=0.01, image_size=48) as emulator,
        Client(KEY, base_url=emulator.url, poll=0.01) as client,
    ):
        job = new_job(destination=Destination(tmp_path))
        await client.enqueue(job)
        await job.result()
        await client.download(job.generation, tmp_path / "again")
        assert emulator.ledger.charges == 1
        assert not emulator.ledger.image_authorization_seen
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*.*"))


def test_nothing_that_holds_the_key_is_copied_or_pickled():
    """Nor shown by its repr or its parts'."""
    client = Client(KEY)
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="key"):
            take(client)
    assert KEY not in repr(client)
    assert KEY not in repr(vars(client))
    assert KEY not in repr(vars(client._seats[0].transport))


@pytest.mark.parametrize("key", ["nb_two words", "nb_ümlaut", "nb_line\nbreak"])
def test_an_impossible_key_is_not_repeated(key):
    """Not even a mistyped one."""
    with pytest.raises(ConfigurationError) as caught:
        Client(key)
    assert key not in str(caught.value)
