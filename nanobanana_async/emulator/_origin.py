"""The second origin: image URLs, their bytes, and their end after fifteen days."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiohttp import web

from . import _refusals, _strikes
from ._clock import Clock
from ._faults import Fault
from ._images import choose_format, draw
from ._ledger import Entry, Ledger
from ._settings import Settings

CACHED_PICTURES = 256
"""About 10 MB at 1024 px; a picture let go is drawn again, to the same bytes."""

DRAWING_THREADS = 2

_NAME = re.compile(r"(?P<id>\w+)-(?P<index>\d+)\.png")
_RANGE = re.compile(r"bytes=(?P<first>\d+)-(?P<last>\d*)")


@dataclass(frozen=True, slots=True)
class Picture:
    """Bytes ready to send."""

    data: bytes
    content_type: str
    etag: str


class Origin:
    """Serves pictures, drawn at their first download."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Clock) -> None:
        self.url = ""
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._pictures: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._threads = ThreadPoolExecutor(DRAWING_THREADS, "emulator-images")

    def close(self) -> None:
        """End the drawing threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def urls(self, entry: Entry) -> list[str]:
        """Where the entry's images are, written in the style asked for; none until it is completed."""
        if entry.state != "completed":
            return []
        if self._settings.url_style == "data":
            return [_data_uri(await self._picture(entry, index)) for index in range(entry.quantity)]
        prefix = self._prefix()
        return [f"{prefix}/images/{entry.generation_id}-{index}.png" for index in range(entry.quantity)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a download from the image origin, where no key may ever appear."""
        self._ledger.image_authorization_seen |= "Authorization" in request.headers
        return await self.serve_relative(request)

    async def serve_relative(self, request: web.Request) -> web.StreamResponse:
        """Answer a download from any host: relative URLs point at the API's own."""
        self._ledger.requests["GET /images"] += 1
        try:
            return await self._answer(request)
        except _refusals.RefusedError as refusal:
            return web.json_response(refusal.body, status=refusal.status)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        entry, index = self._find(request.match_info["name"])
        fault = self._settings.faults.draw("image", entry.prompt)
        if struck := await self._struck(fault, request):
            return struck
        if self._clock.now() - entry.created_at > self._settings.image_life:
            raise _refusals.gone()
        picture = await self._picture(entry, index)
        entry.downloads += 1
        self._ledger.changed()
        return await _strikes.cut(fault, request, self._respond(request, picture))

    async def _struck(self, fault: Fault | None, request: web.Request) -> web.Response | None:
        if fault is not None and fault.kind == "expire":
            raise _refusals.gone()
        if fault is not None and fault.kind == "busy":
            raise _refusals.server_busy(self._ledger.active)
        return _strikes.before(fault, request, None, 0) or await _strikes.instead(fault, request)

    def _find(self, name: str) -> tuple[Entry, int]:
        match = _NAME.fullmatch(name)
        entry = self._ledger.find(match["id"]) if match else None
        if match is None or entry is None or entry.state != "completed" or int(match["index"]) >= entry.quantity:
            raise _refusals.not_found("Image")
        return entry, int(match["index"])

    def _prefix(self) -> str:
        styles = {"relative": "", "protocol-relative": self.url.removeprefix("http:")}
        return styles.get(self._settings.url_style, self.url)

    async def _picture(self, entry: Entry, index: int) -> Picture:
        place = (entry.generation_id, index)
        picture = self._pictures.get(place)
        if picture is None:
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._draw, entry, index)
            picture = self._pictures[place] = await work
            while len(self._pictures) > CACHED_PICTURES:
                self._pictures.popitem(last=False)
        return picture

    def _draw(self, entry: Entry, index: int) -> Picture:
        image_format = choose_format(self._settings.image_format, entry.prompt, index)
        data = draw(entry.prompt, index, entry.aspect_ratio, self._settings.image_size, image_format)
        return Picture(data, f"image/{image_format}", f'"{hashlib.sha256(data).hexdigest()[:32]}"')

    def _respond(self, request: web.Request, picture: Picture) -> web.Response:
        headers = {"ETag": picture.etag, "Cache-Control": "public, max-age=1296000"}
        if self._settings.ranges:
            headers["Accept-Ranges"] = "bytes"
        asked = _RANGE.fullmatch(request.headers.get("Range", ""))
        current = request.headers.get("If-Range", picture.etag) == picture.etag
        if not (self._settings.ranges and asked and current):
            return web.Response(body=picture.data, content_type=picture.content_type, headers=headers)
        return _part(picture, int(asked["first"]), int(asked["last"] or len(picture.data) - 1), headers)


def _part(picture: Picture, first: int, last: int, headers: dict[str, str]) -> web.Response:
    size = len(picture.data)
    if first >= size or last < first:
        return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    last = min(last, size - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    body = picture.data[first : last + 1]
    return web.Response(status=206, body=body, content_type=picture.content_type, headers=headers)


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.content_type};base64,{base64.b64encode(picture.data).decode()}"
