"""A bare HTTP client of an emulator: what the tests of the emulator ask with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import aiohttp

from nanobanana_async.emulator import Emulator

KEY = "nb_test"
QUICK: dict[str, Any] = {"duration": 0.01, "sigma": 0.0, "image_size": 64, "retry_after": None}


class Caller:
    """A bare HTTP client of one emulator: no more than status, headers and JSON."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession) -> None:
        self.emulator = emulator
        self.session = session

    async def post(self, prompt: object = "a cat", **body: Any) -> tuple[int, Any]:
        """Status and JSON of a submission, in async mode unless told otherwise."""
        async with self.session.post(
            f"{self.emulator.url}/generate", json={"prompt": prompt, "mode": "async"} | body
        ) as response:
            return response.status, await response.json()

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        """Status and JSON of `GET /api/v1/...`."""
        async with self.session.get(f"{self.emulator.url}/{path}", params=query) as response:
            return response.status, await response.json()

    async def download(self, url: str, **headers: str) -> tuple[int, bytes]:
        """Status and bytes of an image. ClientError when it breaks off."""
        async with aiohttp.request("GET", url, headers=headers) as response:
            return response.status, await response.read()

    async def image(self, index: int = 0, **body: Any) -> str:
        """The URL of a fresh image."""
        _, told = await self.post(mode="sync", **body)
        return str(told["imageUrls"][index])


Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Caller]]
