"""Requests that come in one moment are begun a few at a time, so that what else the loop has to do comes in between.

200 that arrive together would hold the loop for as long as all of them take; an event stream, a look at a generation
or another program's handler would stand still meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque

MOST = 16  # requests a turn of the loop: some 5 ms


class Turns:
    """`await turns.next()` at once, or in a later turn of the loop. First come, first served."""

    def __init__(self, most: int = MOST) -> None:
        self._most = self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def next(self) -> None:
        """Wait for a turn with room. Cancelled while waiting, it takes none."""
        if self._left == self._most:
            asyncio.get_running_loop().call_soon(self._turn)
        if self._left:
            self._left -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _turn(self) -> None:
        self._left = self._most
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        if self._left < self._most:
            asyncio.get_running_loop().call_soon(self._turn)
