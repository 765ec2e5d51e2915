"""What holds a slot, generations or open requests: a pure judge, fed with what the answers happen to show.

Theory of operation
-------------------
In *generation scope* a slot is held from POST until the generation has ended; a look is never refused. In *request
scope* it is held by every open request to /generate, looks included. What we call running may have ended unseen, as
long as nobody has looked: so a small X-RateLimit-Active proves nothing by itself. What does prove something:

* a look that meets 429: request scope;
* a look that says "still processing" while its own headers count nobody active: request scope, once seen twice.

Submissions that are refused with 429 while no other request of ours is open contradict request scope: after
`CONTRADICTIONS` of them in a row the scope is unknown again. One that the user set is never judged.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Scope: TypeAlias = Literal["generation", "request"]

CONTRADICTIONS = 3  # collisions with other processes look like contradictions, but seldom come in a row
SIGHTINGS = 2  # of a running generation that isn't counted: its end may fall between the record and the header


class ScopeJudge:
    """Holds `scope`, None while it is unknown."""

    def __init__(self, scope: Scope | None = None) -> None:
        self.scope = scope
        self._set_by_user = scope is not None
        self._uncounted = 0
        self._contradictions = 0

    def look_refused(self) -> None:
        """A look met 429."""
        self._settle("request")

    def seen_running(self, active: int | None) -> None:
        """A look says that its generation runs, and its headers how many are active."""
        if active is not None:
            self._uncounted = self._uncounted + 1 if active == 0 else 0
        if self._uncounted >= SIGHTINGS:
            self._settle("request")

    def submission_refused(self, *, alone: bool) -> None:
        """A submission met 429, with no other request of ours open (`alone`) or with some."""
        if alone and self.scope == "request":
            self._contradict()

    def submission_accepted(self) -> None:
        """Requests get through: earlier refusals were collisions."""
        self._contradictions = 0

    def _settle(self, scope: Scope) -> None:
        self._uncounted = self._contradictions = 0
        if not self._set_by_user:
            self.scope = scope

    def _contradict(self) -> None:
        self._contradictions += 1
        if self._contradictions >= CONTRADICTIONS and not self._set_by_user:
            self.scope, self._contradictions = None, 0
