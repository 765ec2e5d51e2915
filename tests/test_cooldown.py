"""One pause for a burst of refusals, longer after each refused probe, and never before Retry-After."""

from __future__ import annotations

from nanobanana_async._cooldown import CoolDown


def longest(low: float, high: float) -> float:
    return high


def test_a_burst_begins_one_pause_and_may_lengthen_it() -> None:
    """Only to its own floor."""
    cool = CoolDown()
    for now, retry_after in ((0.0, None), (0.1, None), (0.2, 3.0), (0.3, 1.0)):
        cool.begin(retry_after, now, longest)
    assert (cool.until, cool.pauses) == (3.2, 1)


def test_caution_ends_with_an_acceptance_after_the_pause() -> None:
    """One that comes during it went out before the refusal."""
    cool, cautious = CoolDown(), []
    cool.begin(None, 10.0, longest)
    for now in (10.1, 10.5):
        cool.accepted(now)
        cautious.append(cool.cautious)
    assert cautious == [True, False]
