"""Retry-After and backoff: delays are numbers, so they are read as lists."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobanana_async import APIStatusError, Backoff, RateLimitError, RetryPolicy, ServerError
from nanobanana_async._retry import parse_retry_after, respect_floor

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def highest(low: float, high: float) -> float:
    """A random source without chance."""
    return high


def lowest(low: float, high: float) -> float:
    return low


def take(count: int, backoff: Backoff) -> list[float]:
    return [delay for _, delay in zip(range(count), backoff.delays(highest), strict=False)]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 2.5 ", 2.5), ("1e2", 100.0), ("-3", 0.0), ("-0.0", 0.0)],
)
def test_seconds_are_read(header: str, seconds: float) -> None:
    """Whole, fractional, and never below nothing."""
    assert parse_retry_after(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        None, "", " ", "soon", "nan", "inf", "-inf", "1e999", "12 s", "1;2", "Mon", "0 0 0 0",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2030 00:00:00 +99999999999999",
    ],
)  # fmt: skip
def test_nonsense_counts_as_absent(header: str | None) -> None:
    """An odd header is no reason to fail, nor to wait for ever."""
    assert parse_retry_after(header, now=NOW) is None


@pytest.mark.parametrize(("ahead", "seconds"), [(90, 90.0), (0, 0.0), (-3600, 0.0)])
def test_a_date_is_read_as_seconds_from_now(ahead: int, seconds: float) -> None:
    """An HTTP date in the past means now."""
    date = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    assert parse_retry_after(date, now=NOW) == seconds


def test_a_date_in_another_zone_is_the_same_moment() -> None:
    """HTTP dates are GMT, but not every server knows it."""
    local = (NOW + timedelta(seconds=30)).astimezone(timezone(timedelta(hours=9)))
    assert parse_retry_after(format_datetime(local), now=NOW) == 30.0


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,9} [A-Z][a-z]{2} \d{1,12} \d+:\d+:\d+ (GMT|[+-]\d{1,9})"))
@settings(deadline=None, max_examples=80)
def test_no_header_raises_and_every_answer_is_finite(header: str) -> None:
    """Whatever a server sends becomes a delay of finite length, or none."""
    seconds = parse_retry_after(header, now=NOW)
    assert seconds is None or 0 <= seconds < math.inf


def test_backoff_doubles_up_to_its_maximum() -> None:
    """The endless run of delays, without jitter."""
    assert take(6, Backoff(initial_delay=0.5, max_delay=8.0)) == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_jitter_only_shortens() -> None:
    """The maximum is a promise; callers who failed together come back apart."""
    delays = Backoff(initial_delay=4.0, jitter=0.25).delays(lowest)
    assert [next(delays), next(delays)] == [3.0, 6.0]


@pytest.mark.parametrize(("attempts", "delays"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_there_is_one_delay_fewer_than_attempts(attempts: int, delays: int) -> None:
    """The first try counts."""
    assert len(list(RetryPolicy(max_attempts=attempts).delays())) == delays


def test_what_is_not_retryable_is_never_tried_again() -> None:
    """A refusal for good stays one; no delay is used up by it."""
    delays = RetryPolicy(max_attempts=2).delays(highest)
    assert RetryPolicy().next_delay(APIStatusError("no", status_code=400), delays) is None
    assert next(delays) == 0.5


def test_attempts_end() -> None:
    """After the last delay comes None: raise."""
    policy = RetryPolicy(max_attempts=3)
    delays, error = policy.delays(highest), ServerError("oops", status_code=500)
    assert [policy.next_delay(error, delays) for _ in range(3)] == [0.5, 1.0, None]


def test_retry_after_is_a_floor_with_jitter_above_it() -> None:
    """Coming back earlier than asked is never right, and coming back all at once neither."""
    policy = RetryPolicy()
    error = RateLimitError("busy", retry_after=10.0)
    assert policy.next_delay(error, policy.delays(highest)) == pytest.approx(10.05)


def test_a_retry_after_beyond_patience_ends_the_retries() -> None:
    """Neither earlier than asked, nor a wait of hours inside a call."""
    policy = RetryPolicy(max_retry_after=60.0)
    assert policy.next_delay(RateLimitError("busy", retry_after=61.0), policy.delays()) is None


@pytest.mark.parametrize(("delay", "floor", "waited"), [(4.0, None, 4.0), (4.0, 1.0, 4.0), (4.0, 4.0, 4.4)])
def test_the_longer_of_delay_and_floor_is_waited(delay: float, floor: float | None, waited: float) -> None:
    """Our own backoff is not shortened by a server in a hurry."""
    assert respect_floor(delay, floor) == pytest.approx(waited)
