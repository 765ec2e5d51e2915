"""When one slot beyond those that are known may be asked for: pure.

A refused question costs a request and a short pause, so it is asked rarely, and only with every slot full and work
waiting:

* a limit was told, but not what holds a slot: soon, once a look has shown that what we count as running does run. At
  a limit of 1 after a second, because request scope would give most there; at others, where looks tell by themselves,
  after a minute, or at once when they make request scope likely. Each no that may have been a collision waits four
  times as long;
* a limit was told: whether it was raised, twice an hour;
* a limit was found from refusals: after 30 s, then twice an hour;
* others hold slots: after 30 s, doubling with each no up to 4 minutes.

The answer yes asks on at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._scope import Scope

FIRST_HOLD_OFF = 30.0  # seconds
MAX_HOLD_OFF = 1800.0
SCOPE_HOLD_OFF_AT_ONE = 1.0
SCOPE_HOLD_OFF = 60.0
OTHERS_HOLD_OFF = 240.0  # somebody else's slots come free at any time

Source: TypeAlias = Literal["told", "found", "others"]  # where the bound comes from
Subject: TypeAlias = Literal["scope", "raise", "found", "others"]

_HOLD_OFFS: dict[
    Subject, tuple[float, float, float]
] = {  # seconds before the first, its growth with each no, the longest
    "scope": (SCOPE_HOLD_OFF, 4, MAX_HOLD_OFF),
    "raise": (MAX_HOLD_OFF, 1, MAX_HOLD_OFF),
    "found": (FIRST_HOLD_OFF, math.inf, MAX_HOLD_OFF),
    "others": (FIRST_HOLD_OFF, 2, OTHERS_HOLD_OFF),
}


@dataclass(slots=True)
class Questions:
    """`ask_at` is when the next may be asked, None never; `asking` while one is under way."""

    subject: Subject = "found"
    ask_at: float | None = None
    asking: bool = False
    looked: bool = False  # a look since the last acceptance said that its generation runs
    hold_off: float = FIRST_HOLD_OFF
    refused_at: int = 0  # slots taken when the last no came

    def due(self, now: float) -> bool:
        """Whether to ask now."""
        return self.ask_at is not None and now >= self.ask_at and (self.looked or self.subject != "scope")

    def start_over(self, limit: int | None, scope: Scope | None, now: float) -> None:
        """The limit or the scope is another one."""
        self._turn_to("raise" if scope is not None else "scope")
        if self.subject == "scope" and limit == 1:
            self.hold_off = SCOPE_HOLD_OFF_AT_ONE
        self.ask_at = None if limit is None else now + self.hold_off

    def hasten(self, now: float) -> None:
        """Looks make it likely that only open requests hold a slot."""
        if self.subject == "scope" and self.ask_at is not None:
            self.ask_at = min(self.ask_at, now)

    def scope_known(self, now: float) -> None:
        """Answers told it: nothing is left to ask about it."""
        if self.subject == "scope":
            self._turn_to("raise")
            self.ask_at = now + self.hold_off

    def refused(self, taken: int, source: Source, scope: Scope | None, now: float) -> None:
        """A 429 with so many taken."""
        subject: Subject = source if source != "told" else "scope" if scope is None else "raise"
        if subject != self.subject:
            self._turn_to(subject)
        elif self.asking:
            _, growth, longest = _HOLD_OFFS[subject]
            self.hold_off = min(longest, self.hold_off * growth)
        self.ask_at = now + self.hold_off
        self.asking = False
        self.refused_at = taken

    def accepted(self, taken: int) -> None:
        """The answer was yes, with so many taken now. One or two more may be due to ends that were not seen yet."""
        self.asking = False
        if taken > self.refused_at + 1 + self.refused_at // 4 and self.subject != "scope":
            self._turn_to(self.subject)

    def _turn_to(self, subject: Subject) -> None:
        self.subject, self.hold_off = subject, _HOLD_OFFS[subject][0]
