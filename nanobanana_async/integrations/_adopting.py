"""Looks at generations whose process died, until they end: their slots are taken for as long as that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ._book import Lease

_LOGGER = logging.getLogger(__name__)

Look: TypeAlias = Callable[[str], Awaitable[bool]]  # whether the generation of this id has ended


class Adopting:
    """Goes round the adopted leases, one look after another, with a pause of `interval` seconds.

    `ended` is called with each lease whose generation has ended. A look that fails is repeated in the next round.
    """

    def __init__(self, ended: Callable[[Lease], None], *, interval: float) -> None:
        self.looks: list[Look] = []
        self._ended = ended
        self._interval = interval
        self._leases: list[Lease] = []
        self._seen: set[tuple[str, int]] = set()
        self._task: asyncio.Task[None] | None = None

    def set(self, leases: list[Lease]) -> None:
        """These are adopted now."""
        self._leases = leases
        if leases and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._go_round(), name="nanobanana adopted generations")

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _go_round(self) -> None:
        while self._leases:
            for lease in list(self._leases):
                if lease in self._leases and await self._has_ended(lease):
                    self._ended(lease)
            await asyncio.sleep(self._interval)
        self._seen.clear()

    async def _has_ended(self, lease: Lease) -> bool:
        claim = (lease.token, lease.fence)
        if claim in self._seen or not self.looks or lease.generation_id is None:
            return False
        try:
            ended = await self.looks[-1](lease.generation_id)
        except Exception as error:
            _LOGGER.debug("a look at the adopted generation %s failed: %s", lease.generation_id, error)
            return False
        if ended:
            self._seen.add(claim)
        return ended
