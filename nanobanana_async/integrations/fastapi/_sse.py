"""Changes as server-sent events: of one job, or of all jobs of a caller.

Every event is a whole job, so that a reader who missed some has missed nothing, and `Last-Event-ID` needs no memory
here. A job's stream ends with the event `end`; a browser that connects again after it is told to stop (204). Any stream
is also ended, without a word, after STREAM_SECONDS: browsers come back by themselves, and a server that is shut down or
moved is not held up by pages that stay open.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse

from ._jobs import JobService
from ._schemas import view
from ._states import JobState

HEARTBEAT_SECONDS = 15.0  # below the idle timeouts of common proxies
STREAM_SECONDS = 60.0
RETRY_MILLISECONDS = 1000
MAX_AWAY_SECONDS = 3600.0
OVERLAP_SECONDS = 5.0  # rather told twice than never
LAST_ID = "end"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx must not hold events back


def event_stream(service: JobService, state: JobState, owner: str, base: str) -> StreamingResponse:
    """The answer: `state` at once, then every change."""
    return StreamingResponse(_events(service, state, owner, base), media_type="text/event-stream", headers=_HEADERS)


def owner_stream(service: JobService, owner: str, base: str, last_id: str | None) -> StreamingResponse:
    """The answer for all jobs of an owner: those that are open, then every change of any."""
    events = _events_of(service, owner, base, _since(last_id))
    return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)


def nothing_more() -> Response:
    """What ends a browser's reconnecting."""
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


async def _events(service: JobService, first: JobState, owner: str, base: str) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    until, heard, told = time.monotonic() + STREAM_SECONDS, time.monotonic(), ""
    async with aclosing(service.changes(first.record.id, owner)) as changes:
        async for state in changes:
            text = view(state, base).model_dump_json(exclude_none=True)
            if state.record.ended:
                yield f"event: end\nid: {LAST_ID}\ndata: {text}\n\n".encode()
                return
            now = time.monotonic()
            if text != told:
                told, heard = text, now
                yield f"event: status\ndata: {text}\n\n".encode()
            elif now - heard >= HEARTBEAT_SECONDS:
                heard = now
                yield b": heartbeat\n\n"
            if now >= until:
                return


async def _events_of(service: JobService, owner: str, base: str, since: float) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    until, heard = time.monotonic() + STREAM_SECONDS, time.monotonic()
    told: dict[str, str] = {}
    async with aclosing(service.changes_of(owner, since)) as changes:
        async for states in changes:
            seen = {state.record.id: view(state, base).model_dump_json(exclude_none=True) for state in states}
            now = time.monotonic()
            for name, text in seen.items():
                if told.get(name) != text:
                    heard = now
                    yield f"event: job\nid: {time.time():.3f}\ndata: {text}\n\n".encode()
            told = seen
            if now - heard >= HEARTBEAT_SECONDS:
                heard = now
                yield b": heartbeat\n\n"
            if now >= until:
                return


def _since(last_id: str | None) -> float:
    """From when on ends are told: those that a reader missed while it was away, for an hour at most."""
    now = time.time()
    try:
        last = float(last_id or now)
    except ValueError:
        last = now
    return min(max(last if math.isfinite(last) else now, now - MAX_AWAY_SECONDS), now) - OVERLAP_SECONDS
