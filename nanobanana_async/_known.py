"""What answers have told or shown of an account's slots: pure.

* `announced` is the limit as told by X-RateLimit-Limit or a 429's body; `others` is what other processes hold of it,
  `extra` what was taken beyond it all the same.
* `found` is the bound from 429s that tell no number: what was taken when the refusal came, at least 1.
* `proved` is how many have run at once since the last of those. While `refilling`, as many may do so again, and beyond
  it a few at a time are tried.
* `seen` counts those that surely ran at the last acceptance, under the limit of that moment: see `_scope`.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_TRIED = 5  # at a time beyond what is known to fit: as many may be refused


@dataclass(slots=True)
class Known:
    """Facts of one account, without who holds what."""

    announced: int | None = None
    others: int = 0
    extra: int = 0
    found: int | None = None
    proved: int = 0
    refilling: bool = False
    refusals: int = 0
    acceptances: int = 0
    seen: int = 0
    limit_then: int | None = None  # as it was announced at the last acceptance

    @property
    def seen_beyond_limit(self) -> bool:
        """Whether more ran at the last acceptance than the limit of that moment."""
        return self.limit_then is not None and self.seen > self.limit_then

    def within_reach(self, certain: int) -> int:
        """How many may be taken where no bound is known, with so many accepted or perhaps accepted."""
        proved = max(self.proved, certain)
        return proved + min(MOST_TRIED, 1 + proved // 8)

    def accepted(self, certain: int) -> None:
        """A submission was taken, which makes so many."""
        self.proved = max(self.proved, certain)
        self.acceptances += 1
        self.seen = 1

    def grown(self, taken: int, told: int | None) -> None:
        """One beyond the capacity was taken: what bounded it gives way. `told` is the limit told of generations."""
        if self.others:
            self.others -= 1
        elif self.found is not None:
            self.found = max(self.found, taken)
        elif told is not None:
            self.extra = max(self.extra, taken - told)

    def counted(self, active: int, taken: int) -> None:
        """So many are active, ours among them; the rest is others'."""
        self.others = max(0, active - taken)

    def feel_anew(self, certain: int) -> None:
        """A refusal told no number: only what runs now has proved to fit."""
        self.proved, self.refilling = certain, True

    def start_over(self) -> None:
        """What was found out holds no longer."""
        self.found, self.others, self.extra, self.refilling = None, 0, 0, False
