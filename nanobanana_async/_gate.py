"""How many requests may be open at once: a gate with a width. Submissions go before looks, looks in their order."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from types import TracebackType
from typing import Self


class Gate:
    """Counts open requests; `width` None lets everybody through at once."""

    def __init__(self) -> None:
        self.open = 0
        self.opened = 0  # so far
        self._width: int | None = None
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def width(self) -> int | None:
        """How many may be open; None is no bound."""
        return self._width

    @width.setter
    def width(self, width: int | None) -> None:
        if width != self._width:
            self._width = width
            self._let_in()

    def request(self, *, submission: bool = False) -> Passage:
        """One open request, for the length of an `async with`. Cancelled while waiting, it was never open."""
        return Passage(self, submission)

    def enter(self) -> bool:
        """Open a request, if there is room and nobody waits for it."""
        if self._waiting or not self._room:
            return False
        self._open_one()
        return True

    def leave(self) -> None:
        """One request was answered, or given up."""
        self.open -= 1
        if self._waiting:
            self._let_in()

    async def turn(self, submission: bool) -> None:
        """Wait for room, and open a request."""
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

    def _open_one(self) -> None:
        self.open += 1
        self.opened += 1

    @property
    def _room(self) -> bool:
        return self._width is None or self.open < self._width

    def _let_in(self) -> None:
        """Each turn given counts as open from this moment, so that nobody slips in between."""
        while self._waiting and (self._room or self._waiting[0][2].done()):
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self._open_one()
                turn.set_result(None)


class Passage:
    """One request's way through a gate."""

    __slots__ = ("_gate", "_number", "_submission")

    def __init__(self, gate: Gate, submission: bool) -> None:
        self._gate = gate
        self._submission = submission
        self._number: int | None = None  # among those that were opened, if nothing else was open then

    async def __aenter__(self) -> Self:
        gate = self._gate
        if not gate.enter():
            await gate.turn(self._submission)
        if gate.open == 1:
            self._number = gate.opened
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.leave()

    @property
    def alone(self) -> bool:
        """Whether no other request was open at any moment of this one, which still is."""
        return self._number is not None and self._number == self._gate.opened
