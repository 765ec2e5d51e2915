"""How many requests may be open at once: a gate with a width. Submissions go before looks, looks in their order."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Counts open requests; `width` None lets everybody through at once."""

    def __init__(self) -> None:
        self.open = 0
        self._width: int | None = None
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def width(self) -> int | None:
        """How many may be open; None is no bound."""
        return self._width

    @width.setter
    def width(self, width: int | None) -> None:
        self._width = width
        self._let_in()

    @asynccontextmanager
    async def request(self, *, submission: bool = False) -> AsyncIterator[None]:
        """One open request. Cancelled while waiting, it was never open."""
        await self._enter(submission)
        try:
            yield
        finally:
            self.open -= 1
            self._let_in()

    async def _enter(self, submission: bool) -> None:
        if self._room and not self._waiting:
            self.open += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not submission, next(self._order), turn))
        self._let_in()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # let in and cancelled at the same moment
                self.open -= 1
            turn.cancel()
            self._let_in()
            raise

    @property
    def _room(self) -> bool:
        return self._width is None or self.open < self._width

    def _let_in(self) -> None:
        """Each turn given counts as open from this moment, so that nobody slips in between."""
        while self._waiting and (self._room or self._waiting[0][2].done()):
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self.open += 1
                turn.set_result(None)
