"""A second witness: the API once more, written from its description alone, and read as oddly as that allows.

It shares no line with the emulator, so that the client is not only right about the emulator's reading. Numbers come
as strings, unknown fields everywhere, records are "pending" first, unknown at the very first look, without a date,
and with a single `outputImageUrl`; header names are in lower case; images have no suffix, and no type.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from aiohttp import web

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
EXTRA = {"v": 3, "beta": {"flags": [None, True]}}


class Witness:
    """One account, `limit` slots held from POST to end; a generation ends at its fourth look."""

    def __init__(self, limit: int = 2) -> None:
        self.limit = limit
        self.looks: dict[str, int] = {}
        self.prompts: list[str] = []
        self.peak = self.refused = 0
        self.without_streams = self.never_found = False
        self.look_after = "0.01"
        self.limited_looks = 0  # that are too many, whatever the slots
        self.empty_looks = 0  # that find it completed, and its links not written yet
        self.keys: dict[str, set[str | None]] = {"api": set(), "images": set()}
        self.changed = asyncio.Event()
        self.url = ""

    def active(self) -> int:
        return sum(1 for looks in self.looks.values() if looks < 4)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.post("/generate", self.post), web.get("/generate", self.look)])
        app.add_routes([web.get("/credits", self.credits), web.get("/models", self.models)])
        app.add_routes([web.get("/files/{name}", self.image)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.keys["api"].add(request.headers.get("Authorization"))
        order = await request.json()
        slots = {"x-ratelimit-limit": str(self.limit), "x-ratelimit-active": str(self.active())}
        if self.active() >= self.limit:
            self.refused += 1
            self.changed.set()
            told = {"error": {"message": "Too many", "code": 7}, "type": "concurrency_limit", "limit": str(self.limit)}
            return self.answer(told, 429, slots | {"retry-after": "0.01"})
        name = f"gen_{len(self.prompts)}"
        self.prompts.append(order["prompt"])
        self.looks[name] = 0
        self.peak = max(self.peak, self.active())
        told = {"success": True, "generationId": name, "creditsUsed": "1", "remainingCredits": "99.0", **EXTRA}
        if order["mode"] == "async" or self.without_streams:
            return self.answer({**told, "async": True}, 200, slots)
        self.looks[name] = 4
        told["imageUrls"] = [f"/files/{name}"]
        return await self.tell(request, told) if order["mode"] == "stream" else self.answer(told, 200, slots)

    async def tell(self, request: web.Request, told: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in ({"type": "status", "progress": "30"}, {"type": "queue", "position": 1}, "not an object"):
            await response.write(f": hello\r\nid: 5\r\nevent: x\r\ndata: {json.dumps(event)}\r\n\r\n".encode())
        complete = json.dumps({"type": "complete", "data": told, **EXTRA}).encode()
        for byte in b"data:" + complete + b"\n\n":
            await response.write(bytes([byte]))
        return response

    async def look(self, request: web.Request) -> web.Response:
        name = request.query["id"]
        if self.limited_looks:
            self.limited_looks -= 1
            return self.answer({"error": "slow down", "type": "rate_limit"}, 429, {"retry-after": self.look_after})
        self.looks[name] += 1
        match 1 if self.never_found else self.looks[name]:
            case 1:
                return self.answer({"msg": "no such generation"}, 404)
            case 2 | 3 as look:
                status = {"processingStatus": "pending" if look == 2 else "PROCESSING", "outputImageUrl": None}
                return self.answer({"data": {"id": name, **status, "creditsUsed": None, **EXTRA}})
        link = f"/files/{name}" if self.looks[name] > 3 + self.empty_looks else None
        done = {"processingStatus": "completed", "outputImageUrl": link, "creditsUsed": "1"}
        return self.answer({"data": {"id": name, **done, **EXTRA}, **EXTRA})

    async def credits(self, _: web.Request) -> web.Response:
        return self.answer({"data": {"credits": "42", "plan": "pro"}})

    async def models(self, _: web.Request) -> web.Response:
        return self.answer({"data": [{"name": "a&b", "creditsCost": "2", "kind": "video"}], "total": 1})

    async def image(self, request: web.Request) -> web.Response:
        self.keys["images"].add(request.headers.get("Authorization"))
        return web.Response(body=PNG, content_type="application/octet-stream")

    def answer(self, told: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        kind = "application/json" if self.without_streams else "text/plain"
        return web.Response(text=json.dumps(told), status=status, headers=headers, content_type=kind)


async def main() -> None:
    async with Witness() as witness:
        print(witness.url)  # noqa: T201  # for a look by hand: python tests/witness.py
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
