"""How many generations may run at once: a pure state machine, fed with what the server says.

Theory of operation
-------------------
The server refuses what exceeds the account's limit, and may change that limit at any time. A refusal costs no
credits, so it is also how a limit that nobody announces is found. Held here, all in numbers:

* `running` generations hold a slot on the server; `submitting` POSTs have not been answered; *forsaken* ones may
  still run, but nobody watches them, so each is counted until its deadline passes.
* `announced` is the limit as told by X-RateLimit-Limit or a 429's body; `others` is what other processes hold of it.
* `window` is the bound found from refusals that tell no number: what was taken when the refusal came, at least 1.
* Nothing announced and nothing refused yet: the *ramp*. One POST at a time, each acceptance permits one more.
* Where only open requests hold a slot (`_scope`), what is announced and active says nothing of generations: the
  ramp goes on until a 503, which sets the window, and a 429 was a collision that leaves it as it is.

A refusal starts one cool-down for everybody (Retry-After is its floor); after it one single POST goes out, and only
its acceptance lets the rest follow. So does a lost answer: a service that loses one may lose them all, each paid.
What a refusal took away (`window`, `others`) is asked for again, one slot at a time, only when every slot is full,
never beyond an announced limit, and after a hold-off that doubles each time the answer is no.

POSTs still under way when a refusal comes count as taken. Should they be refused as well, each says so itself, so
the numbers are right once the last one is answered, in whatever order.

Promises: an admission is answered by exactly one of accepted, refused, withdrawn; `available` never lets
`running + submitting` above the capacity known at that moment but for that one question; with room and no cool-down
it is never zero. Time is an argument everywhere.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ._retry import Backoff, Uniform, respect_floor
from ._scope import Scope, ScopeJudge
from ._wire import RateLimit

COOL_DOWN = Backoff(initial_delay=0.5, max_delay=30.0, jitter=0.5)
FIRST_HOLD_OFF = 30.0  # seconds before a slot that was refused is asked for again
MAX_HOLD_OFF = 1800.0  # two refused questions an hour, at most
MAX_RETRY_AFTER = 600.0  # seconds; a longer one is taken for a mistake, because to ask too early costs nothing


@dataclass(frozen=True, slots=True)
class AdmissionStatistics:
    """What the slots look like now. `limit` and `scope` are None while they are still being found."""

    running: int
    submitting: int
    forsaken: int
    limit: int | None
    others: int
    refusals: int
    cool_down: float
    scope: Scope | None = None
    open_requests: int = 0


class Admission:
    """Decides whether one more generation may be submitted. `max_concurrency` is the user's own ceiling."""

    def __init__(
        self, *, max_concurrency: int | None = None, scope: Scope | None = None, uniform: Uniform = random.uniform
    ) -> None:
        self.max_concurrency = max_concurrency
        self.open_requests = 0  # told by whoever opens them
        self._uniform = uniform
        self._judge = ScopeJudge(scope)
        self._running = 0
        self._submitting = 0
        self._forsaken: list[float] = []  # a heap of deadlines
        self._announced: int | None = None
        self._others = 0
        self._window: int | None = None
        self._refusals = 0
        self._cool_until = float("-inf")
        self._cool_delays: Iterator[float] | None = None  # alive from a refusal to the next acceptance
        self._hold_off = FIRST_HOLD_OFF
        self._ask_at = float("inf")  # when a refused slot may be asked for again
        self._asking = False

    # ---- asking

    def available(self, now: float) -> int:
        """How many may be submitted right now."""
        self._let_go(now)
        if now < self._cool_until or (self._one_at_a_time and self._submitting):
            return 0
        room = self._capacity() - self._taken
        if room <= 0:
            return 1 if room == 0 and self._may_ask(now) else 0
        return 1 if self._one_at_a_time else room

    def admit(self, now: float) -> bool:
        """Take one admission, if there is one."""
        if self.available(now) <= 0:
            return False
        self._asking = self._asking or self._taken >= self._capacity()
        self._submitting += 1
        return True

    def next_change(self, now: float) -> float | None:
        """When time alone may make room: the end of the cool-down, a hold-off, or a forsaken slot. None: never."""
        if self.available(now) > 0:
            return now
        moments = (self._cool_until, self._ask_at, *self._forsaken[:1])
        return min((moment for moment in moments if now < moment < float("inf")), default=None)

    # ---- being told

    def accepted(self, rate_limit: RateLimit, now: float) -> None:
        """A submission was taken: it runs."""
        self._submitting -= 1
        self._running += 1
        if now >= self._cool_until:  # an earlier one went out before the refusal, so it says nothing new
            self._cool_delays = None
        self._judge.submission_accepted()
        if self._asking:
            self._grow()
        self.observed(rate_limit)

    def refused(self, rate_limit: RateLimit, now: float, *, busy: bool = True) -> None:
        """A submission met 503 (`busy`) or 429: nothing runs, nothing was charged."""
        self._submitting -= 1
        self._refusals += 1
        if self._collided(rate_limit, busy=busy):
            self._asking = self._asking and self._submitting > 0
            self._cool(rate_limit.retry_after, now)
            return
        self._shrink(rate_limit)
        self._hold(now)
        self._cool(rate_limit.retry_after, now)

    def withdrawn(self) -> None:
        """An admission was not used, or its submission never left or was refused for good."""
        self._submitting -= 1
        self._asking = self._asking and self._submitting > 0

    def recalled(self) -> None:
        """One that was presumed to run is still being submitted after all."""
        self._running -= 1
        self._submitting += 1

    def finished(self) -> None:
        """A running generation ended."""
        self._running -= 1

    def forsaken(self, until: float) -> None:
        """Nobody watches this running one any more; it counts until `until`."""
        self.finished()
        heapq.heappush(self._forsaken, until)

    def lost(self, until: float, now: float) -> None:
        """A submission's answer was lost: it may run, and counts until `until`."""
        self.withdrawn()
        heapq.heappush(self._forsaken, until)
        self._cool(None, now)

    def observed(self, rate_limit: RateLimit) -> None:
        """Any answer's headers: the limit, and how much of it is used by others."""
        if rate_limit.limit is not None:
            self._announce(rate_limit.limit)
        if rate_limit.active is not None and self._announced is not None and not self._by_request:
            self._others = max(0, rate_limit.active - self._taken)

    def looked(self, rate_limit: RateLimit, *, running: bool) -> None:
        """A look at a generation was answered: by its headers, and whether it still runs."""
        if running:
            self._judged(lambda: self._judge.seen_running(rate_limit.active))
        self.observed(rate_limit)

    def look_refused(self, rate_limit: RateLimit) -> None:
        """A look met 429."""
        self._judged(self._judge.look_refused)
        self.observed(rate_limit)

    @property
    def open_limit(self) -> int | None:
        """How many requests may be open at once; None where they hold no slot. One, while no number is told."""
        return (self._announced or 1) if self._by_request else None

    def statistics(self, now: float) -> AdmissionStatistics:
        """The numbers of this moment."""
        self._let_go(now)
        return AdmissionStatistics(
            running=self._running,
            submitting=self._submitting,
            forsaken=len(self._forsaken),
            limit=None if self._ramping else self._capacity(),
            others=self._others,
            refusals=self._refusals,
            cool_down=max(0.0, self._cool_until - now),
            scope=self._judge.scope,
            open_requests=self.open_requests,
        )

    # ---- inside

    @property
    def _taken(self) -> int:
        return self._running + self._submitting + len(self._forsaken)

    @property
    def _by_request(self) -> bool:
        return self._judge.scope == "request"

    @property
    def _bound(self) -> int | None:
        """What the announced limit says of generations."""
        return None if self._by_request else self._announced

    @property
    def _ramping(self) -> bool:
        return self._bound is None and self._window is None

    @property
    def _one_at_a_time(self) -> bool:
        return self._ramping or self._cool_delays is not None

    def _capacity(self) -> int:
        bounds = [bound for bound in (self.max_concurrency, self._window) if bound is not None]
        if self._bound is not None:
            bounds.append(self._bound - self._others)
        if self._ramping:
            bounds.append(self._running + len(self._forsaken) + 1)
        return max(1, min(bounds))

    def _may_ask(self, now: float) -> bool:
        """Whether one slot beyond the capacity may be asked for: only with all slots really running."""
        below = all(most is None or self._taken < most for most in (self.max_concurrency, self._bound))
        return below and now >= self._ask_at and not self._submitting

    def _announce(self, limit: int) -> None:
        """A limit that changed speaks louder than what was found out before."""
        if limit != self._announced:
            self._announced = limit
            if not self._by_request:
                self._start_over()

    def _start_over(self) -> None:
        self._window, self._others, self._hold_off = None, 0, FIRST_HOLD_OFF

    def _collided(self, rate_limit: RateLimit, *, busy: bool) -> bool:
        """Whether this refusal was about open requests, and says nothing of generations."""
        if busy or not self._by_request:
            return False
        self._announce(rate_limit.limit or self._announced or 1)
        self._judged(lambda: self._judge.submission_refused(alone=self.open_requests <= 1))
        return True

    def _judged(self, tell: Callable[[], None]) -> None:
        """What was found out in one scope doesn't hold in another."""
        before = self._judge.scope
        tell()
        if "request" in (before, self._judge.scope) and before != self._judge.scope:
            self._start_over()

    def _grow(self) -> None:
        """The answer was yes: there may be more where that came from, so ask on."""
        self._asking = False
        self._hold_off = FIRST_HOLD_OFF
        if self._others:
            self._others -= 1
        elif self._window is not None:
            self._window = max(self._window, self._taken)

    def _shrink(self, rate_limit: RateLimit) -> None:
        if rate_limit.limit is None:
            self._window = max(1, self._taken)
            return
        self._announce(rate_limit.limit)
        active = rate_limit.active if rate_limit.active is not None else rate_limit.limit
        self._others = max(0, active - self._taken)

    def _hold(self, now: float) -> None:
        if self._asking:
            self._asking = False
            self._hold_off = min(self._hold_off * 2, MAX_HOLD_OFF)
        self._ask_at = now + self._hold_off

    def _cool(self, retry_after: float | None, now: float) -> None:
        """One cool-down for a burst: refusals that arrive during it may only lengthen it to their own floor."""
        floor = None if retry_after is None else min(retry_after, MAX_RETRY_AFTER)
        if self._cool_delays is None:
            self._cool_delays = COOL_DOWN.delays(self._uniform)
        elif now < self._cool_until:
            self._cool_until = max(self._cool_until, now + (floor or 0.0))
            return
        self._cool_until = now + respect_floor(next(self._cool_delays), floor)

    def _let_go(self, now: float) -> None:
        while self._forsaken and self._forsaken[0] <= now:
            heapq.heappop(self._forsaken)
