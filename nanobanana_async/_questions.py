"""When one slot beyond those that are known may be asked for: pure.

A refused question costs a request and a short pause, so it is asked rarely, and only with every slot full and work
waiting:

* a limit was told, but not what holds a slot: soon, once a look has shown that what we count as running does run. At
  a limit of 1 after a second, because request scope would give most there; at others, where looks tell by themselves,
  after a minute. Each no that may have been a collision waits four times as long;
* a limit was told: whether it was raised, twice an hour;
* a limit was found from refusals: after 30 s, then twice an hour;
* others hold slots: after 30 s, doubling with each no.

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

Source: TypeAlias = Literal["told", "found", "others"]  # where the bound comes from


@dataclass(slots=True)
class Questions:
    """`ask_at` is when the next may be asked, None never; `asking` while one is under way."""

    ask_at: float | None = None
    asking: bool = False
    about_scope: bool = False
    looked: bool = False  # a look since the last acceptance said that its generation runs
    hold_off: float = FIRST_HOLD_OFF
    refused_at: int = 0  # slots taken when the last no came

    def due(self, now: float) -> bool:
        """Whether to ask now."""
        return self.ask_at is not None and now >= self.ask_at and (self.looked or not self.about_scope)

    def start_over(self, limit: int | None, scope: Scope | None, now: float) -> None:
        """The limit or the scope is another one."""
        self.about_scope = scope is None
        self.hold_off = FIRST_HOLD_OFF
        if self.about_scope:
            self.hold_off = SCOPE_HOLD_OFF_AT_ONE if limit == 1 else SCOPE_HOLD_OFF
        self.ask_at = None
        if limit is not None:
            self.ask_at = now + (self.hold_off if self.about_scope else MAX_HOLD_OFF)

    def scope_known(self, now: float) -> None:
        """Answers told it: nothing is left to ask about it."""
        if self.about_scope:
            self.about_scope, self.hold_off, self.ask_at = False, FIRST_HOLD_OFF, now + MAX_HOLD_OFF

    def refused(self, taken: int, source: Source, scope: Scope | None, now: float) -> None:
        """A 429 with so many taken."""
        if source == "told" and scope is not None:
            self.hold_off = MAX_HOLD_OFF
        elif self.about_scope and (source != "told" or scope is not None):
            self.hold_off = FIRST_HOLD_OFF
        elif self.asking:
            self.hold_off = min(MAX_HOLD_OFF, self.hold_off * {"told": 4, "found": math.inf, "others": 2}[source])
        self.about_scope = source == "told" and scope is None
        self.ask_at = now + self.hold_off
        self.asking = False
        self.refused_at = taken

    def accepted(self, taken: int) -> None:
        """The answer was yes, with so many taken now. One or two more may be due to ends that were not seen yet."""
        self.asking = False
        if taken > self.refused_at + 1 + self.refused_at // 4 and not self.about_scope:
            self.hold_off = FIRST_HOLD_OFF
