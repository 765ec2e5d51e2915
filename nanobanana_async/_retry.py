"""How long to wait after an error. Policies yield numbers; who sleeps is somebody else's business."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TypeAlias

from ._exceptions import NanoBananaError

Uniform: TypeAlias = Callable[[float, float], float]

MAX_EXPONENT = 64  # beyond it every delay is the longest, and powers would overflow


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds told by a Retry-After header: a number, or an HTTP date. None when there is none to be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now or datetime.now(UTC))
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(value: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays in seconds, each shortened by up to `jitter` of itself."""

    initial_delay: float = 0.5
    factor: float = 2.0
    max_delay: float = 8.0
    jitter: float = 0.25

    def delays(self, uniform: Uniform = random.uniform) -> Iterator[float]:
        """An endless run of delays."""
        return (self.delay(attempt, uniform) for attempt in count())

    def delay(self, attempt: int, uniform: Uniform = random.uniform) -> float:
        """The one after so many others."""
        longest = self.initial_delay * self.factor ** min(attempt, MAX_EXPONENT)
        return min(longest, self.max_delay) * uniform(1 - self.jitter, 1)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again what is safe to try again: reads, downloads, and submissions that were never sent.

    `max_attempts` counts the first try. Retry-After is a floor for the delay; one above `max_retry_after` seconds
    ends the retries, because coming back earlier than asked is never right.
    """

    max_attempts: int = 5
    backoff: Backoff = field(default_factory=Backoff)
    max_retry_after: float = 120.0

    def delays(self, uniform: Uniform = random.uniform) -> Iterator[float]:
        """The delays between attempts: one fewer than there are attempts."""
        for _, delay in zip(range(self.max_attempts - 1), self.backoff.delays(uniform), strict=False):
            yield delay

    def next_delay(self, error: NanoBananaError, delays: Iterator[float]) -> float | None:
        """Seconds to wait before the next attempt, or None: raise."""
        if not error.retryable:
            return None
        if error.retry_after is not None and error.retry_after > self.max_retry_after:
            return None
        delay = next(delays, None)
        return None if delay is None else respect_floor(delay, error.retry_after)


def respect_floor(delay: float, retry_after: float | None) -> float:
    """`delay`, but not before `retry_after`; beyond the floor the delay's own jitter spreads the callers."""
    return delay if retry_after is None else max(delay, retry_after + delay * 0.1)
