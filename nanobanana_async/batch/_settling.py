"""What became of submissions whose answers were lost, told from the account's balance. Pure.

The balance is a witness only while nothing else moves it. So nothing is submitted while it is asked, and `Account`
compares every balance that it is told with the one that its own spending explains: an account that somebody
else spends from, or pays into, tells nothing for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum


class Verdict(StrEnum):
    """What the balance says of the submissions in doubt."""

    NOT_TAKEN = "not taken"  # nothing is missing: send them again
    TAKEN = "taken"  # exactly their cost is missing: paid, their ids are lost
    UNKNOWN = "unknown"  # somebody else spends or pays in, or the costs aren't known


def settle(expected: int | None, actual: int, costs: Sequence[int | None]) -> Verdict:
    """Judge submissions of these costs by the balance that was expected without them, and the one that is."""
    if expected is None:
        return Verdict.UNKNOWN
    missing = expected - actual
    if missing == 0:
        return Verdict.NOT_TAKEN
    known = [cost for cost in costs if cost is not None]
    if len(known) == len(costs) and missing == sum(known):
        return Verdict.TAKEN
    return Verdict.UNKNOWN


class Account:
    """The balance as our own spending leaves it, None while it isn't known.

    For `shared_memory` seconds after somebody else moved it, it is no witness.
    """

    def __init__(
        self,
        balance: int | None = None,
        *,
        shared_memory: float = 900.0,
        shared_at: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.balance = balance
        self.shared_at = shared_at
        self.taken = 0  # submissions, so far
        self._not_taken: list[tuple[float, int]] = []  # when some were judged so, and their costs
        self._shared_memory = shared_memory
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Account [{self.balance} credits{', shared' if self.shared else ''}]>"

    @property
    def shared(self) -> bool:
        """Somebody else moved the balance a short while ago."""
        return self.shared_at is not None and self._clock() < self.shared_at + self._shared_memory

    def spent(self, credits: int | None, remaining: int | None) -> int:  # noqa: A002
        """One submission took `credits` and left `remaining`; None: not told, or not to be relied on.

        Returns how many credits are missing besides, or are there besides if negative: then somebody else has moved
        the balance as well.
        """
        self.taken += 1
        explained = None if self.balance is None or credits is None else self.balance - credits
        self.balance = explained if remaining is None else remaining
        if explained is None or remaining is None or explained == remaining:
            return 0
        self.shared_at = self._clock()
        return explained - remaining

    def not_taken(self, cost: int | None) -> None:
        """A submission of this cost was judged so, and is sent again."""
        if cost:
            self._not_taken.append((self._clock(), cost))

    def is_late(self, missing: int) -> bool:
        """Whether missing credits are what one submission cost, or all, that were judged as not taken of late."""
        recent = [known for known in self._not_taken if self._clock() < known[0] + self._shared_memory]
        matching = [known for known in recent if known[1] == missing][:1] or recent.copy()
        late = missing > 0 and sum(cost for _, cost in matching) == missing
        if late:
            for known in matching:
                recent.remove(known)
        self._not_taken = recent
        return late

    def judge(self, actual: int, costs: Sequence[int | None]) -> Verdict:
        """What became of submissions of these costs, if the balance is `actual` now."""
        return Verdict.UNKNOWN if self.shared else settle(self.balance, actual, costs)
