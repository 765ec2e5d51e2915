"""How far a job is, from how long the last ones took. Pure.

The service tells progress in stream mode only. In async mode it is estimated: it rises all the time, slower and
slower, and reaches 100 only with the images.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

FIRST_GUESS = 12.0  # seconds: the median of the service's generations
REMEMBERED = 64
_AT_MEDIAN = 0.8  # what is shown when half of all generations have ended


class Lengths:
    """The lengths of the last generations, in seconds."""

    def __init__(self) -> None:
        self._lengths: deque[float] = deque(maxlen=REMEMBERED)
        self._median = FIRST_GUESS

    @property
    def median(self) -> float:
        """What a generation is expected to take."""
        return self._median

    def add(self, seconds: float) -> None:
        """One more has ended."""
        self._lengths.append(max(0.0, seconds))
        self._median = median(self._lengths)

    def progress(self, elapsed: float) -> float:
        """Percent, after so many seconds of running."""
        rate = -math.log(1 - _AT_MEDIAN) / max(self._median, 0.001)
        return min(99.0, 100 * (1 - math.exp(-rate * max(0.0, elapsed))))

    def wait(self, ahead: int, slots: int | None) -> float:
        """Seconds until a job with so many ahead of it begins."""
        return self._median * (ahead + 1) / max(1, slots or 1)
