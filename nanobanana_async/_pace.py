"""How many looks the service has to bear: a ceiling per second, shared by all jobs, and fewer after refusals.

Pure: delays are moved, nobody sleeps.
"""

from __future__ import annotations

import math

LEAST_WIDTH = 0.1  # seconds of one bucket: finer would only cost memory
MANY_BUCKETS = 1024  # before those that have passed are thrown away

STRAIN = 1.5  # times rarer looks after one was refused
MOST_STRAIN = 5.0
STRAIN_PAUSE = 1.0  # seconds: those that are refused at the same time are one refusal
RELIEF = 60.0  # seconds in which most of that is over


class Pace:
    """Books looks into buckets of time, each with room for so many; who finds one full gets the next with room.

    Looks are booked for any moment in any order, so one count for "the next free moment" would not do.
    """

    def __init__(self, max_per_second: float) -> None:
        if not max_per_second > 0:
            raise ValueError(f"max_per_second must be positive (got {max_per_second})")
        self._width = max(LEAST_WIDTH, 1 / max_per_second)
        self._room = max(1, int(max_per_second * self._width + 1e-9))
        self._booked: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._booked)

    def book(self, now: float, delay: float) -> float:
        """The delay from `now` at which the look may be made: `delay`, or somewhat later."""
        wanted = now + delay
        bucket = int(wanted // self._width)
        while self._booked.get(bucket, 0) >= self._room:
            bucket += 1
        taken = self._booked.get(bucket, 0)
        self._booked[bucket] = taken + 1
        if len(self._booked) > MANY_BUCKETS:
            self._forget_before(now)
        return max(delay, (bucket + taken / self._room) * self._width - now)

    def _forget_before(self, now: float) -> None:
        first = int(now // self._width)
        self._booked = {bucket: count for bucket, count in self._booked.items() if bucket >= first}


class Strain:
    """How many times rarer looks are than they would be: more with each refusal, less and less with time."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._now = self._since = -math.inf

    def add(self, now: float) -> None:
        """A look was refused."""
        self.ease(now)
        if now - self._since >= STRAIN_PAUSE:
            self.factor = min(self.factor * STRAIN, MOST_STRAIN)
            self._since = now

    def ease(self, now: float) -> None:
        """Time goes by."""
        if self.factor > 1.0 and now > self._now:
            self.factor = 1 + (self.factor - 1) * math.exp(-(now - self._now) / (RELIEF / 2))
        self._now = max(self._now, now)
