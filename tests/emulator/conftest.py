"""The emulators these tests ask: small pictures, short lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from calling import KEY, QUICK, Caller, Open

from nanobanana_async.emulator import Emulator, ThreadedEmulator


@pytest.fixture
def calling() -> Open:
    """`async with calling(limit=3) as caller`."""

    @asynccontextmanager
    async def open_both(*, key: str = KEY, **settings: Any) -> AsyncIterator[Caller]:
        headers = {"Authorization": f"Bearer {key}"}
        async with Emulator(**QUICK | settings) as emulator, aiohttp.ClientSession(headers=headers) as session:
            yield Caller(emulator, session)

    return open_both


@pytest.fixture
def threaded() -> Iterator[Callable[..., ThreadedEmulator]]:
    """An emulator in a thread, for programs that are not async; closed after the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Emulator(**QUICK | settings).in_thread())
