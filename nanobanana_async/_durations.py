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
from operator import add, mul, sub

MIN_GAP = 0.05  # seconds between looks, however fast the model: less than a round trip buys nothing
MAX_GAP = 30.0  # seconds between looks, however slow: somebody may wait for the end
SHORTEST = 5 / 24  # of q * median: 0.5 s for 12 s and q = 0.2
LONGEST = 1.25  # of q * median: 3 s for 12 s and q = 0.2
OVERDUE = 0.6  # of q * (time in the tail): the least gap there, so that a hung one costs few looks

MAX_OBSERVATIONS = 200  # simulated: 128 lose 0.1 points of throughput against them, 48 lose 0.7
RENEWAL = 16  # of the observations, this part may be newer than the estimate; 8 to 32 were simulated, and are alike
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
        self._observations: deque[tuple[float, float]] = deque()
        self._most = max_observations
        self._turns = _Turns()
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
        if len(self._observations) >= LEAST_JUDGED:
            estimate = self.estimate
            self._judge((estimate.share(low) + estimate.share(high)) / 2, beside)
        self._keep(low, high)

    def next_look(self, elapsed: float, q: float) -> float:
        """When to look next, in seconds since acceptance, at one that still ran after `elapsed`.

        Raises: ValueError before the first observation.
        """
        return self.estimate.next_look(elapsed, q)

    @property
    def estimate(self) -> Estimate:
        """The distribution as far as it is known; a few new observations among many do not renew it."""
        estimate = self._estimate
        if estimate is None or self._unread > len(self._observations) // RENEWAL:
            estimate = self._estimate = Estimate(self._turns)
            self._unread = 0
        return estimate

    def _keep(self, low: float, high: float) -> None:
        observation = (low, max(high, low + NARROWEST))
        self._observations.append(observation)
        self._turns.add(*observation)
        if len(self._observations) > self._most:
            self._turns.remove(*self._observations.popleft())
        self._unread += 1

    def _judge(self, share: float, beside: int) -> None:
        since = self._drift.add(share, DRIFT_LIMIT + DRIFT_PATIENCE * beside)
        if since is not None:
            while len(self._observations) > since:
                self._turns.remove(*self._observations.popleft())
            self._estimate = None
            self._drift = _Drift()


class _Turns:
    """Where intervals begin and end, in order, and what each of these moments changes in how many end a second."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.changes: list[float] = []

    def add(self, low: float, high: float) -> None:
        rate = 1 / (high - low)
        for time, change in ((low, rate), (high, -rate)):
            place = bisect_right(self.times, time)
            self.times.insert(place, time)
            self.changes.insert(place, change)

    def remove(self, low: float, high: float) -> None:
        rate = 1 / (high - low)
        for time, change in ((low, rate), (high, -rate)):
            place = self.changes.index(change, bisect_left(self.times, time))
            del self.times[place], self.changes[place]


class Estimate:
    """A distribution of durations: a step-wise linear share, and a constant rate in its tail.

    Raises: ValueError when there is nothing to tell it from.
    """

    def __init__(self, turns: _Turns) -> None:
        if not turns.times:
            raise ValueError("nothing is known of these durations yet")
        times = turns.times
        self._count = len(times) // 2
        rates = accumulate(turns.changes)
        gains = map(mul, rates, map(sub, times[1:], times))
        self._times = [0.0, *times]
        self._ended = [0.0, *accumulate(gains, initial=0.0)]  # how many had, by each of these times
        self.mean = sum(times) / len(times)
        self.median = self.quantile(0.5)
        self._tail_start = self.quantile(1 - max(TAIL_SHARE, min(0.5, LEAST_TAIL / self._count)))
        self._tail_left = 1 - self.share(self._tail_start)
        self._tail_mean = self._mean_beyond(self._tail_start)
        self._q = math.nan  # the last that was asked for: it hardly ever changes
        self._first_look = math.nan
        self._least_gap = math.nan

    def share(self, time: float) -> float:
        """Of all, the share that has ended by `time`."""
        return min(1.0, self._ended_by(time) / self._count)

    def quantile(self, share: float) -> float:
        """The time by which `share` of all has ended."""
        return self._time_of(share * self._count)

    def next_look(self, elapsed: float, q: float) -> float:
        """When the share `q` of those that still run at `elapsed` will have ended, within the allowed gaps."""
        if q != self._q:
            self._q, self._first_look = q, self.quantile(q)
            self._least_gap = max(MIN_GAP, SHORTEST * q * self.median)
        if elapsed < self._tail_start:
            least = min(MAX_GAP, self._least_gap)
            wanted = self._before_tail(elapsed, q)
        else:
            least = min(MAX_GAP, max(self._least_gap, OVERDUE * q * (elapsed - self._tail_start)))
            wanted = elapsed - math.log1p(-q) * self._tail_mean
        most = max(least, min(MAX_GAP, LONGEST * q * max(self.median, elapsed / 2)))
        latest = max(elapsed + most, self._first_look)  # no ceiling before the first ones can have ended
        return max(elapsed + least, min(wanted, latest))

    def _before_tail(self, elapsed: float, q: float) -> float:
        count = self._count
        left = (count - self._ended_by(elapsed)) * (1 - q)
        if left >= self._tail_left * count:
            return self._time_of(count - left)
        return self._tail_start + math.log(self._tail_left * count / left) * self._tail_mean

    def _mean_beyond(self, start: float) -> float:
        """How much longer those run on average that run at `start`: the area under their survival curve."""
        right = bisect_right(self._times, start)
        times = [start, *self._times[right:]]
        left = [self._count - ended for ended in (self._ended_by(start), *self._ended[right:])]
        area = sum(map(mul, map(sub, times[1:], times), map(add, left, left[1:]))) / 2
        return area / left[0] if left[0] > 0 and area > 0 else NARROWEST

    def _ended_by(self, time: float) -> float:
        right = bisect_right(self._times, time)
        return self._count if right == len(self._times) else _between(time, self._times, self._ended, right)

    def _time_of(self, ended: float) -> float:
        right = min(bisect_left(self._ended, ended, 1), len(self._ended) - 1)
        return _between(ended, self._ended, self._times, right)


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


def _between(value: float, xs: list[float], ys: list[float], right: int) -> float:
    """The y at `value`, which lies at or after the point before `right`."""
    x, y = xs[right - 1], ys[right - 1]
    rise = xs[right] - x
    if rise <= 0 or value >= xs[right]:
        return ys[right]
    return y + (ys[right] - y) * (value - x) / rise if value > x else y
