"""A ceiling on looks per second, shared by all jobs. Pure: it moves delays, it does not sleep."""

from __future__ import annotations

LEAST_WIDTH = 0.1  # seconds of one bucket: finer would only cost memory
MANY_BUCKETS = 1024  # before those that have passed are thrown away


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
