"""What holds a slot, generations or open requests: a pure judge, fed with what the answers happen to show.

Theory of operation
-------------------
In *generation scope* a slot is held from POST until the generation has ended; a look is never refused. In *request
scope* it is held by every open request to /generate, looks included. What we call running may have ended unseen, as
long as nobody has looked, so a submission beyond the limit that is accepted proves nothing by itself. What does:

* a look that meets 429: request scope;
* a look that says "still processing" while its own headers count nobody active: request scope, once seen twice;
* more generations than the limit allows, each seen "still processing" after the last of them was accepted: request
  scope;
* headers that count more active than we have requests open, twice: generation scope;
* a submission that meets 429 while no other request of ours is open and some generation runs: generation scope.

A count that is no higher than the requests we have open, while more of our generations were seen running since the
last acceptance, proves nothing: some may have ended since. After `SUSPICIONS` such looks in a row it is worth asking at
once.

Where others use the account too, their requests may look like ours, so that no judgement is final: a refused look
always says request scope, and submissions refused with nothing else open contradict it; after `CONTRADICTIONS` of
them in a row the scope is unknown again. One that the user set is never judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Scope: TypeAlias = Literal["generation", "request"]

CONTRADICTIONS = 3  # collisions with other processes look like contradictions, but seldom come in a row
SUSPICIONS = 4  # looks in a row; of what has ended unseen, others would tell by then
SIGHTINGS = 2  # of a count that fits one scope only: an end may fall between the record and the header


@dataclass(slots=True)
class ScopeJudge:
    """Holds `scope`, None while it is unknown."""

    scope: Scope | None = None
    set_by_user: bool = False
    uncounted: int = 0
    counted: int = 0
    hidden: int = 0  # looks in a row that counted none of our other generations
    contradictions: int = 0

    def look_refused(self) -> None:
        """A look met 429."""
        self._settle("request")

    def seen_running(self, active: int | None, *, open_requests: int) -> None:
        """A look says that its generation runs; its headers how many are active. We had so many requests open."""
        if active is None:
            return
        self.uncounted = self.uncounted + 1 if active == 0 else 0
        self.counted += active > open_requests
        if self.uncounted >= SIGHTINGS:
            self._settle("request")
        elif self.scope is None and self.counted >= SIGHTINGS:
            self._settle("generation")

    def grown_suspicious(self, active: int | None, *, open_requests: int, seen: int) -> bool:
        """The same look, when so many of ours were seen running lately: whether it makes request scope likely."""
        if self.scope is not None or active is None:
            return False
        if active > open_requests:
            self.hidden = 0
        elif active < seen:
            self.hidden += 1
            return self.hidden == SUSPICIONS
        return False

    def seen_beyond_limit(self) -> None:
        """More generations ran at one moment than the limit of that moment."""
        if self.scope is None:
            self._settle("request")

    def submission_refused(self, *, alone: bool, running: int) -> None:
        """A submission met 429; `alone`: with no other request of ours open, while so many ran."""
        if not alone:
            return
        if self.scope == "request":
            self._contradict()
        elif self.scope is None and running:
            self._settle("generation")

    def submission_accepted(self) -> None:
        """Requests get through: earlier refusals were collisions."""
        self.contradictions = 0

    def _settle(self, scope: Scope) -> None:
        self.uncounted = self.counted = self.hidden = self.contradictions = 0
        if not self.set_by_user:
            self.scope = scope

    def _contradict(self) -> None:
        self.contradictions += 1
        if self.contradictions >= CONTRADICTIONS and not self.set_by_user:
            self.scope, self.contradictions = None, 0
