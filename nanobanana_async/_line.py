"""Those who wait for a slot: more urgent ones first, then older ones.

Whoever is next is given a slot in the moment that there is one, by whoever made room: nobody slips in between, and
those behind are not woken. When time alone makes room, an alarm does the same.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import insort
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

SLACK = 0.001  # seconds that an alarm may be late: that is no reason to set another


class _Releasable(Protocol):
    def release(self) -> None: ...


S = TypeVar("S", bound=_Releasable)


class Line(Generic[S]):
    """`take` gives a slot if there is one; `next_change` in how many seconds time alone may make room, if ever."""

    def __init__(self, take: Callable[[], S | None], next_change: Callable[[], float | None]) -> None:
        self._take = take
        self._next_change = next_change
        self._waiting: list[tuple[float, int, asyncio.Future[S]]] = []  # the next one first
        self._arrivals = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, priority: float) -> S:
        """Stand in line. Cancelled while waiting, it has taken nothing."""
        granted: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        insort(self._waiting, (-priority, next(self._arrivals), granted))
        self.serve()
        try:
            return await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                granted.result().release()
            else:
                granted.cancel()
                self.serve()
            raise

    def serve(self) -> None:
        """There may be room: slots to those who wait, as far as there are any."""
        self._waiting = [waiter for waiter in self._waiting if not waiter[2].done()]  # the others were cancelled
        while self._waiting:
            slot = self._take()
            if slot is None:
                break
            self._waiting.pop(0)[2].set_result(slot)
        self._set_alarm(self._next_change() if self._waiting else None)

    def _set_alarm(self, seconds: float | None) -> None:
        if seconds is None:
            self._silence()
            return
        loop = self._waiting[0][2].get_loop()
        moment = loop.time() + seconds
        if self._alarm is not None and self._alarm.when() > moment + SLACK:
            self._silence()
        if self._alarm is None:  # one that rings too early does no harm, and another at every answer would cost
            self._alarm = loop.call_at(moment, self._ring)

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self.serve()
