"""One unanswered submission at a time where that keeps every slot busy: so the balance can judge a lost answer.

An answer takes a fraction of a second and a generation many, so most accounts' slots are fed through it. Theory of
operation: a `Turn` lasts from before the intent to the answer. One that takes so long that slots would stay empty
(`Patience.hold_up`) is *overtaken*: the others may pass, and those that are unanswered together are not *alone*, for
the balance told in their answers says nothing about a single one. Whoever judges (`_judging`) takes the turnstile for
itself and waits until nothing is unanswered; submissions that are in doubt too don't count, since they are judged
together.

Before it is the *doorway*, where a row waits until the one before it is through. Only then it asks for a slot: one that
is held by a row that waits for its turn would be missing to everybody else on the account. Who is next is called by
whoever passes on, in the same turn of the loop: nothing but this stands between an answer and the next submission.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Doorway:
    """One row at a time; the others wait in the order in which they came."""

    def __init__(self) -> None:
        self._inside: Place | None = None
        self._waiting: deque[Place] = deque()

    def enter(self, place: Place) -> None:
        """Its turn is now, or when those before it have left."""
        self._waiting.append(place)
        self._let_in()

    def leave(self, place: Place) -> None:
        """Let the next one in, if this one was inside; one that waits does so no more. Idempotent."""
        if place is self._inside:
            self._inside = None
            self._let_in()
        elif place in self._waiting:
            self._waiting.remove(place)

    def _let_in(self) -> None:
        if self._inside is None and self._waiting:
            self._inside = self._waiting.popleft()
            self._inside.go()


class Place:
    """A row's place in the doorway, from `line_up` until `pass_on`."""

    __slots__ = ("_doorway", "go")

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway

    def line_up(self, go: Callable[[], None]) -> None:
        """Call `go` once the row before has been answered, or at once. It must not raise."""
        self.go = go
        self._doorway.enter(self)

    def pass_on(self) -> None:
        """Let the next row in, or wait no more. Idempotent."""
        self._doorway.leave(self)


class Turn:
    """One submission's time. `alone`: no other was unanswered at any moment of it, so far."""

    __slots__ = ("alone", "on_overdue", "overdue")

    def __init__(self, *, alone: bool, on_overdue: Callable[[], None]) -> None:
        self.alone = alone
        self.on_overdue = on_overdue
        self.overdue: asyncio.TimerHandle | None = None


class Turnstile:
    """Lets one submission through at a time, and past one that has waited `hold_up()` seconds for its answer."""

    def __init__(self, hold_up: Callable[[], float]) -> None:
        self._hold_up = hold_up
        self._doorway = Doorway()
        self._lock = asyncio.Lock()
        self._holder: Turn | None = None
        self._unanswered: set[Turn] = set()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Turnstile [{len(self._unanswered)} unanswered]>"

    def place(self) -> Place:
        """A place in the doorway, for one row."""
        return Place(self._doorway)

    async def enter(self, *, on_overdue: Callable[[], None] = lambda: None) -> Turn:
        """Wait for one's turn; `on_overdue` is called when it is overtaken. Cancelled while waiting, there is none."""
        patience = self._hold_up()
        await self._lock.acquire()
        turn = self._holder = Turn(alone=not self._unanswered, on_overdue=on_overdue)
        for other in self._unanswered:
            other.alone = False
        self._unanswered.add(turn)
        turn.overdue = asyncio.get_running_loop().call_later(patience, self._overtake, turn)
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
        self._pass_on(turn)
        turn.on_overdue()
