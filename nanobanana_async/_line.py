"""Those who wait for a slot: more urgent ones first, then older ones; whoever is passed over rises.

Whoever is next is given a slot in the moment that there is one, by whoever made room: nobody slips in between, and
those behind are not woken. When time alone makes room, an alarm does the same.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

SLACK = 0.001  # seconds that an alarm may be late: that is no reason to set another


class _Releasable(Protocol):
    def release(self) -> None: ...


S = TypeVar("S", bound=_Releasable)


class _Waiter(Generic[S]):
    __slots__ = ("age", "granted", "loop", "priority")

    def __init__(self, priority: float, age: int) -> None:
        self.priority = priority
        self.age = age
        self.loop = asyncio.get_running_loop()
        self.granted: asyncio.Future[S] = self.loop.create_future()

    @property
    def gone(self) -> bool:
        """Cancelled, or left behind by a loop that has ended."""
        return self.granted.done() or self.loop.is_closed()


class Line(Generic[S]):
    """`take` gives a slot if there is one; `next_change` in how many seconds time alone may make room, if ever.

    For each slot that goes to a more urgent one, those who are passed over become `ageing` points more urgent.
    """

    def __init__(
        self, take: Callable[[], S | None], next_change: Callable[[], float | None], *, ageing: float = 0.0
    ) -> None:
        self._take = take
        self._next_change = next_change
        self._ageing = ageing
        self._waiting: list[_Waiter[S]] = []  # the next one first
        self._arrivals = itertools.count()
        self._alarm: asyncio.Handle | None = None
        self._due = 0.0  # when that is: uvloop's handle of a moment that is very near does not know
        self._alarm_loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, priority: float) -> S:
        """Stand in line. Cancelled while waiting, it has taken nothing."""
        waiter = _Waiter[S](priority, next(self._arrivals))
        self._waiting.append(waiter)
        try:
            self._arrange()
            self.serve()
            return await waiter.granted
        except BaseException:
            if waiter.granted.done() and not waiter.granted.cancelled():
                waiter.granted.result().release()
            else:
                waiter.granted.cancel()
                self.serve()
            raise

    def serve(self) -> None:
        """There may be room: slots to those who wait, as far as there are any."""
        self._waiting = [waiter for waiter in self._waiting if not waiter.gone]
        while self._waiting:
            slot = self._take()
            if slot is None:
                break
            self._grant(slot)
        self._set_alarm(self._next_change() if self._waiting else None)

    def _grant(self, slot: S) -> None:
        chosen = self._waiting.pop(0)
        passed_over = [waiter for waiter in self._waiting if waiter.priority < chosen.priority]
        for waiter in passed_over:
            waiter.priority += self._ageing
        if passed_over:
            self._arrange()
        chosen.granted.set_result(slot)

    def _arrange(self) -> None:
        self._waiting.sort(key=lambda waiter: (-waiter.priority, waiter.age))

    def _set_alarm(self, seconds: float | None) -> None:
        if seconds is None:
            self._silence()
            return
        loop = self._waiting[0].loop
        due = loop.time() + seconds
        if self._due > due + SLACK or self._alarm_loop is not loop:
            self._silence()
        if self._alarm is None:  # one that rings too early does no harm, and another at every answer would cost
            self._due, self._alarm_loop = due, loop
            self._alarm = loop.call_at(due, self._ring)

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self.serve()
