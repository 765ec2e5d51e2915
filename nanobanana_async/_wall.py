"""Whether an HTML page stands in front of one request or of all: pure.

A firewall that dislikes the User-Agent or the address lets nobody in. One that dislikes a prompt, or has a bad minute,
let others in before: then the request alone has failed, until `MOST_IN_A_ROW` met it with none let in between.
"""

from __future__ import annotations

MOST_IN_A_ROW = 5


class Wall:
    """Told of every submission that got in, and of every one that gave up before it. `has_a_door`: some got in."""

    def __init__(self) -> None:
        self.has_a_door = False
        self._in_a_row = 0

    def passed(self) -> None:
        """One got in."""
        self.has_a_door = True
        self._in_a_row = 0

    def met(self) -> bool:
        """One did not; whether that is to be expected of all."""
        self._in_a_row += 1
        return not self.has_a_door or self._in_a_row >= MOST_IN_A_ROW
