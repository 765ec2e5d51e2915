"""The plan that learns: when to look at each job, from how long those before it took. Pure.

Jobs are told apart by a key, such as model, mode, number of reference images and quantity. Of a key that nothing is
known of, the vendor's advice is followed (5 s, then every 3 s), with three looks before it: so a model that takes half
a second is found out by its first job, and a slow one costs three looks more.
"""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from ._durations import MAX_GAP, MAX_OBSERVATIONS, MIN_GAP, Durations
from ._exceptions import ConfigurationError
from ._pace import Pace, Strain
from ._polling import Key, Plan, PollPlan
from ._retry import Uniform

DEFAULT_Q = 0.2
MOST_Q = 0.5  # beyond it nearly all end before their first look, and so nobody learns when
DEFAULT_MAX_POLLS = 200.0  # a second, for all jobs: what q = 0.2 makes of 500 slots with 12 s generations
MAX_KEYS = 64

ADVICE = PollPlan()
PROBES = (0.5, 1.0, 2.0)  # seconds after acceptance of a job of an unknown key
PATIENCE = 4  # unknown and long: the gap is at least this part of what it has taken so far
NEARLY_ALL = 0.95
GUESSED_LENGTH = ADVICE.initial_delay + 3 * ADVICE.interval  # of an unknown key that nobody can look at
GUESSED_MEAN = 10.0  # seconds, of an unknown key: only for the load it puts on the ceiling
LONGEST_BELIEVED = 1e7  # seconds, four months: what is said to take longer teaches nothing
LEAST_KNOWN = 4  # observations before they are believed


def plan_of(poll: Plan | float | None) -> Plan:
    """A plan as it is, one interval in seconds for all looks, or None for a plan that learns."""
    if poll is None:
        return LearnedPlan()
    return PollPlan.of(poll) if isinstance(poll, int | float) else poll


class LearnedPlan:
    """Conditional quantiles of learned durations, for at most `max_keys` keys: the longest unused one is forgotten.

    `q`, at most 0.5, is the share of those running that each look expects to have ended: 1/q looks a job.
    `max_polls_per_second` is a ceiling for all jobs together (None for none): near it `q` is raised, up to 0.5, and
    what still exceeds it is put off. A look that is refused raises `q` for a while as well. Every gap is jittered by
    ±`jitter`. Clients of one account may share a plan, and so its ceiling.

    Raises: ConfigurationError.
    """

    def __init__(
        self,
        *,
        q: float = DEFAULT_Q,
        max_polls_per_second: float | None = DEFAULT_MAX_POLLS,
        jitter: float = 0.05,
        max_keys: int = MAX_KEYS,
        uniform: Uniform = random.uniform,
    ) -> None:
        usable = 0 < q <= MOST_Q and 0 <= jitter < 1 and max_keys >= 1
        if not usable or (max_polls_per_second is not None and not max_polls_per_second > 0):
            raise ConfigurationError(
                f"LearnedPlan(q={q}, jitter={jitter}, max_keys={max_keys}, "
                f"max_polls_per_second={max_polls_per_second}) can't be followed; q goes up to {MOST_Q}, jitter up to 1"
            )
        self._least_q = q
        self._max_polls = max_polls_per_second
        self._pace = None if max_polls_per_second is None else Pace(max_polls_per_second)
        self._jitter = jitter
        self._max_keys = max_keys
        self._uniform = uniform
        self._kinds: OrderedDict[Key, _Kind] = OrderedDict()
        self._strain = Strain()

    def __repr__(self) -> str:
        running = sum(kind.running for kind in self._kinds.values())
        return f"<LearnedPlan [keys: {len(self._kinds)} | running: {running} | q: {self.q:.2g}]>"

    def begin(self, key: Key | None, now: float) -> LearnedLooks:
        """The looks at one job, accepted at `now`. No key: nobody knows when it was, so nothing is learned of it."""
        return LearnedLooks(self, _Kind() if key is None else self._kind(key), now)

    def likely_length(self, key: Key) -> float:
        """How long one of this key may run that nobody can look at: longer than nearly all."""
        kind = self._kinds.get(key)
        return kind.durations.estimate.quantile(NEARLY_ALL) if kind is not None and kind.known else GUESSED_LENGTH

    @property
    def q(self) -> float:
        """The share in force now: as many jobs as run, of their mean length, make load * 1/q looks a second."""
        least = min(MOST_Q, self._least_q * self._strain.factor)
        if self._max_polls is None:
            return least
        load = 0.0
        for kind in self._kinds.values():
            load += kind.running / kind.mean
        return max(least, min(MOST_Q, load / self._max_polls))

    @property
    def knows(self) -> bool:
        """Whether anything was learned."""
        return any(len(kind.durations) for kind in self._kinds.values())

    @property
    def mean_length(self) -> float | None:
        """Seconds that a generation took, on average over all that was seen; None while that was too little."""
        seen = [(len(kind.durations), kind.mean) for kind in self._kinds.values()]
        number = sum(count for count, _ in seen)
        return sum(count * mean for count, mean in seen) / number if number >= LEAST_KNOWN else None

    def dump(self) -> str:
        """What was learned, as JSON."""
        rows = [[key, [_rounded(seen) for seen in kind.durations]] for key, kind in self._kinds.items()]
        return json.dumps({"durations": rows}, separators=(",", ":"))

    def load(self, text: str) -> None:
        """Take over what another plan had learned, as older than what this one has seen; what is the same counts once.

        What can't be read is left out: it is only advice, and no reason to fail.
        """
        for key, observations in _read_rows(text):
            kind = self._kind(key)
            seen = {_rounded(observation) for observation in kind.durations}
            older = [observation for observation in observations if _rounded(observation) not in seen]
            if older:
                kind.load(older)

    def share(self, now: float) -> float:
        """`q` at this moment."""
        self._strain.ease(now)
        return self.q

    def refused(self, now: float) -> None:
        """The service refused a look: look less often for a while."""
        self._strain.add(now)

    def jittered(self, gap: float) -> float:
        """`gap`, so that jobs that began together are not looked at together."""
        return gap * self._uniform(1 - self._jitter, 1 + self._jitter)

    def paced(self, now: float, delay: float) -> float:
        """`delay` from `now`, or what the ceiling makes of it."""
        return delay if self._pace is None else self._pace.book(now, delay)

    def _kind(self, key: Key) -> _Kind:
        kind = self._kinds.setdefault(key, _Kind())
        self._kinds.move_to_end(key)
        if len(self._kinds) > self._max_keys:
            self._kinds.popitem(last=False)
        return kind


class LearnedLooks:
    """The looks at one job. Times are seconds since its acceptance; whoever looks tells of every answer.

    Answers are told by when they were asked for, so that a round trip is neither taken for a part of the generation
    nor added to the gap between two looks.
    """

    __slots__ = ("_asked", "_began", "_count", "_kind", "_low", "_open", "_plan")

    def __init__(self, plan: LearnedPlan, kind: _Kind, began: float) -> None:
        self._plan = plan
        self._kind = kind
        self._began = began
        self._low = 0.0
        self._asked: float | None = None  # for an answer that the next look is not planned from yet
        self._count = 0
        self._open = True
        kind.running += 1

    def at_once(self) -> float:
        """Seconds to wait for the first look, should it be wanted now: it counts for the ceiling too."""
        return self._plan.paced(self._began, 0.0)

    def next_delay(self, elapsed: float, *, least: float = 0.0) -> float:
        """Seconds to wait from now, `elapsed`, to the next look: `least` or more."""
        self._count += 1
        plan, now = self._plan, self._began + elapsed
        since, self._asked = elapsed if self._asked is None else self._asked, None
        if self._kind.known:
            gap = self._kind.durations.next_look(since, plan.share(now)) - since
        else:
            gap = _unknown_gap(self._count, since)
        return plan.paced(now, max(MIN_GAP, least, since + plan.jittered(gap) - elapsed))

    def processing(self, asked: float) -> None:
        """It still ran when it was asked for, at `asked`."""
        self._low = self._asked = max(self._low, asked)

    def ended(self, asked: float) -> None:
        """It had ended when it was asked for, at `asked`."""
        self.close()
        self._kind.add(self._low, asked)

    def refused(self, asked: float) -> None:
        """The service said, in answer to a look, that there are too many."""
        self._plan.refused(self._began + asked)

    def close(self) -> None:
        """No look follows. Idempotent."""
        self._kind.running -= self._open
        self._open = False


class _Kind:
    """One key's durations, and how many run now."""

    def __init__(self) -> None:
        self.durations = Durations()
        self.running = 0
        self.mean = GUESSED_MEAN
        self._known = False

    @property
    def known(self) -> bool:
        """Whether the durations can be planned with.

        Of many begun together the quickest end first, so the first few tell little: a quarter must have ended.
        """
        enough = LEAST_KNOWN if self._known else max(LEAST_KNOWN, min(self.running // 4, MAX_OBSERVATIONS))
        self._known = len(self.durations) >= enough
        return self._known

    def add(self, low: float, high: float) -> None:
        if 0 <= low <= high <= LONGEST_BELIEVED:
            self.durations.add(low, high, beside=self.running)
            self.mean = self.durations.estimate.mean

    def load(self, older: Iterable[tuple[float, float]]) -> None:
        self.durations = Durations((*older, *self.durations))
        self.mean = self.durations.estimate.mean


def _unknown_gap(count: int, elapsed: float) -> float:
    """Seconds before the look number `count` at a job of which nothing is known."""
    moments = (0.0, *PROBES, ADVICE.initial_delay)
    if count < len(moments):
        return moments[count] - moments[count - 1]
    return min(MAX_GAP, max(ADVICE.interval, elapsed / PATIENCE))


def _rounded(seen: tuple[float, float]) -> tuple[float, float]:
    """To the millisecond, as it is dumped."""
    return round(seen[0], 3), round(seen[1], 3)


def _read_rows(text: str) -> Iterator[tuple[Key, list[tuple[float, float]]]]:
    try:
        rows = json.loads(text)["durations"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for row in rows if isinstance(rows, list) else []:
        try:
            key, observations = row
            read = [_read_observation(seen) for seen in observations]
            yield tuple(part if isinstance(part, int) else str(part) for part in key), read
        except (ValueError, TypeError, OverflowError):
            continue


def _read_observation(seen: Any) -> tuple[float, float]:
    low, high = (float(time) for time in seen)
    if not 0 <= low <= high <= LONGEST_BELIEVED:
        raise ValueError(f"no interval: {seen}")
    return low, high
