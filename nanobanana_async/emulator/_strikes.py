"""How a fault looks on the wire.

In order: `before` answers in place of the handler, nothing accepted; `instead` answers after acceptance,
but not with the truth; `cut` spoils the true answer's last bytes.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import web

from . import _refusals
from ._faults import Fault

HTML_WALL = """<!DOCTYPE html>
<html lang="en-US"><head><title>Attention Required! | Cloudflare</title></head>
<body><div id="cf-wrapper"><div class="cf-alert cf-alert-error" id="cf-error-details">
<h1>Sorry, you have been blocked</h1><h2>You are unable to access nananobanana.com</h2>
</div></div></body></html>
"""
GARBAGE = b"\x00\x17<<not json>>{"


def before(fault: Fault | None, request: web.Request, limit: int | None, active: int) -> web.Response | None:
    """The answer of a fault that strikes ahead of acceptance; None when it does not."""
    match fault and fault.kind:
        case "refuse":
            raise _refusals.too_many(limit, active)
        case "error_500":
            raise _refusals.server_error()
        case "html_wall":
            return wall()
        case "reset_before":
            return reset(request)
    return None


async def instead(fault: Fault | None, request: web.Request) -> web.Response | None:
    """The answer of a fault that strikes after acceptance; None when the true answer may go out."""
    match fault and fault.kind:
        case "stall":
            await stall(fault)
        case "reset_after":
            return reset(request)
        case "error_500_after":
            raise _refusals.server_error()
        case "garbage_200":
            return web.Response(body=GARBAGE, content_type="application/json")
        case "wrong_image":
            return web.Response(text=HTML_WALL, content_type="text/html")
    return None


async def cut(fault: Fault | None, request: web.Request, response: web.Response) -> web.StreamResponse:
    """The response itself, or the first half of it under the full Content-Length."""
    if fault is None or fault.kind != "truncate" or not isinstance(response.body, bytes):
        return response
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = len(response.body)
    half.force_close()
    await half.prepare(request)
    await half.write(response.body[: len(response.body) // 2])
    return half


async def stall(fault: Fault | None) -> None:
    """Say nothing: until the client leaves (its handler is cancelled), or for `stall_seconds`."""
    if fault is None or fault.stall_seconds is None:
        await asyncio.get_running_loop().create_future()
    else:
        await asyncio.sleep(fault.stall_seconds)


def wall() -> web.Response:
    """The CDN's block: HTML, and no word of the API."""
    return web.Response(status=403, text=HTML_WALL, content_type="text/html")


def reset(request: web.Request) -> web.Response:
    """Reset the TCP connection: without lingering the kernel sends RST, not FIN. The response goes nowhere."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)
