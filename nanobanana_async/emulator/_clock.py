"""The emulator's wall clock, which tests can move: creation dates and link lives follow it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Wall time plus an offset. Generations run on the loop's own clock and are not hurried by it."""

    def __init__(self) -> None:
        self._offset = 0.0

    def now(self) -> float:
        """Seconds since the epoch, as this emulator sees them."""
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock forward (or back, when negative)."""
        self._offset += seconds

    def __repr__(self) -> str:
        return f"<Clock [{isoformat(self.now())}, moved by {self._offset:g} s]>"


def isoformat(moment: float) -> str:
    """The API's way to write a moment: `2025-11-22T09:30:00.000Z`."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
