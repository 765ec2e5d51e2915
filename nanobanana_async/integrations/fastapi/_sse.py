"""A job's changes as server-sent events.

Every event is the whole job, so that a reader who missed some has missed nothing, and `Last-Event-ID` needs no memory
here. The stream ends with the event `end`; a browser that connects again after it is told to stop (204). A stream is
also ended, without `end`, after STREAM_SECONDS: browsers come back by themselves, and a server that is shut down or
moved is not held up by pages that stay open.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse

from ._jobs import JobService, JobState
from ._schemas import view

HEARTBEAT_SECONDS = 15.0  # below the idle timeouts of common proxies
STREAM_SECONDS = 60.0
RETRY_MILLISECONDS = 1000
LAST_ID = "end"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx must not hold events back


def event_stream(service: JobService, state: JobState, owner: str, base: str) -> StreamingResponse:
    """The answer: `state` at once, then every change."""
    return StreamingResponse(_events(service, state, owner, base), media_type="text/event-stream", headers=_HEADERS)


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
