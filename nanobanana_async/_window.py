"""How many the server itself has room for, found from its 503s alone: pure.

As TCP does it (additive increase, multiplicative decrease), with two differences. A refusal here is exact, as nothing
waits in between: what was taken when it came did fit, so the window keeps that, less a sixteenth in favour of others.
And the increase is counted in jobs and in seconds, because a refusal costs a pause for all: the first comes soon, each
that is refused makes the next one rarer, up to one in `MOST_BETWEEN` jobs and as many seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_BETWEEN = 8  # acceptances with a full window, and seconds, before it grows by one
MOST_BETWEEN = 64


@dataclass(slots=True)
class Window:
    """`bound` is None until a 503, and again once far more than was refused then has been taken.

    A few more mean little: among those that count as taken, some have ended, and nobody has looked yet.
    """

    bound: int | None = None
    peak: int = 0  # taken when the last refusal came
    between: int = LEAST_BETWEEN
    accepted_full: int = 0
    grows_at: float = 0.0

    def refused(self, taken: int, now: float, *, same_burst: bool) -> None:
        """A 503 came with so many taken, itself not counted; `same_burst` if another had come just before."""
        if same_burst:
            self.peak = min(self.peak, taken)
        else:
            self.peak = taken
            self.between = min(self.between * 2, MOST_BETWEEN)
        self.bound = max(1, self.peak - self.peak // 16)
        self._wait(now)

    def accepted(self, taken: int, now: float) -> None:
        """One more was accepted, which makes so many taken."""
        if self.bound is None or taken < self.bound:
            return
        if taken > self.peak + 1 + self.peak // 4:
            self.bound, self.between = None, LEAST_BETWEEN
            return
        self.accepted_full += 1
        if self.accepted_full >= self.between and now >= self.grows_at:
            self.bound += 1
            self._wait(now)

    def _wait(self, now: float) -> None:
        self.accepted_full, self.grows_at = 0, now + self.between
