"""One pause for everybody after a refusal, then one probe. Pure: time is an argument."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ._retry import Backoff, Uniform, respect_floor

PAUSES = Backoff(initial_delay=0.5, max_delay=30.0, jitter=0.5)
MAX_RETRY_AFTER = 600.0  # seconds; a longer one is taken for a mistake, because to ask too early costs nothing


@dataclass(slots=True)
class CoolDown:
    """Nothing goes out before `until`. `cautious` from a refusal to the next acceptance: one goes out at a time.

    Each refusal of such a probe pauses for longer (Retry-After is the floor). Refusals that arrive during a pause
    belong to the burst that began it: they may only lengthen it to their own floor.
    """

    until: float = 0.0
    pauses: int = 0  # since the last acceptance

    @property
    def cautious(self) -> bool:
        """Whether the next submission is a probe."""
        return self.pauses > 0

    def begin(self, retry_after: float | None, now: float, uniform: Uniform = random.uniform) -> None:
        """A refusal, or a lost answer: a service that loses one may lose them all, each paid."""
        floor = None if retry_after is None else min(retry_after, MAX_RETRY_AFTER)
        if self.cautious and now < self.until:
            self.until = max(self.until, now + (floor or 0.0))
            return
        self.until = now + respect_floor(PAUSES.delay(self.pauses, uniform), floor)
        self.pauses += 1

    def accepted(self, now: float) -> None:
        """A submission was taken. One that went out before the refusal says nothing new."""
        if now >= self.until:
            self.pauses = 0
