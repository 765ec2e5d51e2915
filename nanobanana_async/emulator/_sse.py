"""The event stream of one generation: progress marks, heartbeats, and the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from . import _answers, _strikes
from ._accounts import Account
from ._faults import Fault
from ._generations import Generations
from ._ledger import Entry
from ._origin import Origin
from ._settings import Settings

MARKS = (
    (0.1, 20, "Preparing..."),
    (0.35, 45, "Generating..."),
    (0.65, 70, "Generating..."),
    (0.9, 90, "Saving..."),
)
"""Share of the duration, progress told, and message. Heartbeats between them tell 0."""


class Narrator:
    """Tells one generation to one client. The generation does not care whether anyone listens."""

    def __init__(self, settings: Settings, generations: Generations, origin: Origin) -> None:
        self._settings = settings
        self._generations = generations
        self._origin = origin

    async def tell(
        self,
        request: web.Request,
        response: web.StreamResponse,
        account: Account,
        entry: Entry,
        fault: Fault | None,
    ) -> web.StreamResponse:
        """Write every event to `response`, then end it."""
        response.content_type = "text/event-stream"
        response.headers["Cache-Control"] = "no-cache"
        await response.prepare(request)
        await self._status(response, entry, "Generation started", 5)
        if await self._struck(fault, request, response, entry):
            return response
        await self._wait(response, entry)
        await self._end(response, account, entry)
        return response

    async def _wait(self, response: web.StreamResponse, entry: Entry) -> None:
        now = asyncio.get_running_loop().time
        started = beaten = now()
        marks = list(MARKS)
        while True:
            beat = beaten + self._settings.heartbeat
            mark = started + entry.duration * marks[0][0] if marks else beat
            if await self._generations.wait(entry, max(0.0, min(beat, mark) - now())):
                return
            if marks and mark <= beat:
                _, progress, message = marks.pop(0)
                await self._status(response, entry, message, progress)
            else:
                beaten = now()
                await self._status(response, entry, "Processing...", 0)

    async def _end(self, response: web.StreamResponse, account: Account, entry: Entry) -> None:
        urls = await self._origin.urls(entry)
        told = _answers.outcome(entry, urls, account.credits)
        if not self._settings.stream_ids:
            del told["generationId"]
        if entry.state == "failed":
            await _send(response, {"type": "error", "message": entry.error, "data": told})
        else:
            await _send(response, {"type": "complete", "data": told})

    async def _status(self, response: web.StreamResponse, entry: Entry, message: str, progress: int) -> None:
        event: dict[str, Any] = {"type": "status", "message": message, "progress": progress}
        if self._settings.stream_ids:
            event["data"] = {"generationId": entry.generation_id}
        await _send(response, event)

    async def _struck(
        self, fault: Fault | None, request: web.Request, response: web.StreamResponse, entry: Entry
    ) -> bool:
        """Whether a fault ends the stream here. `truncate` ends it cleanly, before its last event."""
        match fault and fault.kind:
            case "stall":
                await _strikes.stall(fault)
            case "reset_after":
                _strikes.reset(request)
            case "garbage_200":
                await response.write(b": still here\n\ndata: heartbeat\n\ndata: {broken\n\n")
            case "error_500":
                message = "Internal server error"
                await _send(response, {"type": "error", "message": message, "data": {"success": False}})
        return fault is not None and fault.kind in ("reset_after", "error_500", "truncate")


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
