"""How long generations take, learned from looks at them. Pure.

Theory of operation
-------------------
Nobody tells how long a generation took: a look finds it running at `low` and the next one finds it ended at `high`.
Each observation is that interval, its share spread evenly inside. To take `high` for the duration instead feeds the
delay of the looks back into their plan, which doubles it.

The next look stands where, of those that still run at the last one, the share `q` will have ended. Looks are then
geometric, 1/q a generation whatever the distribution, and about q/2 of its spread is lost to waiting.

* Gaps are held between a fifth and five quarters of q * median, which is what equal spacing over the median would
  be: 0.5 to 3 s for a median of 12 s and q = 0.2. The ceiling is for the valley between two kinds of generations.
* The last ones are too few to be counted one by one: what outlives all but TAIL_SHARE is taken to end at a constant
  rate; what outlives even that is looked at ever less often, because it probably hangs.
* Drift: were nothing to change, each observation would fall on an even share of the estimate. Two running sums
  (Page's CUSUM) tell when the shares turn too low or too high; then all from before the turn is forgotten.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import mul, sub

MIN_GAP = 0.05  # seconds between looks, however fast the model: less than a round trip buys nothing
MAX_GAP = 30.0  # seconds between looks, however slow: somebody may wait for the end
SHORTEST = 5 / 24  # of q * median: 0.5 s for 12 s and q = 0.2
LONGEST = 1.25  # of q * median: 3 s for 12 s and q = 0.2
OVERDUE = 0.6  # of q * (time in the tail): the least gap there, so that a hung one costs few looks

MAX_OBSERVATIONS = 200  # simulated: 128 lose 0.1 points of throughput against them, 48 lose 0.7
TAIL_SHARE = 0.15
LEAST_TAIL = 4  # observations that a rate can be told from
NARROWEST = 1e-3  # seconds: a finer interval is a clock's rounding

DRIFT_SLACK = 0.2  # of the share: what a noisy observation may be off without being counted
DRIFT_LIMIT = 1.3  # false alarms: about one in 5000 observations; a factor of 2 is found in five
DRIFT_PATIENCE = 0.026  # more limit for each generation beside: of those begun together, the quickest end first
LEAST_JUDGED = 8  # observations before drift can be told from ignorance


class Durations:
    """The newest observations of one kind of generation, at most `max_observations`."""

    def __init__(
        self, observations: Iterable[tuple[float, float]] = (), *, max_observations: int = MAX_OBSERVATIONS
    ) -> None:
        self._observations: deque[tuple[float, float]] = deque(maxlen=max_observations)
        self._drift = _Drift()
        self._estimate: Estimate | None = None
        self._unread = 0  # observations that the estimate has not seen
        for low, high in observations:
            self._keep(low, high)

    def __len__(self) -> int:
        return len(self._observations)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Oldest first."""
        return iter(self._observations)

    def add(self, low: float, high: float, *, beside: int = 0) -> None:
        """One was still running `low` seconds after its acceptance, and had ended at `high`.

        `beside` is how many others of its kind ran at that moment.
        """
        if len(self) >= LEAST_JUDGED:
            self._judge((self.estimate.share(low) + self.estimate.share(high)) / 2, beside)
        self._keep(low, high)

    def next_look(self, elapsed: float, q: float) -> float:
        """When to look next, in seconds since acceptance, at one that still ran after `elapsed`.

        Raises: ValueError before the first observation.
        """
        return self.estimate.next_look(elapsed, q)

    @property
    def estimate(self) -> Estimate:
        """The distribution as far as it is known; a few new observations among many do not renew it."""
        if self._estimate is None or self._unread > len(self) // 32:
            self._estimate = Estimate(self._observations)
            self._unread = 0
        return self._estimate

    def _keep(self, low: float, high: float) -> None:
        self._observations.append((low, max(high, low + NARROWEST)))
        self._unread += 1

    def _judge(self, share: float, beside: int) -> None:
        since = self._drift.add(share, DRIFT_LIMIT + DRIFT_PATIENCE * beside)
        if since is not None:
            newest = list(self._observations)[len(self) - since :]
            self._observations.clear()
            self._observations.extend(newest)
            self._estimate = None
            self._drift = _Drift()


class Estimate:
    """A distribution of durations: a step-wise linear share, and a constant rate in its tail."""

    def __init__(self, observations: Iterable[tuple[float, float]]) -> None:
        intervals = list(observations)
        if not intervals:
            raise ValueError("nothing is known of these durations yet")
        self._times, self._shares = _cumulate(intervals)
        self.mean = sum(low + high for low, high in intervals) / 2 / len(intervals)
        self.median = self.quantile(0.5)
        tail_share = max(TAIL_SHARE, min(0.5, LEAST_TAIL / len(intervals)))
        self._tail_start = self.quantile(1 - tail_share)
        self._tail_left = 1 - self.share(self._tail_start)
        self._tail_mean = _mean_beyond(self._tail_start, intervals)
        self._first = (math.nan, math.nan)  # the last q asked for, and its quantile: it hardly ever changes

    def share(self, time: float) -> float:
        """Of all, the share that has ended by `time`."""
        right = bisect_right(self._times, time)
        if right >= len(self._times):
            return 1.0
        return min(1.0, _between(time, self._times, self._shares, right))

    def quantile(self, share: float) -> float:
        """The time by which `share` of all has ended."""
        right = min(bisect_left(self._shares, share, 1), len(self._shares) - 1)
        return _between(share, self._shares, self._times, right)

    def next_look(self, elapsed: float, q: float) -> float:
        """When the share `q` of those that still run at `elapsed` will have ended, within the allowed gaps."""
        overdue = max(0.0, elapsed - self._tail_start)
        least = min(MAX_GAP, max(MIN_GAP, SHORTEST * q * self.median, OVERDUE * q * overdue))
        most = max(least, min(MAX_GAP, LONGEST * q * max(self.median, elapsed / 2)))
        latest = max(elapsed + most, self._first_look(q))  # no ceiling before the first ones can have ended
        return max(elapsed + least, min(self._unclamped(elapsed, q), latest))

    def _first_look(self, q: float) -> float:
        if q != self._first[0]:
            self._first = (q, self.quantile(q))
        return self._first[1]

    def _unclamped(self, elapsed: float, q: float) -> float:
        if elapsed >= self._tail_start:
            return elapsed - math.log1p(-q) * self._tail_mean
        left = (1 - self.share(elapsed)) * (1 - q)
        if left >= self._tail_left:
            return self.quantile(1 - left)
        return self._tail_start + math.log(self._tail_left / left) * self._tail_mean


class _Drift:
    """Two running sums over shares that would be even if nothing changed: one rises when they turn low, one when high.

    Each remembers how many observations it has risen over: those since the turn.
    """

    def __init__(self) -> None:
        self._low = self._high = 0.0
        self._low_count = self._high_count = 0

    def add(self, share: float, limit: float) -> int | None:
        """None while all is well; else how many observations before this one came after the turn."""
        self._low = max(0.0, self._low + 0.5 - share - DRIFT_SLACK)
        self._high = max(0.0, self._high + share - 0.5 - DRIFT_SLACK)
        self._low_count = self._low_count + 1 if self._low else 0
        self._high_count = self._high_count + 1 if self._high else 0
        if max(self._low, self._high) <= limit:
            return None
        return (self._low_count if self._low > limit else self._high_count) - 1


def _cumulate(intervals: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Times, and the share that has ended by each: every interval adds its own, evenly from its low to its high."""
    turns: list[tuple[float, float]] = []
    for low, high in intervals:
        rate = 1 / (high - low) / len(intervals)
        turns += ((low, rate), (high, -rate))
    turns.sort()
    times = [time for time, _ in turns]
    rates = accumulate(change for _, change in turns)
    gains = map(mul, rates, map(sub, times[1:], times))
    return [0.0, *times], [0.0, *accumulate(gains, initial=0.0)]


def _mean_beyond(start: float, intervals: list[tuple[float, float]]) -> float:
    """How much longer those run on average that run at `start`."""
    weights = total = 0.0
    for low, high in intervals:
        if high > start:
            inside = max(low, start)
            weight = (high - inside) / (high - low)
            total += weight * ((inside + high) / 2 - start)
            weights += weight
    return total / weights if weights else NARROWEST


def _between(value: float, xs: list[float], ys: list[float], right: int) -> float:
    """The y at `value`, which lies at or after the point before `right`."""
    rise = xs[right] - xs[right - 1]
    part = (value - xs[right - 1]) / rise if rise > 0 else 1.0
    return ys[right - 1] + (ys[right] - ys[right - 1]) * min(1.0, max(0.0, part))
