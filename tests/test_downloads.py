"""Downloads over real sockets, to real files: what is stored, what is tried again, and what is left behind."""

import asyncio
import base64
import gzip
import itertools
import os
import random
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from aiohttp import web

from nanobanana_async import Client
from nanobanana_async._downloads import Downloads, DownloadStatistics
from nanobanana_async._exceptions import (
    DownloadError,
    DownloadExpiredError,
    DownloadIncompleteError,
    NotAnImageError,
)
from nanobanana_async._models import Generation
from nanobanana_async._retry import Backoff, RetryPolicy
from nanobanana_async._timeouts import Timeouts
from nanobanana_async._transport import Transport

KIB = 1024
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
AT_ONCE = RetryPolicy(backoff=Backoff(initial_delay=0.0, jitter=0.0))
ONCE = RetryPolicy(max_attempts=1)
PNG = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(300 * KIB)
JPEG = b"\xff\xd8\xff\xe0" + b"\1" * 100
WEBP = b"RIFF\x70\0\0\0WEBP" + b"\2" * 100


class Witness:
    """Knows how much of the last answer of each path the reader has dealt with."""

    def __init__(self):
        self._arrived = {}
        self._waiting = {}

    async def arrival(self, path, size):
        """Wait until `size` bytes were dealt with: what a broken connection still holds is lost."""
        self._waiting[path] = (size, event) = (size, asyncio.Event())
        self.count(path, 0)
        await event.wait()

    def begin(self, path):
        self._arrived[path] = 0
        self._waiting.pop(path, None)

    def count(self, path, size):
        self._arrived[path] = self._arrived.get(path, 0) + size
        awaited, event = self._waiting.get(path, (0, None))
        if event is not None and self._arrived[path] >= awaited:
            event.set()


class WatchedTransport(Transport):
    """The transport, with a witness who counts."""

    witness: Witness

    async def fetch(self, url, *, headers=None):
        response, counted = await super().fetch(url, headers=headers), 0
        read, path = response.chunk, urlsplit(url).path

        async def chunk():
            """The one before is counted when the next is asked for: then it has been taken."""
            nonlocal counted
            if counted:
                self.witness.count(path, counted)
            body = await read()
            counted = len(body)
            return body

        response.chunk = chunk
        return response


class Cdn:
    """A server of images. `answers` maps a path to handlers, one a request; the last one stays."""

    def __init__(self):
        self.answers = {}
        self.witness = Witness()
        self.requests = []
        self.url = ""

    def link(self, path, *answers):
        self.answers[path] = list(answers)
        return f"{self.url}/{path}"

    def seen(self, name):
        return [request.get(name) for request in self.requests]

    async def handle(self, request):
        self.requests.append(request.headers)
        self.witness.begin(request.path)
        answers = self.answers[request.path[1:]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return await answer(request) if callable(answer) else web.Response(body=answer)


@asynccontextmanager
async def serving():
    cdn = Cdn()
    application = web.Application()
    application.router.add_get("/{tail:.*}", cdn.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cdn.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield cdn
    finally:
        await runner.cleanup()


@asynccontextmanager
async def downloading(cdn, *, patience=2.0, **settings):
    timeouts = Timeouts(download_timeout=patience)
    transport = WatchedTransport("nb_secret", base_url=f"{cdn.url}/api/v1", timeouts=timeouts)
    transport.witness = cdn.witness
    try:
        yield Downloads(transport, **{"retry": AT_ONCE, "now": lambda: NOW, **settings})
    finally:
        await transport.aclose()


@pytest.fixture
async def cdn():
    async with serving() as cdn:
        yield cdn


@pytest.fixture
async def downloads(cdn):
    async with downloading(cdn) as downloads:
        yield downloads


def generation(*urls, created_at=NOW - timedelta(days=1), generation_id="clx9", credits_used=None):
    return Generation(
        id=generation_id,
        prompt="a cat",
        model="m",
        image_urls=urls,
        created_at=created_at,
        credits_used=credits_used,
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---- answers ------------------------------------------------------------------------------------------------


def status(code, headers=None, body=b"no"):
    async def answer(request):
        return web.Response(status=code, headers=headers, body=body)

    return answer


async def announced(request, data, headers=None):
    """An answer that announces all of what was asked for, and where that starts."""
    start = request.http_range.start or 0
    response = web.StreamResponse(status=206 if start else 200, headers=headers)
    if start:
        response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    response.content_length = len(data) - start
    await response.prepare(request)
    return response, start


def broken_off(witness, data, at, headers=None):
    """Announce all of it, send some, cut the connection."""

    async def answer(request):
        response, start = await announced(request, data, headers)
        await response.write(data[start:at])
        await witness.arrival(request.path, at - start)
        request.transport.close()
        return response

    return answer


def ranged(data, headers=None, *, content_range=None):
    """A server that knows ranges."""

    async def answer(request):
        start = request.http_range.start or 0
        if not start:
            return web.Response(body=data, headers=headers)
        told = content_range or f"bytes {start}-{len(data) - 1}/{len(data)}"
        return web.Response(status=206, body=data[start:], headers={**(headers or {}), "Content-Range": told})

    return answer


def stalling(started, data=PNG, at=100 * KIB):
    """Send some and no more until the client goes away."""

    async def answer(request):
        response = web.StreamResponse()
        response.content_length = len(data)
        if at:
            await response.prepare(request)
            await response.write(data[:at])
        started.set()
        await asyncio.Event().wait()

    return answer


# ---- what is stored -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "suffix"), [(PNG, ".png"), (JPEG, ".jpg"), (WEBP, ".webp")])
async def test_the_suffix_is_that_of_the_content(cdn, downloads, tmp_path, data, suffix):
    """Whatever the link's suffix says."""
    paths = await downloads.save(generation(cdn.link("x.gif", data)), tmp_path)
    assert paths == [tmp_path / f"clx9{suffix}"]
    assert paths[0].read_bytes() == data
    assert names(tmp_path) == [f"clx9{suffix}"]


async def test_several_images_are_numbered_in_order(cdn, downloads, tmp_path):
    """The order is that of the links, whoever arrives first."""
    links = [cdn.link("a", PNG), cdn.link("b", JPEG), cdn.link("c", WEBP)]
    paths = await downloads.save(generation(*links), tmp_path, stem="cat")
    assert [path.name for path in paths] == ["cat-1.png", "cat-2.jpg", "cat-3.webp"]
    assert [path.read_bytes() for path in paths] == [PNG, JPEG, WEBP]


async def test_the_folder_is_made(cdn, downloads, tmp_path):
    """With all that is above it; it may be given as a str."""
    (path,) = await downloads.save(generation(cdn.link("x", JPEG)), str(tmp_path / "a" / "b"))
    assert path == tmp_path / "a" / "b" / "clx9.jpg"


async def test_a_folder_that_was_taken_away_is_made_again(cdn, downloads, tmp_path):
    """Somebody moves the images of a long run away, the folder with them."""
    link, folder = cdn.link("x", JPEG), tmp_path / "a"
    await downloads.save(generation(link), folder)
    folder.rename(tmp_path / "b")
    assert await downloads.save(generation(link), folder) == [folder / "clx9.jpg"]
    assert (folder / "clx9.jpg").read_bytes() == JPEG


@pytest.mark.parametrize("stem", ["../../escaped", "/abs", "..", "a/b", "x" * 300])
async def test_a_hostile_name_stays_in_the_folder(cdn, downloads, tmp_path, stem):
    """Ids come from a server, stems from prompts."""
    (path,) = await downloads.save(generation(cdn.link("x", JPEG), generation_id=stem), tmp_path / "in")
    assert path.parent == tmp_path / "in"
    assert names(tmp_path) == ["in"]


async def test_generations_without_an_id_do_not_meet(cdn, downloads, tmp_path):
    """A stream may end without ever telling the id."""
    one = await downloads.save(generation(cdn.link("a", JPEG), generation_id=""), tmp_path)
    other = await downloads.save(generation(cdn.link("b", JPEG), generation_id=""), tmp_path)
    assert one != other


async def test_an_older_file_is_replaced_whole(cdn, downloads, tmp_path):
    """Downloading again is harmless."""
    (tmp_path / "clx9.jpg").write_bytes(b"old")
    await downloads.save(generation(cdn.link("x", JPEG)), tmp_path)
    assert (tmp_path / "clx9.jpg").read_bytes() == JPEG


async def test_a_data_uri_needs_no_network(cdn, downloads, tmp_path):
    """The image is in the link."""
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    (path,) = await downloads.save(generation(uri), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.requests == []


async def test_a_relative_link_belongs_to_the_api(cdn, downloads, tmp_path):
    """It is resolved against the base URL's host."""
    cdn.link("files/x.png", JPEG)
    assert await downloads.save(generation("/files/x.png"), tmp_path) == [tmp_path / "clx9.jpg"]


async def test_no_image_is_no_file(downloads, tmp_path):
    """A generation without links gives an empty list."""
    assert await downloads.save(generation(), tmp_path) == []


async def test_the_key_is_not_sent(cdn, downloads, tmp_path):
    """Not even to the API's own host: links need no key."""
    await downloads.save(generation(cdn.link("x", JPEG)), tmp_path)
    assert "nb_secret" not in str(cdn.requests)


async def test_a_compressed_answer_is_stored_decoded(cdn, downloads, tmp_path):
    """Though it was not asked for, and its length is not that of the image."""
    body = gzip.compress(PNG)
    link = cdn.link("x", status(200, {"Content-Encoding": "gzip", "ETag": '"1"'}, body))
    (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.seen("Accept-Encoding") == ["identity"]


async def test_an_answer_without_length_is_stored(cdn, downloads, tmp_path):
    """A chunked body ends where it says so."""

    async def chunked(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for at in range(0, len(PNG), 50_000):
            await response.write(PNG[at : at + 50_000])
        return response

    (path,) = await downloads.save(generation(cdn.link("x", chunked)), tmp_path)
    assert path.read_bytes() == PNG


def until_closed(*bodies):
    """A server that tells the end of a body by closing only; each connection gets the next of the bodies."""
    left = list(bodies)

    async def answer(request):
        body = left.pop(0) if len(left) > 1 else left[0]
        request.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
        request.transport.close()
        return web.Response()

    return answer


@pytest.mark.parametrize(
    "image",
    [
        PNG + b"\0\0\0\0IEND\xaeB`\x82",
        JPEG + b"\xff\xd9",
        b"RIFF" + (104).to_bytes(4, "little") + b"WEBP" + b"\2" * 100,
    ],
)
async def test_a_cut_that_looks_like_an_end_is_noticed(cdn, downloads, tmp_path, image):
    """Where only the closed connection ends a body, the image itself tells whether it is whole."""
    whole = generation(cdn.link("x", until_closed(image[:-1], image)))
    (path,) = await downloads.save(whole, tmp_path)
    assert path.read_bytes() == image
    assert len(cdn.requests) == 2


async def test_an_end_without_a_mark_is_believed_when_it_comes_again(cdn, downloads, tmp_path):
    """Better an odd image than none: what ends at the same byte twice is all there is."""
    (path,) = await downloads.save(generation(cdn.link("x", until_closed(PNG[:-9], PNG))), tmp_path)
    assert path.read_bytes() == PNG
    assert len(cdn.requests) == 3


@pytest.mark.parametrize("fsync", [True, False])
async def test_the_client_says_whether_to_sync(cdn, tmp_path, monkeypatch, fsync):
    """The file and the folder that has its name, or neither."""
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(real(file)))
    async with Client("nb_test", base_url=cdn.url, fsync=fsync) as client:
        await client.download(generation(cdn.link("x", PNG)), tmp_path)
    assert len(synced) == (2 if fsync else 0)


@pytest.mark.parametrize("chunk_size", [1, 7 * KIB, 300 * KIB])
@pytest.mark.parametrize("fsync", [True, False])
async def test_chunks_and_fsync_do_not_change_the_file(cdn, tmp_path, chunk_size, fsync):
    """Both are about speed and safety only."""
    async with downloading(cdn, chunk_size=chunk_size, fsync=fsync) as downloads:
        (path,) = await downloads.save(generation(cdn.link("x", PNG)), tmp_path)
    assert path.read_bytes() == PNG


async def test_the_first_bytes_may_come_one_by_one(cdn, tmp_path):
    """Nothing is written before it is known what it is, however small the chunks."""

    async def hesitant(request):
        response = web.StreamResponse()
        response.content_length = len(JPEG)
        await response.prepare(request)
        for at in range(len(JPEG)):
            await response.write(JPEG[at : at + 1])
            await cdn.witness.arrival(request.path, at + 1)
        return response

    async with downloading(cdn, chunk_size=1) as downloads:
        (path,) = await downloads.save(generation(cdn.link("x", hesitant)), tmp_path)
    assert path == tmp_path / "clx9.jpg"
    assert path.read_bytes() == JPEG


# ---- what is tried again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [429, 500, 502, 503, 408])
async def test_a_temporary_status_is_tried_again(cdn, downloads, tmp_path, bad):
    """An image that was paid is worth some patience."""
    link = cdn.link("x", status(bad), status(bad), JPEG)
    assert await downloads.save(generation(link), tmp_path) == [tmp_path / "clx9.jpg"]


async def test_retry_after_is_a_floor(cdn, tmp_path):
    """Coming back earlier than asked is never right."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async with downloading(cdn, sleep=sleep) as downloads:
        await downloads.save(generation(cdn.link("x", status(429, {"Retry-After": "7"}), JPEG)), tmp_path)
    assert slept == [7.0]


async def test_a_missing_image_is_tried_a_few_times(cdn, downloads, tmp_path):
    """A CDN may know it a moment later than the API; after three looks it does not."""
    assert await downloads.save(generation(cdn.link("x", status(404), status(404), JPEG)), tmp_path)
    with pytest.raises(DownloadError, match="answered 404") as caught:
        await downloads.save(generation(cdn.link("y", status(404))), tmp_path)
    assert len(cdn.requests) == 3 + 3
    assert not caught.value.retryable


@pytest.mark.parametrize("page", [b"<html>try later</html>", b'{"error": "not ready"}', b"{}", b""])
async def test_a_page_in_place_of_an_image_is_tried_again(cdn, downloads, tmp_path, page):
    """A 200 with HTML or JSON may be temporary."""
    link = cdn.link("x", status(200, {"ETag": '"1"'}, page), JPEG)
    assert await downloads.save(generation(link), tmp_path) == [tmp_path / "clx9.jpg"]
    assert cdn.seen("Range") == [None, None]


@pytest.mark.parametrize(
    ("content_type", "body", "told"), [("text/html", b"<html>" * 99, "text/html"), ("image/png", b"", "an empty body")]
)
async def test_a_page_that_stays_is_no_image(cdn, downloads, tmp_path, content_type, body, told):
    """Nothing of it reaches the disk, and the error says what it was."""
    with pytest.raises(NotAnImageError, match=f"gave {told} instead"):
        await downloads.save(generation(cdn.link("x", status(200, {"Content-Type": content_type}, body))), tmp_path)
    assert names(tmp_path) == []


async def test_the_rest_is_asked_for_after_a_break(cdn, tmp_path):
    """With If-Range, so that the rest is that of the same image; across any number of breaks."""
    etag = {"ETag": '"v1"'}
    breaks = [broken_off(cdn.witness, PNG, 150 * KIB, etag), broken_off(cdn.witness, PNG, 200 * KIB, etag)]
    link = cdn.link("x", *breaks, ranged(PNG, etag))
    async with downloading(cdn, chunk_size=64 * KIB) as downloads:
        (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.seen("Range") == [None, f"bytes={150 * KIB}-", f"bytes={200 * KIB}-"]
    assert cdn.seen("If-Range") == [None, '"v1"', '"v1"']


async def test_a_part_of_the_rest_is_not_the_rest(cdn, downloads, tmp_path):
    """A server may send less than was asked for; what is whole is told by the length of the image."""
    etag = {"ETag": '"v1"'}
    told = {**etag, "Content-Range": f"bytes {9 * KIB}-{10 * KIB - 1}/{len(PNG)}"}
    piece = status(206, told, PNG[9 * KIB : 10 * KIB])
    link = cdn.link("x", broken_off(cdn.witness, PNG, 9 * KIB, etag), piece, ranged(PNG, etag))
    (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.seen("Range") == [None, f"bytes={9 * KIB}-", f"bytes={10 * KIB}-"]


async def test_last_modified_serves_where_there_is_no_etag(cdn, downloads, tmp_path):
    """It is a strong validator when it lies before the answer's own second."""
    modified = {"Last-Modified": "Fri, 20 Nov 2026 10:00:00 GMT"}
    link = cdn.link("x", broken_off(cdn.witness, PNG, 9 * KIB, modified), ranged(PNG, modified))
    (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.seen("If-Range") == [None, modified["Last-Modified"]]


@pytest.mark.parametrize(
    "headers", [None, {"ETag": 'W/"1"'}, {"ETag": 'W/"1"', "Last-Modified": "Fri, 20 Nov 2026 10:00:00 GMT"}]
)
async def test_without_a_validator_it_begins_anew(cdn, downloads, tmp_path, headers):
    """Nothing tells that the rest would be of the same image."""
    link = cdn.link("x", broken_off(cdn.witness, PNG, 9 * KIB, headers), ranged(PNG, headers))
    (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.seen("Range") == [None, None]


async def test_a_whole_answer_to_a_range_begins_anew(cdn, tmp_path):
    """The image has changed, or the server knows no ranges."""
    other = JPEG + b"\3" * 200 * KIB
    link = cdn.link("x", broken_off(cdn.witness, PNG, 150 * KIB, {"ETag": '"1"'}), other)
    async with downloading(cdn, chunk_size=64 * KIB) as downloads:
        (path,) = await downloads.save(generation(link), tmp_path)
    assert path == tmp_path / "clx9.jpg"
    assert path.read_bytes() == other
    assert names(tmp_path) == ["clx9.jpg"]


@pytest.mark.parametrize(
    ("headers", "content_range"),
    [
        ({"ETag": '"1"'}, f"bytes 0-{len(PNG) - 1}/{len(PNG)}"),
        ({"ETag": '"1"'}, f"bytes {9 * KIB}-{len(PNG)}/{len(PNG) + 1}"),
        ({"ETag": '"2"'}, None),
        ({"ETag": '"1"'}, "nonsense"),
    ],
)
async def test_an_unfitting_part_begins_anew(cdn, downloads, tmp_path, headers, content_range):
    """Another place, another length or another image are never glued together."""
    link = cdn.link(
        "x", broken_off(cdn.witness, PNG, 9 * KIB, {"ETag": '"1"'}), ranged(PNG, headers, content_range=content_range)
    )
    (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.seen("Range") == [None, f"bytes={9 * KIB}-", None]


async def test_an_unsatisfiable_range_begins_anew(cdn, downloads, tmp_path):
    """416: the image is shorter than it was."""
    link = cdn.link("x", broken_off(cdn.witness, PNG, 9 * KIB, {"ETag": '"1"'}), status(416), JPEG)
    assert await downloads.save(generation(link), tmp_path) == [tmp_path / "clx9.jpg"]
    assert cdn.seen("Range") == [None, f"bytes={9 * KIB}-", None]


async def test_a_body_that_always_breaks_is_incomplete(cdn, downloads, tmp_path):
    """After all attempts the error tells of it, and no half file stays."""
    with pytest.raises(DownloadIncompleteError, match="broke off") as caught:
        await downloads.save(generation(cdn.link("x", broken_off(cdn.witness, PNG, 200 * KIB))), tmp_path)
    assert caught.value.retryable
    assert len(cdn.requests) == AT_ONCE.max_attempts
    assert names(tmp_path) == []


async def test_a_server_that_is_not_there_is_a_download_error(downloads, tmp_path):
    """The transport's error is the cause; the reader needs one kind only."""
    with pytest.raises(DownloadError, match="no connection"):
        await downloads.save(generation("http://127.0.0.1:1/x.png"), tmp_path)


# ---- what comes too slowly ----------------------------------------------------------------------------------

PATIENCE = 60.0  # seconds, by a clock that nobody waits for
BETWEEN = 5.0  # seconds from one piece to the next, by the same


class Clock:
    """Moves only when a server says so."""

    now = 0.0

    def __call__(self):
        return self.now


def trickling(witness, clock, piece, headers=None):
    """Sends a piece every few seconds, from where it was asked to."""

    async def answer(request):
        response, start = await announced(request, PNG, headers)
        for at in range(start, len(PNG), piece):
            await response.write(PNG[at : at + piece])
            await witness.arrival(request.path, min(at + piece, len(PNG)) - start)
            clock.now += BETWEEN
        return response

    return answer


async def test_a_dripping_download_ends_as_silence_does(cdn, tmp_path):
    """A byte every few seconds is no silence, and would hold one of the places for days. Nothing paid is lost."""
    clock = Clock()
    link = cdn.link("x", trickling(cdn.witness, clock, 1, {"ETag": '"1"'}))
    async with downloading(cdn, patience=PATIENCE, clock=clock) as downloads:
        with pytest.raises(DownloadIncompleteError, match=r"1,024 bytes a second.*client\.get\('clx9'\)") as caught:
            await downloads.save(generation(link), tmp_path)
        assert downloads.statistics().active == 0
    assert caught.value.generation_id == "clx9"
    assert len(cdn.requests) == AT_ONCE.max_attempts
    assert names(tmp_path) == []


async def test_a_drip_is_left_for_an_answer_that_is_faster(cdn, tmp_path):
    """The next attempt may meet another server, and goes on where this one was."""
    clock, etag = Clock(), {"ETag": '"1"'}
    link = cdn.link("x", trickling(cdn.witness, clock, 100, etag), ranged(PNG, etag))
    async with downloading(cdn, patience=PATIENCE, clock=clock) as downloads:
        (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert cdn.seen("Range") == [None, "bytes=1300-"]


async def test_a_slow_line_gets_there(cdn, tmp_path):
    """Sixteen at once share it: slow is no reason to give up what is paid."""
    clock = Clock()
    link = cdn.link("x", trickling(cdn.witness, clock, 6 * KIB))
    async with downloading(cdn, patience=PATIENCE, clock=clock) as downloads:
        (path,) = await downloads.save(generation(link), tmp_path)
    assert path.read_bytes() == PNG
    assert len(cdn.requests) == 1
    assert clock.now > 4 * PATIENCE


@pytest.mark.parametrize(("step", "requests"), [(1, AT_ONCE.max_attempts), (600, 10)])
async def test_attempts_count_anew_where_an_image_goes_on(cdn, downloads, tmp_path, step, requests):
    """However often it breaks off; but a byte an attempt is no progress."""
    etag = {"ETag": '"1"'}
    breaks = [broken_off(cdn.witness, PNG, 20 + step * number, etag) for number in range(1, 10)]
    try:
        await downloads.save(generation(cdn.link("x", *breaks, ranged(PNG, etag))), tmp_path)
    except DownloadIncompleteError:
        assert step == 1
    assert len(cdn.requests) == requests


# ---- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "age", "over"), [(410, 1, True), (404, 16, True), (403, 16, True), (403, 1, False)])
async def test_an_ended_link_is_expired(cdn, downloads, tmp_path, code, age, over):
    """410 says so; 403 and 404 mean it once the 15 days are over. It is not tried again."""
    made = generation(cdn.link("x", status(code)), created_at=NOW - timedelta(days=age))
    with pytest.raises(DownloadError) as caught:
        await downloads.save(made, tmp_path)
    assert isinstance(caught.value, DownloadExpiredError) is over
    assert not caught.value.retryable
    assert len(cdn.requests) == 1


@pytest.mark.parametrize("created_at", [None, datetime(2026, 11, 1)])
async def test_odd_dates_do_not_hide_the_error(cdn, downloads, tmp_path, created_at):
    """Without a creation date nothing is expired; one without a time zone is UTC."""
    with pytest.raises(DownloadError) as caught:
        await downloads.save(generation(cdn.link("x", status(403)), created_at=created_at), tmp_path)
    assert isinstance(caught.value, DownloadExpiredError) is (created_at is not None)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_huge_image_is_refused(cdn, tmp_path, announced):
    """By its announced length before a byte is read, else when it gets too long; compressed or not."""
    answer = PNG if announced else status(200, {"Content-Encoding": "gzip"}, gzip.compress(PNG))
    async with downloading(cdn, max_bytes=200 * KIB, chunk_size=64 * KIB) as downloads:
        with pytest.raises(DownloadError, match="larger than 204,800 bytes, the most that is taken from a link"):
            await downloads.save(generation(cdn.link("x", answer)), tmp_path)
    assert len(cdn.requests) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "link",
    [
        "ftp://x/y.png",
        "http://localhost:99999/x.png",
        f"http://{'a' * 64}.example/x.png",
        "data:image/png;base64,A",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,AAAA",
    ],
)
async def test_a_link_that_can_never_work_is_not_tried_again(tmp_path, downloads, link):
    """The error tells the generation all the same."""
    with pytest.raises(DownloadError) as caught:
        await downloads.save(generation(link), tmp_path)
    assert caught.value.generation_id == "clx9"
    assert not caught.value.retryable


async def test_an_error_tells_all_but_secrets(cdn, downloads, tmp_path):
    """Url without its signature, path, generation, credits, what to do; and it is one error, not a group."""
    cdn.link("x.png", status(400))
    with pytest.raises(DownloadError) as caught:
        await downloads.save(generation(f"{cdn.url}/x.png?signature=secret", credits_used=2), tmp_path)
    error = caught.value
    assert (error.url, error.path) == (f"{cdn.url}/x.png", str(tmp_path / "clx9"))
    assert (error.generation_id, error.credits_used) == ("clx9", 2)
    assert "client.get('clx9')" in str(error)
    assert "secret" not in repr(error.__dict__) + str(error) + str(error.__cause__)


async def test_one_failure_lets_the_others_finish(cdn, downloads, tmp_path):
    """The first error by order is raised, and says that there are more."""
    links = [cdn.link("a", JPEG), cdn.link("b", status(400)), cdn.link("c", status(410)), cdn.link("d", WEBP)]
    with pytest.raises(DownloadError, match="image 2 of generation clx9") as caught:
        await downloads.save(generation(*links), tmp_path)
    assert caught.value.__notes__ == ["1 more of its 4 images failed"]
    assert names(tmp_path) == ["clx9-1.jpg", "clx9-4.webp"]


async def test_a_file_in_the_folders_place_is_named(cdn, downloads, tmp_path):
    """Not retryable; nothing was asked of the network, nothing is lost."""
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(DownloadError, match="generation clx9") as caught:
        await downloads.save(generation(cdn.link("x", JPEG)), tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)
    assert not caught.value.retryable
    assert cdn.requests == []


async def test_a_folder_in_the_files_place_is_named(cdn, downloads, tmp_path):
    """The last step may fail as well, and leaves nothing."""
    (tmp_path / "clx9.jpg").mkdir()
    with pytest.raises(DownloadError, match=r"clx9\.jpg"):
        await downloads.save(generation(cdn.link("x", JPEG)), tmp_path)
    assert names(tmp_path) == ["clx9.jpg"]


async def test_a_full_disk_is_told_plainly(cdn, tmp_path):
    """Not tried again; what was written is gone. The limit on file sizes stands for the full disk."""
    link = cdn.link("x", PNG)
    async with downloading(cdn, chunk_size=64 * KIB) as downloads:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 * KIB, hard))
        try:
            with pytest.raises(DownloadError, match="too large for this disk") as caught:
                await downloads.save(generation(link), tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not caught.value.retryable
    assert caught.value.generation_id == "clx9"
    assert len(cdn.requests) == 1
    assert names(tmp_path) == []


async def test_misuse_is_no_download_error(cdn, tmp_path):
    """A bug shows as itself, without a group around it."""
    async with downloading(cdn, now=lambda: 1 / 0) as downloads:
        with pytest.raises(ZeroDivisionError):
            await downloads.save(generation(cdn.link("x", status(404))), tmp_path)


# ---- limits and numbers -------------------------------------------------------------------------------------


async def test_the_limit_is_shared(cdn, tmp_path):
    """However many callers there are; the numbers tell it."""
    gate, active, most = asyncio.Event(), 0, 0

    async def gated(request):
        nonlocal active, most
        active += 1
        most = max(most, active)
        if active == 3:
            full.set()
        await gate.wait()
        active -= 1
        return web.Response(body=JPEG)

    full = asyncio.Event()
    async with downloading(cdn, max_concurrent=3) as downloads, anyio.create_task_group() as group:
        for index in range(4):
            made = generation(cdn.link("a", gated), cdn.link("b", gated), generation_id=f"clx{index}")
            group.start_soon(downloads.save, made, tmp_path / "new")
        await full.wait()
        assert downloads.statistics() == DownloadStatistics(active=3, waiting=5, stored=0, bytes=0)
        gate.set()
    assert downloads.statistics() == DownloadStatistics(active=0, waiting=0, stored=8, bytes=8 * len(JPEG))
    assert most == 3
    assert "8 stored" in repr(downloads)


async def test_a_download_that_waits_to_try_again_holds_no_place(cdn, tmp_path):
    """Else a few long Retry-Afters would stop all."""
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(seconds):
        waiting.set()
        await go_on.wait()

    async with downloading(cdn, max_concurrent=1, sleep=sleep) as downloads, anyio.create_task_group() as group:
        group.start_soon(downloads.save, generation(cdn.link("a", status(503), JPEG)), tmp_path)
        await waiting.wait()
        assert downloads.statistics() == DownloadStatistics(active=0, waiting=1, stored=0, bytes=0)
        assert await downloads.save(generation(cdn.link("b", WEBP)), tmp_path)
        go_on.set()
    assert names(tmp_path) == ["clx9.jpg", "clx9.webp"]


# ---- cancellation -------------------------------------------------------------------------------------------

NATIVE, SCOPED = "task.cancel", "anyio scope"


class Caller:
    """One `save` that can be cancelled either way."""

    def __init__(self, kind, save, *args, **kwargs):
        self.kind = kind
        self.scope = anyio.CancelScope()
        self.task = asyncio.create_task(self._run(save, *args, **kwargs))

    async def _run(self, save, *args, **kwargs):
        with self.scope:
            return await save(*args, **kwargs)

    async def cancel(self):
        """Cancel, and wait for the end; True when it came too late."""
        if self.kind == NATIVE:
            self.task.cancel()
        else:
            self.scope.cancel()
        try:
            return await self.task is not None
        except asyncio.CancelledError:
            return False


class StallingExecutor(ThreadPoolExecutor):
    """Holds the nth call in its thread until told: where the disk is slow, a cancellation overtakes it."""

    def __init__(self, nth):
        super().__init__(max_workers=2)
        self.left = nth
        self.held = asyncio.Event()
        self.go_on = threading.Event()
        self.loop = asyncio.get_running_loop()

    def submit(self, call, /, *args):
        self.left -= 1
        return super().submit(self._hold if not self.left else call, *((call, *args) if not self.left else args))

    def _hold(self, call, *args):
        self.loop.call_soon_threadsafe(self.held.set)
        self.go_on.wait()
        return call(*args)


@pytest.mark.parametrize("kind", [NATIVE, SCOPED])
@pytest.mark.parametrize("at", [0, 5, 100 * KIB])
async def test_a_cancelled_transfer_leaves_nothing(cdn, tmp_path, kind, at):
    """Before the headers, before the first chunk is full, and with some of it on disk."""
    started = asyncio.Event()
    async with downloading(cdn, chunk_size=16 * KIB) as downloads:
        caller = Caller(kind, downloads.save, generation(cdn.link("x", stalling(started, at=at))), tmp_path)
        await started.wait()
        await caller.cancel()
        assert downloads.statistics() == DownloadStatistics(active=0, waiting=0, stored=0, bytes=0)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [NATIVE, SCOPED])
async def test_a_cancelled_wait_for_a_place_gives_it_back(cdn, tmp_path, kind):
    """The place goes to the next."""
    started = asyncio.Event()
    async with downloading(cdn, max_concurrent=1) as downloads:
        first = Caller(kind, downloads.save, generation(cdn.link("a", stalling(started))), tmp_path)
        await started.wait()
        second = Caller(kind, downloads.save, generation(cdn.link("b", JPEG)), tmp_path)
        await anyio.wait_all_tasks_blocked()
        assert downloads.statistics().waiting == 1
        await second.cancel()
        assert downloads.statistics() == DownloadStatistics(active=1, waiting=0, stored=0, bytes=0)
        await first.cancel()
        assert await downloads.save(generation(cdn.link("b", JPEG)), tmp_path)
    assert names(tmp_path) == ["clx9.jpg"]


@pytest.mark.parametrize("kind", [NATIVE, SCOPED])
async def test_a_cancelled_pause_leaves_nothing(cdn, tmp_path, kind):
    """Between two attempts the part is still on disk."""
    pausing = asyncio.Event()

    async def sleep(seconds):
        pausing.set()
        await asyncio.Event().wait()

    link = cdn.link("x", broken_off(cdn.witness, PNG, 150 * KIB, {"ETag": '"1"'}))
    async with downloading(cdn, chunk_size=16 * KIB, sleep=sleep) as downloads:
        caller = Caller(kind, downloads.save, generation(link), tmp_path)
        await pausing.wait()
        assert [name[-5:] for name in names(tmp_path)] == [".part"]
        await caller.cancel()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [NATIVE, SCOPED])
@pytest.mark.parametrize("chunk_size", [16 * KIB, 1024 * KIB], ids=["first write", "only write"])
async def test_a_cancelled_thread_writes_nothing_more(cdn, tmp_path, kind, chunk_size):
    """It was held just before its work, and does it after the part was given up."""
    executor = StallingExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    async with downloading(cdn, chunk_size=chunk_size) as downloads:
        caller = Caller(kind, downloads.save, generation(cdn.link("x", PNG)), tmp_path)
        await executor.held.wait()
        await caller.cancel()
        assert names(tmp_path) == []
    executor.go_on.set()
    executor.shutdown()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [NATIVE, SCOPED])
@pytest.mark.parametrize(("nth", "stored"), [(1, []), (2, ["clx9.png"])], ids=["file", "folder"])
async def test_a_cancelled_sync_harms_nobody(cdn, tmp_path, monkeypatch, kind, nth, stored):
    """Nobody waits for it: it ends on a descriptor that was given to others, and nothing is written there."""
    held, go_on, count = asyncio.Event(), threading.Event(), itertools.count(1)
    loop, fsync = asyncio.get_running_loop(), os.fsync

    def hold(descriptor):
        if next(count) == nth:
            loop.call_soon_threadsafe(held.set)
            go_on.wait()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hold)
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    async with downloading(cdn) as downloads:
        caller = Caller(kind, downloads.save, generation(cdn.link("x", PNG)), tmp_path / "out")
        await held.wait()
        await caller.cancel()
        assert names(tmp_path / "out") == stored
    decoys = [(tmp_path / f"decoy{number}").open("wb") for number in range(8)]
    go_on.set()
    executor.shutdown()
    assert names(tmp_path / "out") == stored
    for decoy in decoys:
        assert os.fstat(decoy.fileno()).st_size == 0
        decoy.close()


@pytest.mark.parametrize("kind", [NATIVE, SCOPED])
def test_random_cancellations_leave_whole_images_only(tmp_path, kind):
    """At any await, in any of several images: no temporary file, no descriptor, no place is ever lost."""
    before = open_descriptors()
    asyncio.run(cancel_at_random(tmp_path, kind, rounds=150), debug=False)  # -X dev would triple its time
    assert open_descriptors() == before


async def cancel_at_random(folder, kind, rounds):
    """Two images and one place: a transfer that breaks and goes on, beside a wait and a short transfer."""
    dice, late, etag = random.Random(kind), 0, {"ETag": '"1"'}
    image = PNG[: 60 * KIB]
    async with serving() as cdn, downloading(cdn, chunk_size=16 * KIB, max_concurrent=1) as downloads:

        def made(number):
            flaky = cdn.link("a", broken_off(cdn.witness, image, 40 * KIB, etag), ranged(image, etag))
            return generation(flaky, cdn.link("b", JPEG), generation_id=f"clx{number}")

        began = time.perf_counter()
        await downloads.save(made("whole"), folder)
        lasts = min(time.perf_counter() - began, 0.05)  # a stalled machine must not stall every round
        for number in range(rounds):
            caller = Caller(kind, downloads.save, made(number), folder)
            await asyncio.sleep(dice.uniform(0, lasts))
            late += await caller.cancel()
            statistics = downloads.statistics()
            assert (statistics.active, statistics.waiting) == (0, 0)
            check_whole(folder, {".png": len(image), ".jpg": len(JPEG)})
    assert late < rounds  # else this test tests nothing


def check_whole(folder, sizes):
    for path in folder.iterdir():
        assert path.suffix in sizes
        assert path.stat().st_size == sizes[path.suffix]
        path.unlink()


def open_descriptors():
    descriptors = Path("/proc/self/fd")
    return len(list(descriptors.iterdir())) if descriptors.exists() else 0
