"""The limiter under any order of acquire, release, abandon, cancel, resize, refusal and clock jump."""

from __future__ import annotations

import asyncio
import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nanobanana_async import AccountLimiter, RateLimit, RateLimitError, ServerBusyError, Slot

SWITCHES = 6  # turns of the loop after which everybody who was woken has gone on


class LimiterMachine(RuleBasedStateMachine):
    """Tasks that wait and slots that are held, against plain counts. Jobs wait whenever they like to."""

    @initialize(ceiling=st.none() | st.integers(1, 4), limit=st.none() | st.integers(1, 5))
    def start(self, ceiling: int | None, limit: int | None) -> None:
        self.runner = asyncio.Runner()
        self.now = 1000.0
        self.ceiling = ceiling
        self.limit = limit
        self.limiter = AccountLimiter(
            max_concurrency=ceiling, clock=lambda: self.now, uniform=lambda low, high: (low + high) / 2
        )
        self.limiter._line._ageing = 0.0  # so that who is next is known here; test_limiter.py tests it by itself
        self.waiting: list[asyncio.Task[Slot]] = []  # the next one first
        self.priorities: dict[asyncio.Task[Slot], int] = {}
        self.submitting: list[Slot] = []
        self.running: list[Slot] = []
        self.deadlines: list[float] = []
        self.refusals = 0

    def told(self) -> RateLimit:
        return RateLimit(limit=self.limit)

    def settle(self) -> None:
        """Let all who were woken go on, and note who got a slot."""

        async def turn() -> None:
            for _ in range(SWITCHES + 2 * len(self.waiting)):
                await asyncio.sleep(0)

        self.runner.run(turn())
        asked = [task for task in self.waiting if not task.cancelled()]
        self.waiting = [task for task in asked if not task.done()]
        served = asked[: len(asked) - len(self.waiting)]
        self.submitting += [task.result() for task in served]  # which fails unless they were the first

    @rule(priorities=st.lists(st.integers(0, 2), min_size=1, max_size=3))
    def acquire(self, priorities: list[int]) -> None:
        """So many more wait."""
        for priority in priorities:
            task = self.runner.get_loop().create_task(self.limiter.acquire(priority=priority))
            self.priorities[task] = priority
            self.waiting.append(task)
            self.settle()
            self.waiting.sort(key=lambda task: -self.priorities[task])

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), also_released=st.booleans())
    def cancel(self, data: st.DataObject, also_released: bool) -> None:
        """One leaves; perhaps in the very moment that a slot is given back."""
        if also_released and self.running:
            self.running.pop().release()
        data.draw(st.sampled_from(self.waiting)).cancel()
        self.settle()

    @precondition(lambda self: self.submitting)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        """The server took it; again, and again released, changes nothing."""
        slot = self.submitting.pop(data.draw(st.integers(0, len(self.submitting) - 1)))
        slot.accepted(self.told())
        slot.accepted(self.told())
        self.running.append(slot)
        self.settle()

    @precondition(lambda self: self.submitting)
    @rule(busy=st.booleans(), retry_after=st.none() | st.floats(0, 100))
    def refuse(self, busy: bool, retry_after: float | None) -> None:
        """429 or 503."""
        slot = self.submitting.pop()
        self.refusals += 1
        if busy:
            slot.refused(ServerBusyError("busy", retry_after=retry_after))
        else:
            active = len(self.running) if self.limit is None else self.limit
            slot.refused(RateLimitError("no", limit=self.limit, active=active, retry_after=retry_after))
        slot.release()
        self.settle()

    @precondition(lambda self: self.submitting or self.running)
    @rule(seconds=st.floats(0.1, 100))
    def abandon(self, seconds: float) -> None:
        """Its answer was lost, or nobody watches it any more."""
        (self.submitting or self.running).pop().forsake(seconds)
        self.deadlines.append(self.now + seconds)
        self.settle()

    @precondition(lambda self: self.running)
    @rule()
    def end(self) -> None:
        """A generation ended."""
        slot = self.running.pop(0)
        slot.release()
        slot.release()
        self.settle()

    @precondition(lambda self: self.submitting)
    @rule()
    def give_up(self) -> None:
        """It was never sent."""
        self.submitting.pop(0).release()
        self.settle()

    @precondition(lambda self: self.running)
    @rule(limit=st.integers(1, 6))
    def resize(self, limit: int) -> None:
        """The vendor changes the limit, and a look tells it."""
        self.limit = limit
        self.running[0].looked(self.told(), running=True)
        self.settle()

    @rule(seconds=st.floats(0, 5) | st.floats(0, 1e5))
    def pass_time(self, seconds: float) -> None:
        """Or jump: whoever waits for a moment of this clock is told, as its own timer runs on the real one."""
        self.now += seconds
        self.limiter._changed()
        self.settle()

    @invariant()
    def every_slot_is_accounted_for(self) -> None:
        now = self.limiter.statistics()
        lost = sum(deadline > self.now for deadline in self.deadlines)
        counted = (now.running, now.submitting, now.forsaken, now.refusals)
        assert counted == (len(self.running), len(self.submitting), lost, self.refusals)

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        room = self.limiter._admission.available(self.now)
        assert not self.waiting or room == 0
        assert len(self.limiter._line) == len(self.waiting)
        taken = len(self.running) + len(self.submitting)
        assert taken + room <= max(taken, self.ceiling or math.inf)

    def teardown(self) -> None:
        """Whatever happened, time and ends bring everybody who waits a slot of their own."""
        if not hasattr(self, "runner"):
            return
        for slot in (*self.submitting, *self.running):
            slot.release()
        self.submitting, self.running = [], []
        for _ in range(len(self.waiting)):
            self.pass_time(2000.0)
            for slot in self.submitting:
                slot.accepted(RateLimit())
                slot.release()
            self.submitting = []
        assert not self.waiting
        self.runner.close()


TestLimiterMachine = LimiterMachine.TestCase
TestLimiterMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
