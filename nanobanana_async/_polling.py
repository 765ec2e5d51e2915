"""When to look at a running generation next. Pure: delays are data."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeAlias

from ._exceptions import ConfigurationError
from ._retry import Uniform

Key: TypeAlias = tuple[str | int, ...]  # what tells kinds of generations apart: model, mode, references, quantity


class Looks(Protocol):
    """When to look at one job. All times are seconds since its acceptance; answers are told by when they were asked.

    `at_once` is the delay of a look that is wanted now, `next_delay` that of any other, of `least` seconds or more.
    `refused`: the service said, in answer to a look, that there are too many.
    """

    def at_once(self) -> float: ...
    def next_delay(self, elapsed: float, *, least: float = 0.0) -> float: ...
    def processing(self, asked: float) -> None: ...
    def ended(self, asked: float) -> None: ...
    def refused(self, asked: float) -> None: ...
    def close(self) -> None: ...


class Plan(Protocol):
    """When to look at jobs. `begin` is for one accepted at `now`, or, without a key, at an unknown time.

    `likely_length` is how long one may run that nobody can look at.
    """

    def begin(self, key: Key | None, now: float) -> Looks: ...
    def likely_length(self, key: Key) -> float: ...


@dataclass(frozen=True, slots=True)
class PollPlan:
    """The vendor's advice: look after `initial_delay` seconds, then every `interval`, each jittered by ±`jitter`.

    Jitter keeps the looks of many jobs that started together from arriving together.

    Raises: ConfigurationError for delays that are no plan: an interval of nothing would hammer the service.
    """

    initial_delay: float = 5.0
    interval: float = 3.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        usable = 0 <= self.initial_delay < math.inf and 0 < self.interval < math.inf and 0 <= self.jitter < 1
        if not usable:
            raise ConfigurationError(f"{self} can't be followed; give seconds, such as PollPlan(interval=3)")

    @classmethod
    def of(cls, poll: PollPlan | float | None) -> PollPlan:
        """A plan as it is, one interval in seconds for all looks, or None for the vendor's advice."""
        if poll is None:
            return cls()
        return poll if isinstance(poll, PollPlan) else cls(initial_delay=poll, interval=poll)

    def begin(self, key: Key | None, now: float) -> Looks:
        """The same looks for every job."""
        return _FixedLooks(self.delays())

    def likely_length(self, key: Key) -> float:
        """Past the third look."""
        return sum(islice(self.delays(lambda low, high: 1.0), 4))

    def delays(self, uniform: Uniform = random.uniform) -> Iterator[float]:
        """An endless run of seconds to wait before each look."""
        yield self.initial_delay * uniform(1 - self.jitter, 1 + self.jitter)
        while True:
            yield self.interval * uniform(1 - self.jitter, 1 + self.jitter)


class _FixedLooks:
    """Looks that no answer changes."""

    def __init__(self, delays: Iterator[float]) -> None:
        self._delays = delays

    def at_once(self) -> float:
        return 0.0

    def next_delay(self, elapsed: float, *, least: float = 0.0) -> float:
        return max(least, next(self._delays))

    def processing(self, asked: float) -> None:
        """Nothing to learn."""

    def ended(self, asked: float) -> None:
        """Nothing to learn."""

    def refused(self, asked: float) -> None:
        """Looked at as told; whoever looks backs off."""

    def close(self) -> None:
        """Nothing to give back."""
