"""Who wants to hear of a change: of one job, or of all jobs of an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Watchers:
    """Watch first, then look: so no change falls between."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, set[asyncio.Future[None]]] = {}

    @contextmanager
    def watching(self, what: Hashable) -> Iterator[asyncio.Future[None]]:
        """A future that is done at the next change of `what`."""
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(what, set()).add(change)
        try:
            yield change
        finally:
            self._waiting[what].discard(change)
            if not self._waiting[what]:
                del self._waiting[what]

    def notify(self, *changed: Hashable) -> None:
        """Wake whoever watches any of these."""
        for what in changed:
            for change in self._waiting.get(what, ()):
                if not change.done():
                    change.set_result(None)

    def notify_all(self) -> None:
        """Wake everybody."""
        self.notify(*self._waiting)
