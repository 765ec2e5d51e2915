"""Whether the API can be reached, and waiting until it can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from .._client import Client
from .._exceptions import NanoBananaError, TransportError
from ._brake import Brake
from ._patience import Patience
from ._telling import Teller

QUIET_INTERVALS = 6  # of the network's interval without any news, before somebody asks whether it is there at all


class Network:
    """One look for all who wait. While it is `away`, nothing new is begun; `on_back` is called when that is over."""

    def __init__(self, client: Client, brake: Brake, teller: Teller, patience: Patience) -> None:
        self._client = client
        self._brake = brake
        self._teller = teller
        self._interval = patience.network_interval
        self._looking = asyncio.Lock()
        self._waits = 0
        self.away = False
        self.on_back: Callable[[], None] = lambda: None

    async def back(self) -> bool:
        """Wait until the API can be reached; False when the batch was stopped before."""
        waits = self._waits
        async with self._looking:
            if self._waits == waits:  # else somebody has waited for us as well
                await self._wait()
                self._waits += 1
        return not self.away

    async def watch(self) -> None:
        """Notice, until cancelled, that the network has gone: polls are patient and say nothing."""
        while True:
            news = self._teller.news
            await anyio.sleep(QUIET_INTERVALS * self._interval)
            if news == self._teller.news and not self._brake.pulled:
                try:
                    await self.back()
                except Exception as error:  # of whoever listens; raised here, it would cancel the rows that run
                    self._brake.pull(error)

    async def _wait(self) -> None:
        trouble = await self._trouble()
        while trouble is not None and not self._brake.pulled:
            self.away = True
            self._teller.say(f"no network, waiting for it ({trouble})")
            await self._brake.rest(self._interval)
            trouble = await self._trouble()
        self.away = trouble is not None
        self._teller.say("")
        self.on_back()

    async def _trouble(self) -> NanoBananaError | None:
        """Why the API can't be reached."""
        try:
            await self._client.models()
        except TransportError as error:
            return error
        except NanoBananaError:  # an answer, if not a friendly one
            return None
        return None
