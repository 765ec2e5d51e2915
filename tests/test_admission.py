"""How many may run: the state machine against a model of the server, and whole runs as lists of numbers."""

from __future__ import annotations

import heapq
import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nanobanana_async import RateLimit
from nanobanana_async._admission import Admission
from nanobanana_async._cooldown import MAX_RETRY_AFTER
from nanobanana_async._known import MOST_TRIED
from nanobanana_async._questions import MAX_HOLD_OFF, OTHERS_HOLD_OFF, SCOPE_HOLD_OFF
from nanobanana_async._scope import Scope

Announce: TypeAlias = Literal["always", "refusals", "never"]
NOTHING = RateLimit()


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def new_admission(max_concurrency: int | None = None) -> Admission:
    return Admission(max_concurrency=max_concurrency, uniform=middle)


def run_some(admission: Admission, count: int, now: float = 0.0, told: RateLimit = NOTHING) -> None:
    """`count` submissions, one after another, all accepted."""
    for _ in range(count):
        assert admission.admit(now)
        admission.accepted(told, now)


def refuse_one(admission: Admission, now: float = 0.0, told: RateLimit = NOTHING) -> None:
    assert admission.admit(now)
    admission.refused(told, now)


# ---- the ramp -----------------------------------------------------------------------------------------------


def test_it_starts_with_one_and_each_acceptance_permits_one_more() -> None:
    """With nothing announced one POST at a time finds out how many may run."""
    admission = new_admission()
    for running in range(5):
        assert admission.available(0.0) == 1
        assert admission.admit(0.0)
        assert admission.available(0.0) == 0
        admission.accepted(NOTHING, 0.0)
        assert admission.statistics(0.0).running == running + 1
    assert admission.statistics(0.0).limit is None


def test_an_announced_limit_fills_at_once() -> None:
    """The first answer's header ends the ramp."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=8, active=1))
    assert admission.available(0.0) == 7


@pytest.mark.parametrize("told", [NOTHING, RateLimit(limit=9, active=1)])
def test_the_users_own_ceiling_holds(told: RateLimit) -> None:
    """Whatever the server would take."""
    admission = new_admission(max_concurrency=3)
    run_some(admission, 3, told=told)
    assert not admission.admit(1e9)


def test_a_smaller_limit_evicts_nobody() -> None:
    """What runs runs on; the next one waits until there is room under the new limit."""
    admission = new_admission()
    run_some(admission, 5, told=RateLimit(limit=5))
    admission.observed(RateLimit(limit=3), 0.0)
    room = []
    for _ in range(3):
        admission.finished()
        room.append(admission.available(0.0))
    assert room == [0, 0, 1]


# ---- refusals -----------------------------------------------------------------------------------------------


def test_after_a_refusal_one_cool_down_one_probe_then_all() -> None:
    """The burst that follows a free moment must not meet the same wall at once."""
    admission = new_admission()
    run_some(admission, 4, told=RateLimit(limit=5))
    refuse_one(admission, told=RateLimit(limit=5, active=4, retry_after=2.0))
    assert admission.available(2.0) == 0
    admission.finished()
    assert admission.available(2.1) == 1
    assert admission.admit(2.1)
    assert admission.available(2.1) == 0
    admission.accepted(NOTHING, 2.1)
    assert admission.available(2.1) == 1


def test_an_older_submissions_acceptance_is_no_probe() -> None:
    """It went out before the refusal, so it does not end the caution."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=9))
    for _ in range(8):
        assert admission.admit(0.0)
    admission.refused(NOTHING, 0.0)
    for _ in range(7):
        admission.accepted(NOTHING, 0.01)
    for _ in range(3):
        admission.finished()
    assert [admission.available(0.02), admission.available(1.0)] == [0, 1]


def test_one_burst_of_refusals_is_one_cool_down() -> None:
    """Ten refusals of one moment don't add up to the backoff of ten tries."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=11))
    for _ in range(10):
        assert admission.admit(0.0)
    for _ in range(10):
        admission.refused(NOTHING, 0.0)
    assert admission.statistics(0.0).cool_down == pytest.approx(0.375)


def test_refused_probes_cool_down_longer_each_time() -> None:
    """0.5 s doubling to 30 s, less jitter."""
    admission, now, waits = new_admission(), 0.0, []
    for _ in range(9):
        refuse_one(admission, now)
        waits.append(admission.statistics(now).cool_down)
        now += waits[-1]
    assert waits == pytest.approx([0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5, 22.5], abs=1e-6)


def test_retry_after_is_the_cool_downs_floor_within_reason() -> None:
    """A date in the next century is a mistake, and to ask too early costs nothing."""
    for told, least, most in ((10.0, 10.0, 11.0), (1e9, MAX_RETRY_AFTER, MAX_RETRY_AFTER + 5)):
        admission = new_admission()
        refuse_one(admission, told=RateLimit(retry_after=told))
        assert least <= admission.statistics(0.0).cool_down <= most


@pytest.mark.parametrize("order", ["refusals first", "acceptances first", "mixed"])
def test_a_burst_finds_the_limit_in_whatever_order_its_answers_come(order: str) -> None:
    """Ten POSTs at once against five slots leave a window of five."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=10))
    admission.finished()
    for _ in range(10):
        assert admission.admit(0.0)
    answers = {"refusals first": "rrrrraaaaa", "acceptances first": "aaaaarrrrr", "mixed": "ra" * 5}[order]
    for answer in answers:
        admission.refused(NOTHING, 0.0) if answer == "r" else admission.accepted(NOTHING, 0.0)
    assert admission.statistics(0.0).limit == 5


def test_a_refusal_that_tells_its_numbers_does_not_count_our_own_as_others() -> None:
    """Those of ours that are still under way are among the active ones."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=6))
    for _ in range(5):
        assert admission.admit(0.0)
    admission.refused(RateLimit(limit=5, active=5), 0.0)
    for _ in range(4):
        admission.accepted(NOTHING, 0.0)
    assert (admission.statistics(0.0).limit, admission.statistics(0.0).others) == (5, 0)


# ---- asking again -------------------------------------------------------------------------------------------


def full_after_refusal(limit: int = 3) -> Admission:
    """`limit` run, and one more was refused at time 0."""
    admission = new_admission()
    run_some(admission, limit)
    refuse_one(admission)
    return admission


def refused_questions(admission: Admission, told: RateLimit, count: int, *, alone: bool = True) -> list[float]:
    """The seconds before each of `count` questions that are all refused."""
    now, gaps = 0.0, []
    for _ in range(count):
        asked_before = now
        while not admission.admit(now):
            now = admission.next_change(now) or math.inf
        gaps.append(now - asked_before)
        admission.refused(told, now, alone=alone)
    return gaps


def test_a_limit_that_was_found_is_asked_beyond_twice_an_hour() -> None:
    """And once soon after it was found."""
    assert refused_questions(full_after_refusal(), NOTHING, 3) == pytest.approx([30.0, MAX_HOLD_OFF, MAX_HOLD_OFF])


def test_slots_that_others_hold_are_asked_for_ever_more_rarely() -> None:
    """They come and go; the hold-off doubles with each no."""
    admission, told = new_admission(), RateLimit(limit=5, active=5)
    run_some(admission, 3)
    refuse_one(admission, told=told)
    gaps = [30.0, 60.0, 120.0, OTHERS_HOLD_OFF, OTHERS_HOLD_OFF]
    assert refused_questions(admission, told, 5) == pytest.approx(gaps)


@pytest.mark.parametrize(("limit", "first"), [(1, 1.0), (3, 60.0)])
def test_a_limit_that_was_told_is_asked_beyond_once_to_learn_the_scope(limit: int, first: float) -> None:
    """Refused alone, it is generation scope; from then on a raised limit is asked for twice an hour."""
    admission, told = new_admission(), RateLimit(limit=limit)
    run_some(admission, limit, told=told)
    assert not admission.admit(1e6)
    admission.looked(NOTHING, 0.0, running=True, seen_at=admission.acceptances)
    assert refused_questions(admission, told, 3) == [first, MAX_HOLD_OFF, MAX_HOLD_OFF]
    assert admission.statistics(0.0).scope == "generation"


def test_a_scope_that_the_looks_told_is_not_asked_for() -> None:
    """Ten active on a lone look: a slot is a generation, and the limit is asked beyond as rarely as any."""
    admission, told = new_admission(), RateLimit(limit=10, active=10)
    run_some(admission, 10, told=RateLimit(limit=10))
    for now in (1.0, 2.0):
        admission.looked(told, now, running=True, seen_at=admission.acceptances)
    assert admission.statistics(2.0).scope == "generation"
    assert admission.next_change(3.0) == 2.0 + MAX_HOLD_OFF


def test_a_scope_that_looks_make_likely_is_asked_for_at_once_but_no_more_often() -> None:
    """Four looks count one active where two run: it is asked now; a no that tells nothing waits longer all the same."""
    admission, told = new_admission(), RateLimit(limit=2, active=1)
    run_some(admission, 2, told=told)
    for now, seen_at in ((1.0, 1), (2.0, 2), (3.0, 2), (4.0, 2)):
        assert admission.available(now) == 0
        admission.looked(told, now, running=True, seen_at=seen_at)
    assert admission.available(4.0) == 1
    assert refused_questions(admission, RateLimit(limit=2), 2, alone=False) == [4.0, 4 * SCOPE_HOLD_OFF]


@pytest.mark.parametrize("ended", [0, 1])
def test_what_may_have_ended_makes_no_scope_likely(ended: int) -> None:
    """The count is lower than what runs; but the rest was not seen running lately, or is known to have ended."""
    admission, told = new_admission(), RateLimit(limit=2, active=1)
    run_some(admission, 2, told=told)
    if ended:
        admission.looked(RateLimit(limit=2, active=2), 0.5, running=True, seen_at=1)
        admission.finished()
    for now in (1.0, 2.0, 3.0, 4.0, 5.0):
        admission.looked(told, now, running=True, seen_at=admission.acceptances)
    run_some(admission, ended, now=5.0, told=told)
    admission.looked(RateLimit(limit=2), 5.0, running=True, seen_at=admission.acceptances)
    assert not admission.admit(5.0)


def test_a_question_that_may_have_collided_is_asked_again_four_times_as_late() -> None:
    """A look was open beside it, so the refusal tells nothing."""
    admission, told = new_admission(), RateLimit(limit=1)
    run_some(admission, 1, told=told)
    admission.looked(NOTHING, 0.0, running=True, seen_at=admission.acceptances)
    assert refused_questions(admission, told, 4, alone=False) == [1.0, 4.0, 16.0, 64.0]
    assert admission.statistics(100.0).scope is None


def test_a_second_one_running_at_a_limit_of_one_is_request_scope() -> None:
    """The question was accepted; the older generation, seen running after that, tells why."""
    admission, told = new_admission(), RateLimit(limit=1, active=1)
    run_some(admission, 1, told=told)
    seen_at = admission.looked(told, 0.5, running=True, seen_at=admission.acceptances)
    run_some(admission, 1, now=1.0, told=told)
    assert admission.statistics(1.0).scope is None
    admission.looked(told, 2.0, running=True, seen_at=seen_at)
    assert (admission.statistics(2.0).scope, admission.open_limit) == ("request", 1)


def test_one_generation_seen_twice_is_still_one() -> None:
    """Only different ones add up to more than the limit."""
    admission, told = new_admission(), RateLimit(limit=2)
    run_some(admission, 2, told=told)
    seen_at = 0
    for now in (1.0, 2.0, 3.0, 4.0):
        seen_at = admission.looked(NOTHING, now, running=True, seen_at=seen_at)
    assert admission.statistics(4.0).scope is None


def test_what_ran_before_the_limit_was_lowered_proves_nothing() -> None:
    """Five were accepted under a limit of five."""
    admission = new_admission()
    run_some(admission, 5, told=RateLimit(limit=5))
    for now in (1.0, 2.0, 3.0, 4.0):
        admission.looked(RateLimit(limit=3), now, running=True)
    assert admission.statistics(4.0).scope is None


def test_a_yes_asks_on_at_once() -> None:
    """The limit was raised: it is found slot by slot, without further hold-offs."""
    admission = full_after_refusal(limit=1)
    run_some(admission, 6, now=30.0)
    assert admission.statistics(30.0).running == 7


def test_beyond_a_limit_that_was_told_a_yes_asks_on_as_well() -> None:
    """It was raised, and only the next refusal tells how far."""
    admission = Admission(scope="generation", uniform=middle)
    run_some(admission, 1, told=RateLimit(limit=1))
    run_some(admission, 9, now=MAX_HOLD_OFF)
    refuse_one(admission, now=MAX_HOLD_OFF, told=RateLimit(limit=10, active=10))
    assert admission.statistics(1e5).limit == 10


def test_many_a_yes_forgets_the_noes_before_them() -> None:
    """One alone may be due to an end that was not seen yet; the next refused slot is asked for sooner again."""
    gaps, told = [], RateLimit(limit=9, active=9)
    for yeses in (1, 2):
        admission = new_admission()
        run_some(admission, 1)
        for asked in (0.0, 30.0, 90.0):
            refuse_one(admission, asked, told)
        run_some(admission, yeses, now=300.0)
        refuse_one(admission, now=300.0, told=told)
        gaps.append((admission.next_change(310.0) or 0.0) - 300.0)
    assert gaps == [240.0, 60.0]


def test_a_yes_takes_one_slot_back_from_the_others() -> None:
    """Where only refusals tell how many they hold, asking is the only way to see them go."""
    admission = new_admission()
    run_some(admission, 3)
    refuse_one(admission, told=RateLimit(limit=5, active=5))
    assert admission.statistics(0.0).others == 2
    run_some(admission, 2, now=30.0)
    now = admission.statistics(30.0)
    assert (now.others, now.running, now.limit) == (0, 5, 5)


def test_nothing_is_asked_while_slots_are_overfull() -> None:
    """Others took slots that we still use: one more would only be refused."""
    admission = new_admission()
    run_some(admission, 3, told=RateLimit(limit=6))
    refuse_one(admission, told=RateLimit(limit=6, active=6))
    run_some(admission, 1, now=30.0)
    admission.observed(RateLimit(limit=6, active=8), 0.0)
    assert admission.statistics(60.0).limit == 2
    assert admission.available(1e6) == 0


def test_nothing_is_asked_while_a_submission_is_under_way() -> None:
    """Its answer may change everything."""
    admission = full_after_refusal(limit=3)
    run_some(admission, 1, now=30.0)
    admission.finished()
    assert admission.admit(31.0)
    assert not admission.admit(31.0)


def test_a_question_is_asked_only_when_every_slot_is_full() -> None:
    """And nothing is under way, so that the answer is about that one slot."""
    admission = full_after_refusal(limit=3)
    admission.finished()
    assert admission.available(40.0) == 1
    assert admission.admit(40.0)
    assert admission.available(40.0) == 0
    admission.accepted(NOTHING, 40.0)
    assert admission.available(40.0) == 1


def test_after_a_503_the_announced_limit_is_filled_again_slot_by_slot() -> None:
    """What ran did fit; one more is tried when some jobs have gone through, and never beyond the limit."""
    admission, limits = Admission(scope="generation", uniform=middle), []
    run_some(admission, 2, told=RateLimit(limit=4))
    assert admission.admit(0.0)
    admission.refused(NOTHING, 0.0, busy=True)
    for now in range(10, 100):
        limits.append(admission.statistics(now).limit)
        while admission.admit(now):
            admission.accepted(NOTHING, now)
        admission.finished()
    assert limits == sorted(limits)
    assert (limits[0], limits[-1]) == (2, 4)


def test_others_share_is_followed() -> None:
    """What other processes hold of an announced limit is theirs, for as long as they hold it."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=10, active=5))
    shares = [admission.available(0.0)]
    for active in (10, 3, 1):
        admission.observed(RateLimit(limit=10, active=active), 0.0)
        shares.append(admission.available(0.0))
    assert shares == [5, 0, 7, 9]


def test_a_new_limit_speaks_louder_than_what_was_found_out() -> None:
    """Window, others and hold-off belong to the old one."""
    admission = full_after_refusal(limit=2)
    for asked in (30.0, 1830.0):
        refuse_one(admission, now=asked)
    admission.observed(RateLimit(limit=6), 1900.0)
    run_some(admission, 1, now=1900.0)
    assert admission.available(1900.0) == 3
    run_some(admission, 2, now=1900.0)
    refuse_one(admission, now=1e4, told=RateLimit(limit=6, active=8))
    assert admission.next_change(1e4 + 20) == 1e4 + 30


# ---- who leaves early ---------------------------------------------------------------------------------------


def test_a_forsaken_slot_counts_until_its_deadline() -> None:
    """The generation may still run at the service."""
    admission = new_admission()
    run_some(admission, 2, told=RateLimit(limit=2))
    admission.forsaken(14.0)
    assert (admission.next_change(0.0), admission.available(13.9), admission.available(14.0)) == (14.0, 0, 1)


def test_a_lost_answer_cools_everybody_down() -> None:
    """A service that loses one answer may lose all, each of them paid: so one at a time, ever more slowly."""
    admission, now, waits = new_admission(), 0.0, []
    run_some(admission, 1, told=RateLimit(limit=50))
    for _ in range(4):
        assert admission.admit(now)
        assert (waits == []) or admission.available(now) == 0
        admission.lost(now + 14.0, now)
        waits.append(admission.statistics(now).cool_down)
        now += waits[-1]
    assert waits == pytest.approx([0.375, 0.75, 1.5, 3.0])


def test_a_withdrawn_question_may_be_asked_again() -> None:
    """Its job was refused for good, or never left: the slot is still unknown."""
    admission = full_after_refusal()
    assert admission.admit(30.0)
    admission.withdrawn()
    assert admission.admit(30.0)


def test_after_a_withdrawn_question_an_ordinary_no_is_no_answer_to_it() -> None:
    """It was about a slot that was known, so the hold-off does not double."""
    admission = full_after_refusal(limit=3)
    assert admission.admit(30.0)
    admission.withdrawn()
    admission.finished()
    refuse_one(admission, now=31.0)
    assert admission.next_change(40.0) == 31.0 + 30.0


def test_one_presumed_to_run_may_be_refused_after_all() -> None:
    """A blocking call is presumed accepted after a while; its refusal is counted as any other."""
    admission = new_admission()
    run_some(admission, 1)
    admission.recalled()
    admission.refused(NOTHING, 5.0)
    now = admission.statistics(5.0)
    assert (now.running, now.submitting, now.refusals) == (0, 0, 1)


def test_the_next_change_is_never_missed_by_a_moment() -> None:
    """Time passes between asking for a slot and asking how long to wait: what became free meanwhile is now."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=1))
    admission.forsaken(14.0)
    assert not admission.admit(13.999)
    assert admission.next_change(14.001) == 14.001


# ---- whole runs ---------------------------------------------------------------------------------------------


@dataclass
class Server:
    """The service as a number of slots, and what it tells of them."""

    limit: int
    announce: Announce = "never"
    active: int = 0

    def headers(self, *, refused: bool) -> RateLimit:
        told = self.announce == "always" or (self.announce == "refusals" and refused)
        return RateLimit(self.limit, self.active) if told else NOTHING


@dataclass
class Run:
    """`jobs` of `duration` seconds each, on a clock of its own. A POST takes 0.1 s, an end is seen 0.5 s late."""

    server: Server
    jobs: int = 40
    duration: float = 12.0
    admission: Admission = field(default_factory=new_admission)
    now: float = 0.0
    most: int = 0
    busy: bool = False  # refuses with 503
    _agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def play(self) -> Run:
        waiting, done = self.jobs, 0

        def later(seconds: float, act: Callable[[], None]) -> None:
            heapq.heappush(self._agenda, (self.now + seconds, next(self._order), act))

        def arrive() -> None:
            if self.server.active < self.server.limit:
                self.server.active += 1
                self.most = max(self.most, self.server.active)
                self.admission.accepted(self.server.headers(refused=False), self.now)
                later(self.duration, end)
            else:
                nonlocal waiting
                waiting += 1
                self.admission.refused(self.server.headers(refused=True), self.now, busy=self.busy)

        def end() -> None:
            self.server.active -= 1
            later(0.5, see)

        def see() -> None:
            nonlocal done
            done += 1
            self.admission.finished()

        while done < self.jobs:
            while waiting and self.admission.admit(self.now):
                waiting -= 1
                later(0.1, arrive)
            change = self.admission.next_change(self.now) if waiting else None
            if change is not None and (not self._agenda or change < self._agenda[0][0]):
                self.now = change
            else:
                self.now, _, act = heapq.heappop(self._agenda)
                act()
        return self

    @property
    def refusals(self) -> int:
        return self.admission.statistics(self.now).refusals


@pytest.mark.parametrize("limit", range(1, 21))
def test_an_unknown_limit_costs_few_refusals_and_little_time(limit: int) -> None:
    """Forty jobs, nothing announced: at most six refusals, and hardly longer than with every slot always busy."""
    run = Run(Server(limit)).play()
    assert run.refusals <= 6
    assert run.most == min(limit, 40)
    assert run.now <= 1.15 * math.ceil(40 / limit) * 12.6 + 3.0


@pytest.mark.parametrize("limit", [1, 2, 5, 20])
def test_an_announced_limit_costs_no_refusal(limit: int) -> None:
    """The first answer tells it, and from then on every slot is used."""
    run = Run(Server(limit, "always")).play()
    assert run.refusals == 0
    assert run.now <= math.ceil(40 / limit) * 12.6 + 1.0


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 1), (5, 1), (8, 2), (20, 3), (100, MOST_TRIED)])
def test_a_limit_told_by_refusals_costs_few(limit: int, most: int) -> None:
    """The one that tells it, and those that were tried beside it: the more run, the more at a time."""
    assert Run(Server(limit, "refusals"), jobs=2 * limit).play().refusals <= most


def test_many_slots_are_filled_a_few_at_a_time() -> None:
    """A hundred, with nothing announced, in a third of the round trips that one at a time would take."""
    admission, trips = new_admission(), 0
    while admission.statistics(0.0).running < 100:
        sent = 0
        while admission.admit(0.0):
            sent += 1
        assert sent <= MOST_TRIED
        for _ in range(sent):
            admission.accepted(NOTHING, 0.0)
        trips += 1
    assert trips <= 33


def test_what_ran_at_once_may_do_so_again_at_once() -> None:
    """With short jobs few run by the time that the next is sent: those known to fit are not felt for again."""
    admission = new_admission()
    run_some(admission, 6)
    for _ in range(6):
        admission.finished()
    assert admission.available(0.0) == 7


def test_without_a_limit_all_run() -> None:
    """Where only open requests hold a slot, the ramp never meets a wall."""
    run = Run(Server(1000)).play()
    assert (run.refusals, run.most) == (0, 40)


# ---- request scope ------------------------------------------------------------------------------------------


def by_request() -> Admission:
    return Admission(scope="request", uniform=middle)


def test_in_request_scope_the_announced_limit_bounds_requests_only() -> None:
    """Generations ramp on past it, and what others have open is not subtracted."""
    admission = by_request()
    run_some(admission, 8, told=RateLimit(limit=1, active=1))
    now = admission.statistics(0.0)
    assert (admission.open_limit, now.running, now.others, now.limit) == (1, 8, 0, None)


def test_in_request_scope_a_429_is_a_collision_and_a_503_the_bound() -> None:
    """After the first the ramp goes on, after the second no further for a hold-off."""
    admission = by_request()
    run_some(admission, 4)
    assert admission.admit(0.0)
    admission.refused(RateLimit(limit=2, active=2), 0.0, busy=False)
    assert (admission.statistics(0.0).limit, admission.open_limit) == (None, 2)
    assert admission.statistics(0.0).cool_down > 0
    run_some(admission, 2, now=5.0)
    assert admission.admit(5.0)
    admission.refused(NOTHING, 5.0, busy=True)
    assert (admission.statistics(5.0).limit, admission.available(1e6)) == (6, 0)


def test_a_refused_look_opens_the_window() -> None:
    """What 429s seemed to say of generations is forgotten; the requests are bounded instead."""
    admission = full_after_refusal(limit=2)
    assert admission.open_limit is None
    admission.look_refused(RateLimit(limit=3), 0.0)
    now = admission.statistics(1.0)
    assert (now.scope, now.limit, admission.open_limit, admission.available(1.0)) == ("request", None, 3, 1)


def test_request_scope_that_is_contradicted_is_given_up() -> None:
    """429s with no other request open are about generations after all: the announced limit holds again."""
    admission = new_admission()
    admission.look_refused(RateLimit(limit=2), 0.0)
    run_some(admission, 2)
    for now in (1.0, 10.0, 20.0):
        assert admission.admit(now)
        admission.refused(RateLimit(limit=2, active=2), now, alone=True)
    assert (admission.statistics(50.0).scope, admission.available(50.0), admission.open_limit) == (None, 0, None)


def test_in_request_scope_room_on_the_server_is_found_with_few_refusals() -> None:
    """A limit of 1 and room for 24: fewer than one refusal in 20 jobs."""
    run = Run(Server(24, "never"), jobs=400, admission=by_request(), busy=True).play()
    assert run.most == 24
    assert run.refusals < 400 / 20
    assert run.now <= 1.25 * math.ceil(400 / 24) * 12.6


# ---- the machine --------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Post:
    """One submission: on its way, decided by the server, or answered."""

    decided: bool | None = None
    told: RateLimit = NOTHING
    busy: bool = False
    collides: bool = False  # with another open request


class AdmissionMachine(RuleBasedStateMachine):
    """Any order of answers, ends, losses, limits, neighbours, looks and clock jumps, in either scope."""

    @initialize(
        limit=st.integers(1, 6),
        ceiling=st.none() | st.integers(1, 5),
        announce=st.sampled_from(["always", "refusals", "never"]),
        scope=st.sampled_from(["generation", "request"]),
        told_scope=st.booleans(),
    )
    def start(self, limit: int, ceiling: int | None, announce: Announce, scope: Scope, told_scope: bool) -> None:
        self.server = Server(limit, announce)
        self.scope = scope
        self.ceiling = ceiling
        self.admission = Admission(max_concurrency=ceiling, scope=scope if told_scope else None, uniform=middle)
        self.most = 0  # of ours at once, as far as accepted
        self.now = 0.0
        self.neighbours = 0
        self.posts: list[Post] = []
        self.running = 0  # ours, as we know it
        self.unseen = 0  # ours that ended, or run on unwatched
        self.deadlines: list[float] = []
        self.cautious = False  # from a refusal or a loss to the next probe's acceptance
        self.refusals = 0

    def pick(self, data: st.DataObject, decided: bool) -> Post:
        return data.draw(st.sampled_from([post for post in self.posts if (post.decided is not None) is decided]))

    def taken(self) -> int:
        return self.running + len(self.posts) + sum(deadline > self.now for deadline in self.deadlines)

    def certain(self) -> int:
        return self.taken() - len(self.posts)

    @rule(many=st.booleans())
    def submit(self, many: bool) -> None:
        """As many as may, or one; each within the capacity, but for one question when all slots are full."""
        while True:
            now = self.admission.statistics(self.now)
            if not self.admission.admit(self.now):
                break
            question = self.taken() == now.limit and not self.posts
            assert not self.cautious or not self.posts
            assert now.limit is not None or self.taken() < max(self.most, self.certain()) + MOST_TRIED
            assert now.limit is None or self.taken() < now.limit or question
            self.posts.append(Post())
            if not many:
                break

    @rule()
    def submit_and_see(self) -> None:
        """One whole exchange, with nothing in between."""
        self.submit(many=False)
        if self.posts and self.posts[-1].decided is None:
            post = self.posts[-1]
            self.decide(post)
            self.conclude(post, None)

    @precondition(lambda self: any(post.decided is None for post in self.posts))
    @rule(data=st.data(), collides=st.booleans())
    def arrive(self, data: st.DataObject, collides: bool) -> None:
        """The server decides, and writes down what it tells."""
        post = self.pick(data, decided=False)
        post.collides = collides and self.scope == "request"
        self.decide(post)

    def decide(self, post: Post) -> None:
        """Room for as many as the limit in either scope: there a 503 says so, and a 429 comes from a collision."""
        post.decided = self.server.active < self.server.limit and not post.collides
        post.busy = self.scope == "request" and not post.collides
        self.server.active += post.decided
        told = self.server.headers(refused=not post.decided)
        post.told = NOTHING if post.busy and not post.decided else told

    @precondition(lambda self: any(post.decided is not None for post in self.posts))
    @rule(data=st.data(), retry_after=st.none() | st.floats(0, 1e6))
    def answer(self, data: st.DataObject, retry_after: float | None) -> None:
        """The answer is read, in any order."""
        self.conclude(self.pick(data, decided=True), retry_after)

    def conclude(self, post: Post, retry_after: float | None) -> None:
        self.posts.remove(post)
        if post.decided:
            self.cautious = self.cautious and self.admission.statistics(self.now).cool_down > 0
            self.running += 1
            self.most = max(self.most, self.certain())
            self.admission.accepted(post.told, self.now)
        else:
            self.cautious = True
            self.refusals += 1
            told = RateLimit(post.told.limit, post.told.active, retry_after)
            self.admission.refused(told, self.now, busy=post.busy, alone=not post.collides)

    @precondition(lambda self: any(post.decided is None for post in self.posts))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """Cancelled before it was sent, or refused for good."""
        self.posts.remove(self.pick(data, decided=False))
        self.admission.withdrawn()

    @precondition(lambda self: any(post.decided is not None for post in self.posts))
    @rule(data=st.data(), seconds=st.floats(0.1, 100))
    def lose(self, data: st.DataObject, seconds: float) -> None:
        """The answer is lost; if it was a yes, it runs on."""
        post = self.pick(data, decided=True)
        self.posts.remove(post)
        self.unseen += bool(post.decided)
        self.cautious = True
        self.deadlines.append(self.now + seconds)
        self.admission.lost(self.now + seconds, self.now)

    @precondition(lambda self: self.running)
    @rule()
    def end(self) -> None:
        """A generation ends and we see it."""
        self.running -= 1
        self.server.active -= 1
        self.admission.finished()

    @precondition(lambda self: self.running)
    @rule(seconds=st.floats(0.1, 100))
    def forsake(self, seconds: float) -> None:
        """Patience ended; it runs on."""
        self.running -= 1
        self.unseen += 1
        self.deadlines.append(self.now + seconds)
        self.admission.forsaken(self.now + seconds)

    @precondition(lambda self: self.unseen)
    @rule()
    def end_unseen(self) -> None:
        """One that nobody watches ends."""
        self.unseen -= 1
        self.server.active -= 1

    @rule(limit=st.integers(1, 8))
    def change_limit(self, limit: int) -> None:
        """The vendor changes it at any time."""
        self.server.limit = limit

    @rule(share=st.integers(0, 4))
    def change_neighbours(self, share: int) -> None:
        """Other keys of the account come and go."""
        self.server.active += share - self.neighbours
        self.neighbours = share

    @precondition(lambda self: self.running)
    @rule(seen=st.integers(0, 9), refused=st.booleans())
    def look_at_one(self, seen: int, refused: bool) -> None:
        """It runs; in request scope the look itself may be refused."""
        told = self.server.headers(refused=refused)
        if refused and self.scope == "request":
            self.admission.look_refused(told, self.now)
        else:
            self.admission.looked(self.server.headers(refused=False), self.now, running=True, seen_at=seen)

    @rule()
    def hand_over(self) -> None:
        """Another process goes on with the same facts, as they are written down."""
        facts = json.loads(json.dumps(self.admission.facts()))
        before = self.admission.statistics(self.now)
        self.admission = Admission(max_concurrency=self.ceiling, uniform=middle)
        waiting = [deadline for deadline in self.deadlines if deadline > self.now]
        self.admission.restore(facts, running=self.running, submitting=len(self.posts), forsaken=waiting)
        assert self.admission.statistics(self.now) == before

    @precondition(lambda self: self.server.announce == "always")
    @rule()
    def look(self) -> None:
        """A poll's headers."""
        self.admission.observed(self.server.headers(refused=False), self.now)

    @rule(seconds=st.floats(0, 5) | st.floats(0, 1e5))
    def wait(self, seconds: float) -> None:
        """Time passes, or jumps."""
        self.now += seconds

    @rule()
    def wait_for_the_next_change(self) -> None:
        """What a limiter's waiter does."""
        self.now = self.admission.next_change(self.now) or self.now

    @invariant()
    def every_admission_is_accounted_for(self) -> None:
        now = self.admission.statistics(self.now)
        waiting = sum(deadline > self.now for deadline in self.deadlines)
        assert (now.running, now.submitting, now.forsaken) == (self.running, len(self.posts), waiting)
        assert now.refusals == self.refusals

    @invariant()
    def the_bounds_hold(self) -> None:
        limit = self.admission.statistics(self.now).limit
        assert limit is None or 1 <= limit <= (self.ceiling or 1000)
        room = self.admission.available(self.now)
        assert self.taken() + room <= max((limit or math.inf) + 1, self.taken())
        assert room == 0 or self.ceiling is None or self.taken() + room <= self.ceiling

    @invariant()
    def it_is_never_stuck(self) -> None:
        """With free slots, no cool-down and nothing under way there is room; else something will make some."""
        now, room = self.admission.statistics(self.now), self.admission.available(self.now)
        assert (now.cool_down == 0) or room == 0
        assert now.cool_down <= MAX_RETRY_AFTER + 5
        free = now.limit is None or self.taken() < now.limit
        ceiling = self.ceiling is not None and self.taken() >= self.ceiling
        if free and not ceiling and not self.posts and now.cool_down == 0:
            assert room >= 1
        assert room or self.posts or self.running or self.admission.next_change(self.now) is not None

    def teardown(self) -> None:
        """Once everything has ended and time has passed, somebody may go."""
        if not hasattr(self, "admission"):
            return
        for _ in range(self.running):
            self.admission.finished()
        for _ in self.posts:
            self.admission.withdrawn()
        assert self.admission.available(self.now + 1e4) >= 1


TestAdmissionMachine = AdmissionMachine.TestCase
TestAdmissionMachine.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
