"""Looks at generations whose process died, until they end: their slots are taken for as long as that."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from .._exceptions import NanoBananaError
from .._retry import Backoff
from ._book import Lease

_LOGGER = logging.getLogger(__name__)

PAUSES = Backoff(initial_delay=0.5, factor=1.5, max_delay=3.0, jitter=0.1)  # at last as often as the vendor advises
FINAL_ERRORS = 3  # looks in a row that no retry mends (404 …) before the service is believed: it runs no such thing

Look: TypeAlias = Callable[[str], Awaitable[bool]]  # whether the generation of this id has ended


class Adopting:
    """Goes round the adopted leases, one look after another. `looks` are the ways to look; any of them will do.

    `ended` is called with each lease whose generation has ended. A look that fails is repeated in the next round.
    """

    def __init__(self, ended: Callable[[Lease], None], *, pauses: Backoff = PAUSES) -> None:
        self.looks: list[Look] = []
        self._ended = ended
        self._pauses = pauses
        self._leases: list[Lease] = []
        self._over: set[tuple[str, int]] = set()
        self._errors: Counter[str] = Counter()
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
        for pause in self._pauses.delays():
            for lease in self._leases:
                if (lease.token, lease.fence) not in self._over and await self._has_ended(lease):
                    self._over.add((lease.token, lease.fence))
                    self._ended(lease)
            if not self._leases:
                break
            await asyncio.sleep(pause)
        self._over.clear()
        self._errors.clear()

    async def _has_ended(self, lease: Lease) -> bool:
        if not self.looks or lease.generation_id is None:
            return False
        try:
            return await self.looks[-1](lease.generation_id)
        except NanoBananaError as error:
            _LOGGER.debug("a look at the adopted generation %s failed: %s", lease.generation_id, error)
            self._errors[lease.token] += not error.retryable
            return self._errors[lease.token] >= FINAL_ERRORS
