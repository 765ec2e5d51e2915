"""Whether anything may still be submitted, and why not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio

_LOGGER = logging.getLogger(__name__)


class Brake:
    """Pulled once and for all: by the user, or by what concerns every row. The first reason is the one that counts."""

    def __init__(self) -> None:
        self.reason: Exception | None = None
        self._pulled = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Brake [{'pulled' if self.pulled else 'free'}]>"

    @property
    def pulled(self) -> bool:
        """Nothing more is submitted."""
        return self._pulled.is_set()

    def pull(self, reason: Exception | None = None) -> None:
        """Submit nothing more, for this reason, or because the user says so."""
        if self.reason is None and reason is not None:
            self.reason = reason
            _LOGGER.info("the batch stops: %s", reason)
        if not self.pulled:
            self._pulled.set()
            for callback in self._callbacks:
                callback()

    def on_pull(self, callback: Callable[[], None]) -> None:
        """Call this when it is pulled; at once if it was."""
        self._callbacks.append(callback)
        if self.pulled:
            callback()

    async def rest(self, seconds: float) -> None:
        """Wait, but not once it is pulled."""
        with anyio.move_on_after(seconds):
            await self._pulled.wait()
