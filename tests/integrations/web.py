"""What the FastAPI tests share: an application on a real uvicorn and a real socket, in this loop."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Annotated, Any

import aiohttp
import uvicorn
from fastapi import APIRouter, FastAPI, Header, HTTPException

from nanobanana_async import AccountLimiter, Backoff, RetryPolicy
from nanobanana_async.emulator import Emulator
from nanobanana_async.integrations.fastapi import add_error_handlers, generations_router, nanobanana_lifespan

KEY = "nb_a-very-secret-key-0123456789"
SMALL: dict[str, Any] = {"duration": 0.02, "sigma": 0, "retry_after": 0.01, "image_size": 48, "image_format": "png"}


async def caller(x_caller: Annotated[str, Header()] = "") -> str:
    """Sign-in by the header alone."""
    if not x_caller:
        raise HTTPException(401, "say who you are")
    return x_caller


def quick_limiter() -> AccountLimiter:
    """Cools down in no time, and asks nothing: what waits stays where it is."""
    return AccountLimiter(scope="generation", uniform=lambda low, high: 0.05)


def make_app(emulator: Emulator, **options: Any) -> FastAPI:
    """An app with the router and nothing else, on this emulator."""
    return app_of(emulator.url, **options)


def app_of(url: str, *, router: dict[str, Any] | None = None, lifespan: Any = None, **options: Any) -> FastAPI:
    """The same, on what answers at `url`."""
    settings: dict[str, Any] = {
        "api_key": KEY,
        "base_url": url,
        "poll": 0.01,
        "limiter": quick_limiter,
        "retry": RetryPolicy(backoff=Backoff(initial_delay=0.01, max_delay=0.02), max_attempts=2),
    }
    app = FastAPI(lifespan=nanobanana_lifespan(lifespan, **{**settings, **options}))
    add_error_handlers(app)
    app.include_router(generations_router(**router) if router else usual_router())
    return app


@cache
def usual_router() -> APIRouter:
    """Made once: to work out its routes takes as long as many a test."""
    return generations_router(auth=caller)


class Server(uvicorn.Server):
    """One that ends when it is told to, instead of looking ten times a second whether it was."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told_to_exit = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.told_to_exit.wait()


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The app on a free port; its URL."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1)
    server = Server(config)
    task = asyncio.create_task(server.serve([listening]))
    try:
        while not server.started:
            if task.done():
                raise RuntimeError("the application did not start") from task.exception()
            await asyncio.sleep(0.001)
        yield "http://{}:{}".format(*listening.getsockname())
    finally:
        server.should_exit = True
        server.told_to_exit.set()
        await task
        listening.close()


async def eventually(reached: Callable[[], bool], seconds: float = 100) -> None:
    """Until something is so that tells nobody when: another process's doing, or a file."""
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110  # nobody to set an event
            await asyncio.sleep(0.002)


class Answer:
    """A response, read whole."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """Everything that the caller learned."""
        return f"{self.status} {dict(self.headers)} {self.body!r}"


class Caller:
    """Somebody with a browser."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str = "ann") -> None:
        self.session = session
        self.url = url
        self.name = name
        self.heard: list[str] = []

    def named(self, name: str) -> Caller:
        """Somebody else."""
        return Caller(self.session, self.url, name)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        headers = {"X-Caller": self.name} | options.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            answer = Answer(response.status, response.headers, await response.read())
            self.heard.append(answer.text)
            return answer

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def submit(self, prompt: str = "a cat", *, path: str = "/generations", **fields: Any) -> Any:
        answer = await self.ask("POST", path, json={"prompt": prompt, **fields})
        assert answer.status == 202, answer.text
        assert answer.headers["Location"] == answer.json["links"]["status"]
        return answer.json

    async def until(self, path: str, reached: Callable[[Any], bool]) -> Any:
        """The job, as soon as it is so; told by its events."""
        async for _, job in self.events(path):
            if reached(job):
                return job
        raise AssertionError(f"{path} ended without it")

    async def end(self, job: Any) -> Any:
        """The job when it has ended."""
        return await self.until(job["links"]["status"], lambda told: told["ended"])

    async def events(self, path: str, **headers: str) -> AsyncIterator[tuple[str, Any]]:
        """The events of a job, by name; `path` "/generations" has those of all."""
        sent = {"X-Caller": self.name, **headers}
        async with self.session.get(f"{self.url}{path}/events", headers=sent) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            name = ""
            async for line in response.content:
                self.heard.append(line.decode())
                key, _, value = line.decode().rstrip("\n").partition(": ")
                name = value if key == "event" else name
                if key == "data":
                    yield name, json.loads(value)


@asynccontextmanager
async def online(*, emulator: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[tuple[Emulator, Caller]]:
    """An emulator, an app on it, and somebody who asks."""
    async with Emulator(**{**SMALL, **(emulator or {})}) as running:
        app = make_app(running, **options)
        async with served(app) as url, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(100)) as session:
            yield running, Caller(session, url)
