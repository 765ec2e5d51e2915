"""What became of submissions whose answers were lost, told from the account's balance. Pure.

The balance is a witness only while nothing else moves it, so the batch keeps one submission unanswered at a time and
asks before it sends the next.
"""

from __future__ import annotations

from collections.abc import Sequence
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
