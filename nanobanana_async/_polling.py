"""When to look at a running generation next. Pure: delays are data."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from ._exceptions import ConfigurationError
from ._retry import Uniform


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

    def delays(self, uniform: Uniform = random.uniform) -> Iterator[float]:
        """An endless run of seconds to wait before each look."""
        yield self.initial_delay * uniform(1 - self.jitter, 1 + self.jitter)
        while True:
            yield self.interval * uniform(1 - self.jitter, 1 + self.jitter)
