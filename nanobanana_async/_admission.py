"""How many generations may run at once: a pure state machine, fed with what the server says.

Theory of operation
-------------------
The server refuses what exceeds the account's limit, and may change that limit at any time. A refusal costs no
credits, so it is also how a limit that nobody announces is found. Held here, all in numbers:

* `running` generations hold a slot on the server; `submitting` POSTs have not been answered; *forsaken* ones may
  still run, but nobody watches them, so each is counted until its deadline passes.
* What answers have told or shown of the account's limit (`_known`), and `server`, the bound from 503s (`_window`).
* No bound known, or filling up again after a refusal that told no number: *feeling*. What has run at once already
  may do so again, and beyond it a few at a time are tried.
* Where only open requests hold a slot (`_scope`), what is announced and active says nothing of generations: they are
  bounded by the server alone, and a 429 was a collision that changes no bound.

A refusal starts one cool-down for everybody; after it one single POST goes out, and only its acceptance lets the rest
follow (`_cooldown`).

With every slot full, one more is asked for, rarely: what others held, or a limit that was raised, is found so, slot
by slot, for as long as the answer is yes. Each no waits longer (`_questions`). The first such question also tells
what holds a slot.

POSTs still under way when a refusal comes count as taken. Should they be refused as well, each says so itself, so
the numbers are right once the last one is answered, in whatever order.

Promises: an admission is answered by exactly one of accepted, refused, withdrawn; `available` never lets
`running + submitting` above the capacity known at that moment but for that one question; with room and no cool-down
it is never zero. Time is an argument everywhere.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ._cooldown import CoolDown
from ._known import Known
from ._questions import Questions, Source
from ._retry import Uniform
from ._scope import Scope, ScopeJudge
from ._window import Window
from ._wire import RateLimit


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

    @property
    def slots(self) -> int:
        """The limit; while it is still being found, as many as are taken."""
        return self.running + self.submitting + self.forsaken if self.limit is None else self.limit


class Admission:
    """Decides whether one more generation may be submitted. `max_concurrency` is the user's own ceiling."""

    def __init__(
        self, *, max_concurrency: int | None = None, scope: Scope | None = None, uniform: Uniform = random.uniform
    ) -> None:
        self.max_concurrency = max_concurrency
        self.open_requests = 0  # told by whoever opens them
        self._uniform = uniform
        self._running = 0
        self._submitting = 0
        self._forsaken: list[float] = []  # a heap of deadlines
        self._known = Known()
        self._judge = ScopeJudge(scope, set_by_user=scope is not None)
        self._server = Window()
        self._cool = CoolDown()
        self._questions = Questions()

    # ---- asking

    def available(self, now: float) -> int:
        """How many may be submitted right now."""
        self._let_go(now)
        if now < self._cool.until or (self._cool.cautious and self._submitting):
            return 0
        room = self._reach() - self._taken
        if room <= 0:
            return 1 if room == 0 and self._may_ask(now) else 0
        return 1 if self._cool.cautious else room

    def admit(self, now: float) -> bool:
        """Take one admission, if there is one."""
        if self.available(now) <= 0:
            return False
        self._questions.asking = self._questions.asking or self._taken >= self._reach()
        self._submitting += 1
        return True

    def next_change(self, now: float) -> float | None:
        """When time alone may make room: the end of the cool-down, a hold-off, or a forsaken slot. None: never."""
        if self.available(now) > 0:
            return now
        moments = (self._cool.until, self._questions.ask_at, *self._forsaken[:1])
        return min((moment for moment in moments if moment is not None and moment > now), default=None)

    # ---- being told

    def accepted(self, rate_limit: RateLimit, now: float) -> None:
        """A submission was taken: it runs."""
        known = self._known
        self._submitting -= 1
        self._running += 1
        self._cool.accepted(now)
        self._judge.submission_accepted()
        self._server.accepted(self._taken, now)
        known.accepted(self._certain)
        self._questions.looked = False
        if self._questions.asking:
            self._questions.accepted(self._taken)
            known.grown(self._taken, self._bound)
        self.observed(rate_limit, now)
        known.limit_then = known.announced
        known.refilling = known.refilling and known.proved < self._capacity()

    def refused(self, rate_limit: RateLimit, now: float, *, busy: bool = False, alone: bool = False) -> None:
        """A submission met 503 (`busy`) or 429: nothing runs, nothing was charged.

        `alone`: no other request of ours was open at any moment of it.
        """
        self._submitting -= 1
        self._known.refusals += 1
        if busy:
            self._crowded(now)
        elif self._by_request:
            self._collided(rate_limit, now, alone=alone)
        else:
            self._shrink(rate_limit, now, alone=alone)
        self._cool.begin(rate_limit.retry_after, now, self._uniform)

    def withdrawn(self) -> None:
        """An admission was not used, or its submission never left or was refused for good."""
        self._submitting -= 1
        self._questions.asking = self._questions.asking and self._submitting > 0

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
        self._cool.begin(None, now, self._uniform)

    def observed(self, rate_limit: RateLimit, now: float) -> None:
        """Any answer's headers: the limit, and how much of it is used by others."""
        if rate_limit.limit is not None:
            self._announce(rate_limit.limit, now)
        if rate_limit.active is not None and self._bound is not None:
            self._known.counted(rate_limit.active, self._taken)

    def looked(self, rate_limit: RateLimit, now: float, *, running: bool, seen_at: int = 0) -> int:
        """A look at a generation was answered: by its headers, and whether it still runs.

        `seen_at` is what this returned for the same generation before: so each is counted once an acceptance.
        """
        known, judge = self._known, self._judge
        if running:
            scope = judge.scope
            self._questions.looked = True
            known.seen += seen_at < known.acceptances
            opened = self.open_requests + 1  # this look has just closed
            judge.seen_running(rate_limit.active, open_requests=opened)
            self._judged(scope, now)
            if judge.grown_suspicious(rate_limit.active, open_requests=opened, seen=min(known.seen, self._running)):
                self._questions.hasten(now)
        self.observed(rate_limit, now)
        if known.seen_beyond_limit:
            scope = judge.scope
            judge.seen_beyond_limit()
            self._judged(scope, now)
        return known.acceptances

    def look_refused(self, rate_limit: RateLimit, now: float) -> None:
        """A look met 429."""
        scope = self._judge.scope
        self._judge.look_refused()
        self._judged(scope, now)
        self.observed(rate_limit, now)

    @property
    def acceptances(self) -> int:
        """How many submissions were taken so far; a generation just accepted was seen at this one."""
        return self._known.acceptances

    @property
    def open_limit(self) -> int | None:
        """How many requests may be open at once; None where they hold no slot. One, while no number is told."""
        return (self._known.announced or 1) if self._by_request else None

    def statistics(self, now: float) -> AdmissionStatistics:
        """The numbers of this moment."""
        self._let_go(now)
        return AdmissionStatistics(
            running=self._running,
            submitting=self._submitting,
            forsaken=len(self._forsaken),
            limit=None if self._unbounded else int(self._capacity()),
            others=self._known.others,
            refusals=self._known.refusals,
            cool_down=max(0.0, self._cool.until - now),
            scope=self._judge.scope,
            open_requests=self.open_requests,
        )

    # ---- shared by several processes

    def facts(self) -> dict[str, Any]:
        """What was told and found out, without the counts of who holds what. It can be written as JSON."""
        parts = {"known": self._known, "judge": self._judge, "server": self._server, "cool": self._cool}
        return {name: _fields(part) for name, part in {**parts, "questions": self._questions}.items()}

    def telling_facts(self) -> dict[str, Any]:
        """`facts` without the counts of looks that settle nothing any more: where these differ, others should know."""
        facts = self.facts()
        if self._judge.scope is not None:
            facts["known"]["seen"] = facts["judge"]["counted"] = facts["judge"]["hidden"] = 0
        if self._questions.subject != "scope":
            facts["questions"]["looked"] = False
        return facts

    def restore(self, facts: dict[str, Any], *, running: int, submitting: int, forsaken: Iterable[float]) -> None:
        """Take over another one's facts, and who holds what. Times are of the clock that the facts were made with."""
        self._known = Known(**facts["known"])
        self._judge = ScopeJudge(**facts["judge"])
        self._server = Window(**facts["server"])
        self._cool = CoolDown(**facts["cool"])
        self._questions = Questions(**facts["questions"])
        self.recount(running=running, submitting=submitting, forsaken=forsaken)

    def recount(self, *, running: int, submitting: int, forsaken: Iterable[float]) -> None:
        """Who holds what is something else than what was told here."""
        self._running, self._submitting, self._forsaken = running, submitting, sorted(forsaken)

    # ---- inside

    @property
    def _taken(self) -> int:
        return self._running + self._submitting + len(self._forsaken)

    @property
    def _certain(self) -> int:
        """What was accepted, or may have been."""
        return self._running + len(self._forsaken)

    @property
    def _by_request(self) -> bool:
        return self._judge.scope == "request"

    @property
    def _bound(self) -> int | None:
        """What the announced limit says of generations."""
        return None if self._by_request else self._known.announced

    @property
    def _unbounded(self) -> bool:
        return self._bound is None and self._known.found is None and self._server.bound is None

    def _capacity(self) -> float:
        """All bounds there are."""
        known, told = self._known, self._bound
        least = math.inf if told is None else told - known.others + known.extra
        for bound in (self.max_concurrency, known.found, self._server.bound):
            if bound is not None and bound < least:
                least = bound
        return max(1, least)

    def _reach(self) -> int:
        """How many may be taken now: the capacity, or as far as it may be felt for."""
        capacity = self._capacity()
        if self._unbounded or self._known.refilling:
            capacity = min(capacity, self._known.within_reach(self._certain))
        return int(capacity)

    def _may_ask(self, now: float) -> bool:
        """Whether one slot beyond the capacity may be asked for: only with all slots really running."""
        below = all(most is None or self._taken < most for most in (self.max_concurrency, self._server.bound))
        return below and not self._submitting and self._questions.due(now)

    def _announce(self, limit: int, now: float) -> None:
        """A limit that changed speaks louder than what was found out before."""
        if limit != self._known.announced:
            self._known.announced = limit
            if not self._by_request:
                self._start_over(now)

    def _start_over(self, now: float) -> None:
        self._known.start_over()
        self._questions.start_over(self._known.announced, self._judge.scope, now)

    def _crowded(self, now: float) -> None:
        """The server is full, whoever filled it. Once cautious, only the burst that began it says how many fit."""
        self._questions.asking = False
        same_burst = now < self._cool.until
        if same_burst or not self._cool.cautious:
            self._server.refused(self._taken, now, same_burst=same_burst and self._cool.cautious)
        self._known.feel_anew(self._certain)

    def _collided(self, rate_limit: RateLimit, now: float, *, alone: bool) -> None:
        """This refusal was about open requests, and says nothing of generations."""
        self._announce(rate_limit.limit or self._known.announced or 1, now)
        scope = self._judge.scope
        self._judge.submission_refused(alone=alone, running=self._running)
        self._judged(scope, now)
        self._questions.asking = self._questions.asking and self._submitting > 0

    def _shrink(self, rate_limit: RateLimit, now: float, *, alone: bool) -> None:
        """The account's slots are taken."""
        known = self._known
        self._judge.submission_refused(alone=alone, running=self._running)
        if rate_limit.limit is None:
            known.found = max(1, self._taken)
            known.feel_anew(self._certain)
        else:
            self._announce(rate_limit.limit, now)
            active = rate_limit.active if rate_limit.active is not None else rate_limit.limit
            known.counted(active, self._taken)
            known.extra = 0
        source: Source = "found" if rate_limit.limit is None else "others" if known.others else "told"
        self._questions.refused(self._taken, source, self._judge.scope, now)

    def _judged(self, before: Scope | None, now: float) -> None:
        """The judge was told something. What was found out in one scope doesn't hold in another."""
        scope = self._judge.scope
        if scope == before:
            return
        if "request" in (before, scope):
            self._start_over(now)
        elif before is None:
            self._questions.scope_known(now)

    def _let_go(self, now: float) -> None:
        while self._forsaken and self._forsaken[0] <= now:
            heapq.heappop(self._forsaken)


def _fields(part: Any) -> dict[str, Any]:
    """A part's fields; `asdict`, which copies them, takes five times as long."""
    return {name: getattr(part, name) for name in part.__slots__}
