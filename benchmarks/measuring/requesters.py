"""One request, by us, by bare aiohttp, by the peers: a look at a generation (GET) and a submission (POST)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .turns import Once

PROMPT = "a lighthouse on a cliff at dusk, oil on canvas, long shadows"
KEY = "nb_0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}"}
BODY = {"prompt": PROMPT, "mode": "async"}

Requests = AbstractAsyncContextManager[Mapping[str, Once]]


@asynccontextmanager
async def ours(origin: str) -> AsyncIterator[Mapping[str, Once]]:
    """`get` is the public call; `post` is what a submission costs, body and answer included, without its job."""
    from nanobanana_async import Client, GenerateRequest
    from nanobanana_async._wire import generate_body

    async with Client(KEY, base_url=f"{origin}/api/v1") as client:
        api = client._seats[0].api

        async def post() -> object:
            return await api.submit(generate_body(GenerateRequest.of(PROMPT), (), "async"))

        yield {"get": lambda: client.get("clx1"), "post": post}


@asynccontextmanager
async def bare_aiohttp(origin: str) -> AsyncIterator[Mapping[str, Once]]:
    """As its documentation shows it: one session, `async with`, the answer's JSON."""
    import aiohttp

    url = f"{origin}/api/v1/generate"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:

        async def get() -> object:
            async with session.get(url, params={"id": "clx1"}) as response:
                return await response.json()

        async def post() -> object:
            async with session.post(url, json=BODY) as response:
                return await response.json()

        yield {"get": get, "post": post}


@asynccontextmanager
async def bare_httpx(origin: str) -> AsyncIterator[Mapping[str, Once]]:
    import httpx

    async with httpx.AsyncClient(headers=HEADERS) as client:
        yield _by_httpx(client, origin)


@asynccontextmanager
async def bare_httpx2(origin: str) -> AsyncIterator[Mapping[str, Once]]:
    import httpx2

    async with httpx2.AsyncClient(headers=HEADERS) as client:
        yield _by_httpx(client, origin)


def _by_httpx(client: object, origin: str) -> Mapping[str, Once]:
    url = f"{origin}/api/v1/generate"

    async def get() -> object:
        return json.loads((await client.get(url, params={"id": "clx1"})).content)

    async def post() -> object:
        return json.loads((await client.post(url, json=BODY)).content)

    return {"get": get, "post": post}


@asynccontextmanager
async def openai(origin: str) -> AsyncIterator[Mapping[str, Once]]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key=KEY, base_url=f"{origin}/openai") as client:
        yield {
            "get": lambda: client.models.retrieve("nano-banana"),
            "post": lambda: client.images.generate(prompt=PROMPT, model="nano-banana"),
        }


@asynccontextmanager
async def fal(origin: str) -> AsyncIterator[Mapping[str, Once]]:
    from fal_client import client as module

    module.QUEUE_URL_FORMAT = f"{origin}/fal/"
    client = module.AsyncClient(key=KEY)
    yield {
        "get": lambda: client.status("fal-ai/nano", "clx1"),
        "post": lambda: client.submit("fal-ai/nano", {"prompt": PROMPT}),
    }


@asynccontextmanager
async def replicate(origin: str) -> AsyncIterator[Mapping[str, Once]]:
    from replicate import Client

    client = Client(api_token=KEY, base_url=origin)
    yield {
        "get": lambda: client.predictions.async_get("clx1"),
        "post": lambda: client.predictions.async_create(model="google/nano-banana", input={"prompt": PROMPT}),
    }


CONTENDERS: dict[str, Callable[[str], Requests]] = {
    "nanobanana_async": ours,
    "aiohttp": bare_aiohttp,
    "openai": openai,
    "fal-client": fal,
    "replicate": replicate,
    "httpx": bare_httpx,
    "httpx2": bare_httpx2,
}
