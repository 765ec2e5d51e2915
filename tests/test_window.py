"""The server's room, found from 503s: kept, tried again in jobs, and forgotten when it has become far more."""

from __future__ import annotations

import pytest

from nanobanana_async._window import MOST_BETWEEN, Window


@pytest.mark.parametrize(("taken", "bound"), [(0, 1), (1, 1), (15, 15), (16, 15), (24, 23), (100, 94)])
def test_what_was_taken_did_fit(taken: int, bound: int) -> None:
    """Less a sixteenth, which gives way to others."""
    window = Window()
    window.refused(taken, 0.0, same_burst=False)
    assert window.bound == bound


def test_a_burst_says_by_its_last_refusal_how_many_fit() -> None:
    """Those still under way counted as taken when the first came."""
    window = Window()
    for number, taken in enumerate((9, 8, 7)):
        window.refused(taken, 0.0, same_burst=number > 0)
    assert window.bound == 7


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.0])
def test_each_refused_increase_makes_the_next_one_rarer(seconds: float) -> None:
    """A server with room for 15, always full: 16 jobs and 16 s to the first increase, then 32, then 64."""
    window, now, gaps = Window(), 0.0, []
    window.refused(15, now, same_burst=False)
    for _ in range(5):
        jobs = 0
        while window.bound == 15:
            now += seconds
            window.accepted(15, now)
            jobs += 1
        gaps.append(jobs * min(1.0, seconds))
        window.refused(15, now, same_burst=False)
    assert gaps == pytest.approx([16, 32, MOST_BETWEEN, MOST_BETWEEN, MOST_BETWEEN], abs=0.11)


def test_a_window_that_is_not_full_does_not_grow() -> None:
    """That fewer fit is no news."""
    window = Window()
    window.refused(4, 0.0, same_burst=False)
    for _ in range(1000):
        window.accepted(3, 1e9)
    assert window.bound == 4


def test_far_more_than_was_refused_ends_the_bound() -> None:
    """The server has grown: how far is felt for anew. One or two more may be ends that were not seen."""
    window, bounds = Window(), []
    window.refused(8, 0.0, same_burst=False)
    for taken in (9, 10, 11, 12):
        window.accepted(taken, 0.0)
        bounds.append(window.bound)
    assert bounds == [8, 8, 8, None]
