"""Learned polling: durations that are only known as intervals, and the looks that follow from them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobanana_async import ConfigurationError
from nanobanana_async._durations import LONGEST, MAX_GAP, MIN_GAP, SHORTEST, Durations
from nanobanana_async._learned import DEFAULT_Q, GUESSED_LENGTH, LEAST_KNOWN, LearnedPlan
from nanobanana_async._pace import Pace

KEY = ("nano-banana", "async", 0)
Length = Callable[[random.Random], float]
intervals = st.lists(
    st.tuples(st.floats(0, 1000), st.floats(0, 1000)).map(lambda pair: (min(pair), max(pair))), min_size=1, max_size=80
)
shares = st.floats(0.01, 0.5)


def usual(source: random.Random) -> float:
    return source.lognormvariate(math.log(12), 0.35)


def mixed(source: random.Random) -> float:
    return source.lognormvariate(*((math.log(9), 0.25) if source.random() < 0.7 else (math.log(32), 0.30)))


def plan(**options) -> LearnedPlan:
    """One without jitter and ceiling, unless asked for."""
    options = {"jitter": 0.0, "max_polls_per_second": None, **options}
    return LearnedPlan(uniform=random.Random(0).uniform, **options)


def looks_at(learned: LearnedPlan, length: float, key=KEY, *, now: float = 0.0) -> list[float]:
    """When a job of that length is looked at, up to its end."""
    looks, times, elapsed = learned.begin(key, now), [], 0.0
    while True:
        elapsed += looks.next_delay(elapsed)
        times.append(elapsed)
        if elapsed >= length:
            looks.ended(elapsed)
            return times
        looks.processing(elapsed)


def measure(learned: LearnedPlan, length: Length, jobs: int, *, seed: int = 1, skip: int = 0) -> tuple[float, float]:
    """The share of an oracle's throughput, and looks a job."""
    source, ran, late, looked = random.Random(seed), 0.0, 0.0, 0
    for number in range(jobs):
        end = length(source)
        times = looks_at(learned, end)
        if number >= skip:
            ran, late, looked = ran + end, late + times[-1] - end, looked + len(times)
    return ran / (ran + late), looked / (jobs - skip)


# ---- the figures


@pytest.mark.parametrize(
    ("length", "q", "least", "most"),
    [(usual, 0.2, 0.94, 5.2), (usual, 0.1, 0.968, 10.2), (mixed, 0.2, 0.94, 6.0)],
    ids=["lognormal", "lognormal, q = 0.1", "bimodal"],
)
def test_it_comes_near_an_oracle_at_few_looks(length, q, least, most):
    """The figures promised for these distributions, cold start included."""
    share, looked = measure(plan(q=q, jitter=0.05), length, 6_000)
    assert share >= least
    assert looked <= most


def test_detection_times_are_not_taken_for_durations():
    """Feeding `high` back lets the looks drift later: honest intervals wait a third less for what they find."""
    naive, source, late, ran = Durations([(11.9, 12.0)]), random.Random(1), 0.0, 0.0
    for _ in range(1500):
        end, elapsed = usual(source), 0.0
        while elapsed < end:
            elapsed = naive.next_look(elapsed, DEFAULT_Q)
        naive.add(elapsed, elapsed)
        late, ran = late + elapsed - end, ran + end
    share, _ = measure(plan(), usual, 1500)
    assert (1 - share) / share < 0.67 * late / ran


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_drift_is_followed_within_thirty_jobs(factor):
    """Durations that halve or double: back above 90 % of the oracle, whatever the hundreds before said."""
    ran = late = 0.0
    for seed in range(12):
        learned, source = plan(), random.Random(seed)
        for _ in range(200):
            looks_at(learned, usual(source))
        for number in range(50):
            end = usual(source) * factor
            found = looks_at(learned, end)[-1]
            if number >= 30:
                ran, late = ran + end, late + found - end
    assert ran / (ran + late) >= 0.9


@pytest.mark.parametrize("factor", [0.025, 25.0])
def test_the_gaps_grow_and_shrink_with_the_model(factor):
    """A model of 0.3 s and one of 5 minutes are looked at about as often as one of 12 s, not every 3 s."""
    share, looked = measure(plan(), lambda source: usual(source) * factor, 1500, skip=100)
    assert share > 0.9
    assert 3 < looked < 6.5


# ---- the cold start


def test_an_unknown_key_follows_the_vendors_advice_after_a_few_early_looks():
    """5 s, then every 3 s; what takes long is looked at less often."""
    times = looks_at(plan(), 100.0)
    assert times[:8] == pytest.approx([0.5, 1.0, 2.0, 5.0, 8.0, 11.0, 14.0, 17.5])
    assert len(times) < 20


def test_a_fast_model_is_found_by_its_first_jobs():
    """Half a second late at first, hardly at all after the fourth."""
    learned = plan()
    found = [looks_at(learned, 0.3)[-1] for _ in range(LEAST_KNOWN + 20)]
    assert found[0] == 0.5
    assert max(found[-5:]) < 0.4


def test_the_quickest_of_many_are_not_believed_alone():
    """Of 100 begun together four ended after 6 s: the others are not hammered for it."""
    learned = plan()
    for _ in range(100):
        learned.begin(KEY, 0.0)
    for _ in range(LEAST_KNOWN):
        looks_at(learned, 6.0)
    assert learned.begin(KEY, 0.0).next_delay(0.0) == 0.5


def test_what_has_no_key_teaches_nothing():
    """A generation that is picked up by its id began nobody knows when."""
    learned = plan()
    looks_at(learned, 3.0, None)
    assert json.loads(learned.dump()) == {"durations": []}


def test_a_round_trip_is_not_taken_for_a_part_of_the_generation():
    """Gaps are from request to request: an answer that took 0.2 s does not push the next look back."""
    learned = plan()
    measure(learned, usual, 100)
    looks = learned.begin(KEY, 0.0)
    first = looks.next_delay(0.0)
    looks.processing(first)
    late = first + 0.2 + looks.next_delay(first + 0.2)
    again = learned.begin(KEY, 0.0)
    again.next_delay(0.0)
    again.processing(first)
    assert late == pytest.approx(first + again.next_delay(first))


# ---- what always holds


@given(intervals, shares)
@settings(max_examples=50)
def test_looks_move_on_within_the_clamps(observations, q):
    """Each look is later than the one before, by no less and no more than the clamps allow."""
    durations = Durations(observations)
    estimate, elapsed = durations.estimate, 0.0
    for _ in range(60):
        gap = durations.next_look(elapsed, q) - elapsed
        assert gap >= min(MAX_GAP, max(MIN_GAP, SHORTEST * q * estimate.median)) * (1 - 1e-9)
        if elapsed >= estimate.quantile(q):
            assert gap <= MAX_GAP * (1 + 1e-9)
        if q * estimate.median > 1 and elapsed <= estimate.median:
            first = max(0.0, estimate.quantile(q) - elapsed)
            assert gap <= max(first, LONGEST * q * max(estimate.median, elapsed)) * (1 + 1e-9)
        elapsed += gap


@given(intervals)
@settings(max_examples=50)
def test_shares_and_quantiles_are_each_others_inverse(observations):
    """The estimate is a distribution: from 0 to 1, never falling."""
    estimate = Durations(observations).estimate
    times = [estimate.quantile(step / 20) for step in range(21)]
    assert all(early <= late for early, late in pairwise(times))
    assert all(estimate.share(early) <= estimate.share(late) + 1e-12 for early, late in pairwise(times))
    assert estimate.share(times[10]) == pytest.approx(0.5, abs=1e-6)
    assert estimate.share(2001) == 1.0
    assert 0 <= estimate.mean <= 1000.001


@given(intervals, st.integers(1, 30))
@settings(max_examples=30)
def test_memory_is_bounded(observations, most):
    """Only the newest are kept."""
    durations = Durations(max_observations=most)
    for low, high in observations:
        durations.add(low, high)
    assert 1 <= len(durations) <= most


def test_the_longest_unused_key_is_forgotten():
    """Keys come from requests, so their number has a bound as well."""
    learned = plan(max_keys=2)
    for model in ("a", "b", "a", "c"):
        looks_at(learned, 5.0, (model,))
    assert [key for key, _ in json.loads(learned.dump())["durations"]] == [["a"], ["c"]]


@given(st.dictionaries(st.tuples(st.text(max_size=5), st.integers(0, 9)), intervals, max_size=4))
@settings(max_examples=20)
def test_what_was_learned_survives_a_dump(learned):
    """A resumed batch starts warm: the same keys, the same intervals to the millisecond, the same looks."""
    before, after = plan(), plan()
    before.load(json.dumps({"durations": [[key, seen] for key, seen in learned.items()]}))
    after.load(before.dump())
    assert after.dump() == before.dump()
    assert [tuple(key) for key, _ in json.loads(after.dump())["durations"]] == list(learned)
    for _, seen in json.loads(before.dump())["durations"]:
        assert Durations(seen).estimate.median >= 0


def test_a_warm_plan_looks_as_the_one_that_learned():
    """No early looks, no advice: the first look is where the earlier run would have made it."""
    before, after = plan(), plan()
    measure(before, usual, 300)
    after.load(before.dump())
    assert after.begin(KEY, 0.0).next_delay(0.0) == pytest.approx(before.begin(KEY, 0.0).next_delay(0.0), rel=0.1)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"durations": 3}', '{"durations": [[["m"], [[3, 1]]], 7, [["m"], [[0, 1e999]]]]}', "[" * 9999],
)
def test_what_cannot_be_read_is_left_out(text):
    """Timings are advice: a batch with odd ones resumes all the same."""
    learned = plan()
    learned.load(text)
    assert json.loads(learned.dump()) == {"durations": []}


def test_loaded_observations_are_older_than_ours():
    """What this run has seen is nearer to the truth."""
    learned = plan()
    looks_at(learned, 2.0)
    learned.load('{"durations": [[["nano-banana", "async", 0], [[7, 8]]]]}')
    assert json.loads(learned.dump())["durations"][0][1] == [[7.0, 8.0], [1.0, 2.0]]


def test_the_likely_length_is_longer_than_nearly_all():
    """For slots that nobody watches; the vendor's third look while nothing is known."""
    learned = plan()
    assert learned.likely_length(KEY) == GUESSED_LENGTH == 14.0
    measure(learned, usual, 300)
    assert 18 < learned.likely_length(KEY) < 27


def test_what_is_loaded_again_counts_once():
    """A client that runs one batch after the other gets back what it has dumped itself."""
    learned = plan()
    measure(learned, usual, 50)
    before = learned.dump()
    learned.load(before)
    learned.load(before)
    assert learned.dump() == before
    assert learned.knows
    assert not plan().knows


def test_an_unkeyed_wait_teaches_nothing():
    """Nobody knows when such a generation began."""
    learned = plan()
    looks = learned.begin(None, 50.0)
    looks.processing(1.0)
    looks.ended(2.0)
    assert not learned.knows
    assert json.loads(learned.dump()) == {"durations": []}


# ---- the ceiling


def test_many_jobs_raise_q_near_the_ceiling():
    """100 jobs of 12 s under 20 looks a second: each may have 2.4 looks."""
    learned = plan(max_polls_per_second=20.0)
    for number in range(60):
        looks_at(learned, 11.0 + number % 3, now=1000.0 * number)
    assert learned.q == DEFAULT_Q
    running = [learned.begin(KEY, 1e6) for _ in range(100)]
    assert learned.q == pytest.approx(100 / 20 / 12, rel=0.1)
    running += [learned.begin(KEY, 1e6) for _ in range(400)]
    assert learned.q == 0.5
    for looks in running:
        looks.close()
        looks.close()
    assert learned.q == DEFAULT_Q


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.sampled_from([0.5, 3.0, 25.0]))
def test_no_second_has_more_looks_than_the_ceiling(delays, ceiling):
    """A look may be put off, never brought forward, and a second's worth of looks fits into every second."""
    pace = Pace(ceiling)
    booked = sorted(pace.book(100.0, delay) for delay in delays)
    assert all(late >= early - 1e-9 for early, late in zip(sorted(delays), booked, strict=True))
    for start in booked:
        assert sum(start <= at < start + 1 for at in booked) <= ceiling + max(2, 0.2 * ceiling)


def test_bookings_that_have_passed_are_forgotten():
    """A week of looks does not add up."""
    pace = Pace(10.0)
    for second in range(5000):
        pace.book(float(second), 0.5)
    assert len(pace) <= 1100


def test_looks_that_are_wanted_at_once_keep_to_the_ceiling():
    """Hundreds of ids to wait for, as a resumed batch has them, are not looked at in one moment."""
    learned = plan(max_polls_per_second=20.0)
    delays = sorted(learned.begin(None, 100.0).at_once() for _ in range(200))
    assert delays[0] == 0.0
    assert delays[-1] == pytest.approx(10.0, abs=0.5)
    assert all(sum(start <= at < start + 1 for at in delays) <= 24 for start in delays)


def test_a_look_after_an_error_is_booked_for_when_it_is_made():
    """The ceiling counts looks where they are, not where they would have been."""
    learned = plan(max_polls_per_second=1.0)
    looks = learned.begin(KEY, 0.0)
    assert looks.next_delay(0.0, least=30.0) == 30.0
    assert learned.begin(KEY, 0.0).next_delay(0.0, least=30.2) > 30.9


# ---- refusals


def test_a_refused_look_makes_looks_rarer_for_a_while():
    """Half as rare again, whatever was refused in the same moment; after a minute nearly all of that is over."""
    learned = plan()
    looks = [learned.begin(KEY, 100.0) for _ in range(50)]
    for look in looks:
        look.refused(5.0)
    assert learned.q == pytest.approx(1.5 * DEFAULT_Q)
    looks[0].refused(8.0)
    assert 2 * DEFAULT_Q < learned.q < 2.25 * DEFAULT_Q
    for seconds in range(10, 30, 2):
        looks[0].refused(seconds)
    assert learned.q == 0.5
    assert learned.share(100.0 + 28.0 + 240.0) == pytest.approx(DEFAULT_Q, rel=0.01)


def test_refusals_change_the_next_gap():
    """What is known of the durations stays."""
    learned = plan(jitter=0.0)
    measure(learned, usual, 200)
    calm = learned.begin(KEY, 1e6).next_delay(0.0)
    learned.refused(1e6)
    assert learned.begin(KEY, 1e6).next_delay(0.0) > 1.02 * calm
    assert learned.begin(KEY, 2e6).next_delay(0.0) == pytest.approx(calm, rel=1e-3)


@pytest.mark.parametrize("options", [{"q": 0.0}, {"q": 0.9}, {"jitter": 1.0}, {"max_polls_per_second": 0.0}])
def test_a_plan_that_cannot_be_followed_is_refused(options):
    """A share above one half would end nearly all before their first look, and nobody would learn when."""
    with pytest.raises(ConfigurationError, match="can't be followed"):
        LearnedPlan(**options)
