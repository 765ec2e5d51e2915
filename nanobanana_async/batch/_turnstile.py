"""One unanswered submission at a time, which is what lets the balance judge a lost answer (`_judging`).

An answer takes a fraction of a second and a generation many, so a hundred slots are fed through it. Theory of
operation: a `Turn` lasts from before the intent to the answer. One that takes too long is *overtaken*: the others may
pass, but from then on the balance told in an answer says nothing about a single submission, so neither that turn nor
those that pass it are *alone*. Whoever judges takes the turnstile for itself and waits until nothing is unanswered;
submissions that are in doubt too don't count, since they are judged together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turn:
    """One submission's time. `alone`: no other was unanswered during it."""

    __slots__ = ("alone", "overdue")

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.overdue: asyncio.TimerHandle | None = None


class Turnstile:
    """Lets one submission through at a time, and past one that waited `answer_timeout` seconds for its answer."""

    def __init__(self, answer_timeout: float) -> None:
        self._answer_timeout = answer_timeout
        self._lock = asyncio.Lock()
        self._holder: Turn | None = None
        self._unanswered: set[Turn] = set()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Turnstile [{len(self._unanswered)} unanswered]>"

    async def enter(self) -> Turn:
        """Wait for one's turn. Cancelled while waiting, there is none."""
        await self._lock.acquire()
        turn = self._holder = Turn(alone=not self._unanswered)
        self._unanswered.add(turn)
        turn.overdue = asyncio.get_running_loop().call_later(self._answer_timeout, self._overtake, turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """It was answered, or never sent. Idempotent."""
        self._settle(turn)
        self._pass_on(turn)

    @asynccontextmanager
    async def alone(self, turn: Turn) -> AsyncIterator[None]:
        """The answer won't come any more: a time in which nothing is submitted, nor on its way. Ends the turn."""
        self._settle(turn)
        if self._holder is not turn:
            await self._lock.acquire()
            self._holder = turn
        try:
            while self._unanswered:
                self._changed.clear()
                await self._changed.wait()
            yield
        finally:
            self._pass_on(turn)

    def _settle(self, turn: Turn) -> None:
        if turn.overdue is not None:
            turn.overdue.cancel()
        self._unanswered.discard(turn)
        self._changed.set()

    def _pass_on(self, turn: Turn) -> None:
        if self._holder is turn:
            self._holder = None
            self._lock.release()

    def _overtake(self, turn: Turn) -> None:
        turn.alone = False
        self._pass_on(turn)
