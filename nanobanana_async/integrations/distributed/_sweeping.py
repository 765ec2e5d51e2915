"""Looks for shards that nobody works on, and tells of them again. Every worker does it, and every coordinator.

Nothing rests on a broker's own redelivery: its messages may be lost, or be held back for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from ._book import Book, BookError
from ._lease import is_gone

_LOGGER = logging.getLogger(__name__)

Kick: TypeAlias = Callable[[str, int], Awaitable[None]]  # tells workers of a batch's shard

INTERVAL = 1.0  # seconds; a look is one call for each worker's lease and one for all shards


class Sweeper:
    """`run()` it in a task. `patience`: seconds for a message to be taken, before it is sent again."""

    def __init__(self, book: Book, kick: Kick, *, patience: float, interval: float = INTERVAL) -> None:
        self._book = book
        self._kick = kick
        self._patience = patience
        self._interval = interval
        self._buried: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except BookError as error:
                _LOGGER.warning("can't look for shards that nobody works on: %s", error)
            await anyio.sleep(self._interval)

    async def look(self) -> None:
        """Once. Raises: BookError, and what the broker raises."""
        for name in await self._book.workers():
            if name not in self._buried and is_gone(name):
                self._buried.add(name)
                _LOGGER.info("a worker is gone: %s", name)
                await self._book.bury(name)
        for batch, shard in await self._book.sweep(self._patience):
            await tell(self._kick, batch, shard)


async def tell(kick: Kick, batch: str, shard: int) -> None:
    """Send a shard's message. One that can't be sent now is sent later, by a sweeper."""
    try:
        await kick(batch, shard)
    except Exception as error:  # a broker raises what it likes
        _LOGGER.warning("no message for shard %s (%s); it is sent again", shard, error)
