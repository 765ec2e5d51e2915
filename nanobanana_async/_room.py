"""Places in the queue: a bound on how many wait, and who gets a place next."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

from ._ranking import Ranking

T = TypeVar("T", bound=Hashable)


class Room(Generic[T]):
    """`places` for newcomers, until they get their first slot. The others wait for one, the most urgent first."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside: set[T] = set()
        self._outside: dict[T, asyncio.Future[None]] = {}
        self._ranking: Ranking[T] = Ranking()

    def __repr__(self) -> str:
        return f"<Room [places: {len(self._inside)}/{self._places} taken, {len(self._outside)} wait for one]>"

    @property
    def full(self) -> bool:
        """Whether the next one would have to wait."""
        return len(self._inside) >= self._places

    @property
    def outside(self) -> int:
        """How many wait for a place."""
        return len(self._outside)

    def enter(self, item: T, *, priority: float = 0) -> asyncio.Future[None] | None:
        """Take a place; where there is none, what to wait for: it is done when `item` gets one, or leaves."""
        if not self.full:
            self._inside.add(item)
            return None
        self._ranking.place(item, -priority)
        self._outside[item] = asyncio.get_running_loop().create_future()
        return self._outside[item]

    def leave(self, item: T) -> None:
        """Give the place back, or wait for none any more. Idempotent."""
        self._inside.discard(item)
        self._let_go(item)
        while not self.full and (following := self._ranking.first()) is not None:
            self._let_go(following)
            self._inside.add(following)

    def _let_go(self, item: T) -> None:
        self._ranking.remove(item)
        waiting = self._outside.pop(item, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
