"""When to look next: a list of numbers."""

from __future__ import annotations

import math
from itertools import islice

import pytest

from nanobanana_async import ConfigurationError, PollPlan


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def test_the_vendors_advice_is_the_default() -> None:
    """First after 5 s, then every 3 s."""
    assert list(islice(PollPlan.of(None).delays(middle), 4)) == pytest.approx([5.0, 3.0, 3.0, 3.0])


def test_one_number_is_every_interval() -> None:
    """`poll=0.5` looks every half second, the first time as well."""
    assert list(islice(PollPlan.of(0.5).delays(middle), 3)) == pytest.approx([0.5, 0.5, 0.5])


def test_a_plan_is_taken_as_it_is() -> None:
    """`of` is for arguments that may be either."""
    plan = PollPlan(initial_delay=8.0, interval=1.0)
    assert PollPlan.of(plan) is plan


def test_every_delay_is_jittered_both_ways() -> None:
    """Jobs that started together don't look together."""
    plan = PollPlan(initial_delay=5.0, interval=3.0, jitter=0.1)
    assert list(islice(plan.delays(lambda low, high: low), 2)) == pytest.approx([4.5, 2.7])
    assert list(islice(plan.delays(lambda low, high: high), 2)) == pytest.approx([5.5, 3.3])


def test_the_first_look_may_come_at_once() -> None:
    """No delay before the first look is a plan; none between looks is not."""
    assert next(PollPlan(initial_delay=0.0).delays()) == 0.0


@pytest.mark.parametrize("interval", [0.0, -1.0, math.inf, math.nan])
def test_an_interval_that_hammers_or_never_ends_is_refused(interval: float) -> None:
    """An interval of nothing would ask the service as fast as it answers."""
    with pytest.raises(ConfigurationError, match="can't be followed"):
        PollPlan.of(interval)
