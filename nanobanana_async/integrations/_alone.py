"""A store that others may be without: after a while the process goes on with a copy of the book of its own.

Then more than the limit may run, which the service refuses at no cost. When the store is back, what was held meanwhile
is written down there, as after a book that was lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from ._book import Book
from ._store import Change, Store, StoreUnavailableError, TakeTurn
from ._turn import Turn

_LOGGER = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 10.0


class AloneAfter:
    """`store`, or a copy of its book once it has been away for `seconds`."""

    def __init__(self, store: Store, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._book: Book | None = None  # as it was last seen
        self._away_since: float | None = None
        self._try_at = float("-inf")

    @property
    def address(self) -> str:
        """As of the store."""
        return self._store.address

    @property
    def look_interval(self) -> float:
        """As of the store."""
        return self._store.look_interval

    async def open(self, holder: str, wake: Callable[[], None]) -> None:
        """Open the store. Raises: ConfigurationError."""
        await self._store.open(holder, wake)

    async def transact(self, take_turn: TakeTurn) -> Turn:
        """One turn, wherever it can be taken. Raises: StoreUnavailableError, at first."""
        now = self._clock()
        if now >= self._try_at:
            try:
                turn = await self._store.transact(take_turn)
            except StoreUnavailableError as error:
                self._be_patient(now, error)
            else:
                self._away_since, self._book = None, turn.book
                return turn
        turn = Change.of(self._book.dumps() if self._book is not None else None, now, take_turn).turn
        self._book = turn.book
        return turn

    async def aclose(self) -> None:
        """Close the store."""
        await self._store.aclose()

    def _be_patient(self, now: float, error: StoreUnavailableError) -> None:
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since < self._seconds:
            raise error
        if self._try_at < self._away_since:
            _LOGGER.warning("going on without the others' slots: %s", error)
            self._part()
        self._try_at = now + TRY_AGAIN_SECONDS

    def _part(self) -> None:
        """From here on it is another book, and the store's counts as lost when it is back."""
        if self._book is not None:
            self._book = replace(self._book, epoch=Book().epoch)
