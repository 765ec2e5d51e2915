"""A server that costs next to nothing: canned JSON and canned images over a bare asyncio.Protocol.

It speaks as much of four services as their clients need. Generations end at their `looks`-th look, so that whoever
measures a job makes the same requests however fast the machine is. Run as `python -m measuring.server`; it prints its
port and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = 4 << 20  # bytes: smaller bodies are kept whole, larger ones are sent from a file
MEMORY = Path("/dev/shm")
CREATED = "2026-11-20T10:00:00Z"


class World:
    """What the server answers with, and what it has counted. Set anew by POST /world, told by GET."""

    def __init__(self) -> None:
        self.origin = ""
        self.set(looks=1, limit=None, image_bytes=200_000)

    def set(self, *, looks: int, limit: int | None, image_bytes: int) -> None:
        self.looks = looks
        self.limit = limit
        self.image_bytes = image_bytes
        self.serial = 0
        self.active = 0
        self.most_active = 0
        self.looked = 0
        self.credits = 100_000_000
        self.pending: dict[str, int] = {}

    def submit(self) -> str:
        self.serial += 1
        self.credits -= 1
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        name = f"clx{self.serial:09}"
        self.pending[name] = self.looks
        return name

    def look(self, name: str) -> bool:
        """Whether it has ended. What nobody submitted has."""
        self.looked += 1
        left = self.pending.get(name, 0) - 1
        if left > 0:
            self.pending[name] = left
            return False
        if self.pending.pop(name, None) is not None:
            self.active -= 1
        return True

    def image_url(self, name: str) -> str:
        return f"{self.origin}/image/{self.image_bytes}/{name}.png"


class Refusal(dict):
    """The body of a 429."""


class Answers:
    """Paths to the JSON of their answers."""

    def __init__(self, world: World) -> None:
        self.world = world

    def of(self, method: str, target: str, body: bytes) -> object:
        path = urlsplit(target).path
        if path == "/world":
            if method == "POST":
                self.world.set(**json.loads(body))
            return {"looked": self.world.looked, "active": self.world.active, "most_active": self.world.most_active}
        if path == "/api/v1/generate":
            return self._record(target) if method == "GET" else self._submitted(body)
        if path == "/api/v1/credits":
            return {"data": {"credits": self.world.credits}}
        if path == "/api/v1/models":
            return {"data": [{"name": "nano-banana", "displayName": "Nano Banana", "creditsCost": 1}]}
        return self._peers(method, path)

    def _submitted(self, body: bytes) -> object:
        world = self.world
        if world.limit is not None and world.active >= world.limit:
            return Refusal({"error": "Too many", "type": "concurrency_limit", "limit": world.limit})
        name = world.submit()
        told = {"success": True, "generationId": name, "creditsUsed": 1, "remainingCredits": self.world.credits}
        if b'"mode":"sync"' in body:
            self.world.pending[name] = 0
            self.world.look(name)
            return told | {"imageUrls": [self.world.image_url(name)]}
        return told | {"async": True, "message": "Generation started. Poll for the result."}

    def _record(self, target: str) -> object:
        name = parse_qs(urlsplit(target).query)["id"][0]
        ended = self.world.look(name)
        record = {
            "id": name,
            "prompt": "a lighthouse on a cliff at dusk, oil on canvas, long shadows",
            "outputImageUrls": [self.world.image_url(name)] if ended else None,
            "modelUsed": "nano-banana",
            "processingStatus": "completed" if ended else "processing",
            "creditsUsed": 1,
            "createdAt": CREATED,
        }
        return {"data": record}

    def _peers(self, method: str, path: str) -> object:
        if path.startswith("/openai/models"):
            return {"id": "nano-banana", "object": "model", "created": 1763632800, "owned_by": "us"}
        if path.startswith("/openai/"):
            return {"created": 1763632800, "data": [{"url": self.world.image_url("clx1")}]}
        if path.startswith("/fal/"):
            base = f"{self.world.origin}/fal/fal-ai/nano/requests/clx1"
            urls = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
            return {"request_id": "clx1", "status": "IN_QUEUE", "queue_position": 0, "logs": None, **urls}
        urls = {"get": f"{self.world.origin}/v1/predictions/clx1", "cancel": "", "stream": ""}
        return {
            "id": "clx1",
            "model": "google/nano-banana",
            "version": "1",
            "input": {"prompt": "a lighthouse"},
            "logs": "",
            "output": [self.world.image_url("clx1")],
            "error": None,
            "status": "starting" if method == "POST" else "succeeded",
            "created_at": CREATED,
            "urls": urls,
        }


class Wire(asyncio.Protocol):
    """One connection. Requests are answered in their order; a large body goes out by sendfile."""

    def __init__(self, answers: Answers, images: Images) -> None:
        self._answers = answers
        self._images = images
        self._unread = b""
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while self._sending is None and (request := self._next()) is not None:
            self._answer(*request)

    def _next(self) -> tuple[str, str, bytes] | None:
        end = self._unread.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._unread[:end]
        length = _content_length(head)
        if len(self._unread) < end + 4 + length:
            return None
        body = self._unread[end + 4 : end + 4 + length]
        self._unread = self._unread[end + 4 + length :]
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        return method, target, body

    def _answer(self, method: str, target: str, body: bytes) -> None:
        if target.startswith("/image/"):
            self._send_image(int(target.split("/")[2]))
            return
        world = self._answers.world
        told = self._answers.of(method, target, body)
        text = json.dumps(told, separators=(",", ":")).encode()
        status = "429 Too Many Requests" if isinstance(told, Refusal) else "200 OK"
        limits = (
            "" if world.limit is None else f"X-RateLimit-Limit: {world.limit}\r\nX-RateLimit-Active: {world.active}\r\n"
        )
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n{limits}\r\n"
        self._transport.write(head.encode() + text)

    def _send_image(self, size: int) -> None:
        if size <= SMALL:
            self._transport.write(self._images.whole(size))
            return
        self._sending = asyncio.get_running_loop().create_task(self._stream(size))

    async def _stream(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._transport.write(image_head(size))
            with self._images.large().open("rb", buffering=0) as file:
                left = size
                while left:
                    left -= await loop.sendfile(self._transport, file, 0, min(left, LARGE))
        except (ConnectionError, RuntimeError):
            self._transport.abort()
        finally:
            self._sending = None


LARGE = 64 << 20  # bytes of the file that large bodies are sent from, again and again


class Images:
    """Bodies that begin as PNGs do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wholes: dict[int, bytes] = {}

    def whole(self, size: int) -> bytes:
        """Head and body of a small one."""
        if size not in self._wholes:
            self._wholes[size] = image_head(size) + PNG + bytes(size - len(PNG))
        return self._wholes[size]

    def large(self) -> Path:
        """A file of LARGE bytes, in memory where the system has such a place."""
        path = self._folder / "large.png"
        if not path.exists():
            path.write_bytes(PNG + bytes(LARGE - len(PNG)))
        return path


def image_head(size: int) -> bytes:
    return (
        f'HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {size}\r\nETag: "a{size}"\r\n'
        "Accept-Ranges: bytes\r\n\r\n"
    ).encode()


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    return int(head[at + 17 :].split(b"\r\n", 1)[0])


async def serve() -> None:
    loop = asyncio.get_running_loop()
    world = World()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:  # noqa: ASYNC240
        answers, images = Answers(world), Images(Path(folder))
        server = await loop.create_server(lambda: Wire(answers, images), "127.0.0.1", 0, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        world.origin = f"http://127.0.0.1:{port}"
        print(port, flush=True)
        await loop.run_in_executor(None, sys.stdin.buffer.read)  # until whoever started this has gone
        server.close()


if __name__ == "__main__":
    asyncio.run(serve())
