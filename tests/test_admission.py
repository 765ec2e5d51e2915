"""How many may run: the state machine against a model of the server, and whole runs as lists of numbers."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nanobanana_async import RateLimit
from nanobanana_async._admission import MAX_HOLD_OFF, MAX_RETRY_AFTER, Admission

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
    admission.observed(RateLimit(limit=3))
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


def test_the_hold_off_doubles_with_each_no() -> None:
    """A refused slot is asked for again, ever more rarely."""
    admission, now, gaps = full_after_refusal(), 0.0, []
    for _ in range(9):
        asked_before = now
        while not admission.admit(now):
            now = admission.next_change(now) or math.inf
        gaps.append(now - asked_before)
        admission.refused(NOTHING, now)
    assert gaps == pytest.approx([30.0, 60.0, 120.0, 240.0, 480.0, 960.0, MAX_HOLD_OFF, MAX_HOLD_OFF, MAX_HOLD_OFF])


def test_a_yes_asks_on_at_once() -> None:
    """The limit was raised: it is found slot by slot, without further hold-offs."""
    admission = full_after_refusal(limit=1)
    run_some(admission, 6, now=30.0)
    assert admission.statistics(30.0).running == 7


def test_a_yes_forgets_the_noes_before_it() -> None:
    """The next refused slot is asked for again after the first hold-off."""
    admission = full_after_refusal(limit=1)
    for asked in (30.0, 90.0, 210.0):
        refuse_one(admission, now=asked)
    run_some(admission, 1, now=450.0)
    refuse_one(admission, now=450.0)
    assert admission.next_change(500.0) == 450.0 + 60.0


def test_a_yes_takes_one_slot_back_from_the_others() -> None:
    """Where only refusals tell how many they hold, asking is the only way to see them go."""
    admission = new_admission()
    run_some(admission, 3)
    refuse_one(admission, told=RateLimit(limit=5, active=5))
    assert admission.statistics(0.0).others == 2
    run_some(admission, 2, now=30.0)
    assert (admission.statistics(30.0).others, admission.available(1e6)) == (0, 0)


def test_nothing_is_asked_while_slots_are_overfull() -> None:
    """Others took slots that we still use: one more would only be refused."""
    admission = new_admission()
    run_some(admission, 3, told=RateLimit(limit=6))
    refuse_one(admission, told=RateLimit(limit=6, active=6))
    run_some(admission, 1, now=30.0)
    admission.observed(RateLimit(limit=6, active=8))
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


def test_beyond_an_announced_limit_nothing_is_asked() -> None:
    """It is known already, also after a refusal that was somebody else's doing."""
    admission = new_admission()
    run_some(admission, 4, told=RateLimit(limit=5))
    refuse_one(admission, told=RateLimit(limit=5, active=5))
    admission.observed(RateLimit(limit=5, active=4))
    run_some(admission, 1, now=5.0, told=RateLimit(limit=5, active=5))
    assert [admission.available(now) for now in (31.0, 1e3, 1e6)] == [0, 0, 0]


def test_a_window_below_the_announced_limit_is_asked_up_to_it() -> None:
    """A 503 tells no number; once it has passed, the announced limit is filled again, and no more."""
    admission = new_admission()
    run_some(admission, 2, told=RateLimit(limit=4))
    refuse_one(admission)
    run_some(admission, 2, now=31.0)
    assert not admission.admit(1e6)


def test_others_share_is_followed() -> None:
    """What other processes hold of an announced limit is theirs, for as long as they hold it."""
    admission = new_admission()
    run_some(admission, 1, told=RateLimit(limit=10, active=5))
    shares = [admission.available(0.0)]
    for active in (10, 3, 1):
        admission.observed(RateLimit(limit=10, active=active))
        shares.append(admission.available(0.0))
    assert shares == [5, 0, 7, 9]


def test_a_new_limit_speaks_louder_than_what_was_found_out() -> None:
    """Window, others and hold-off belong to the old one."""
    admission = full_after_refusal(limit=2)
    for asked in (30.0, 90.0):
        refuse_one(admission, now=asked)
    admission.observed(RateLimit(limit=6))
    run_some(admission, 1, now=100.0)
    assert admission.available(100.0) == 3
    refuse_one(admission, now=100.0)
    assert admission.next_change(120.0) == 130.0


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
                self.admission.refused(self.server.headers(refused=True), self.now)

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


@pytest.mark.parametrize("limit", [1, 2, 5, 20])
def test_a_limit_told_by_refusals_costs_one(limit: int) -> None:
    """The one that tells it."""
    assert Run(Server(limit, "refusals")).play().refusals <= 1


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
    refuse_one(admission, now=5.0)
    assert (admission.statistics(5.0).limit, admission.available(34.9)) == (6, 0)


def test_a_refused_look_opens_the_window() -> None:
    """What 429s seemed to say of generations is forgotten; the requests are bounded instead."""
    admission = full_after_refusal(limit=2)
    assert admission.open_limit is None
    admission.look_refused(RateLimit(limit=3))
    now = admission.statistics(1.0)
    assert (now.scope, now.limit, admission.open_limit, admission.available(1.0)) == ("request", None, 3, 1)


def test_request_scope_that_is_contradicted_is_given_up() -> None:
    """429s with no other request open are about generations after all: the announced limit holds again."""
    admission = new_admission()
    admission.look_refused(RateLimit(limit=2))
    run_some(admission, 2)
    admission.open_requests = 1
    for now in (1.0, 10.0, 20.0):
        assert admission.admit(now)
        admission.refused(RateLimit(limit=2, active=2), now, busy=False)
    assert (admission.statistics(50.0).scope, admission.available(50.0), admission.open_limit) == (None, 0, None)


def test_in_request_scope_room_on_the_server_is_found_with_few_refusals() -> None:
    """A limit of 1 and room for 24: fewer than one refusal in 20 jobs."""
    run = Run(Server(24, "never"), jobs=400, admission=by_request()).play()
    assert run.most == 24
    assert run.refusals < 400 / 20
    assert run.now <= 1.25 * math.ceil(400 / 24) * 12.6


# ---- the machine --------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Post:
    """One submission: on its way, decided by the server, or answered."""

    decided: bool | None = None
    told: RateLimit = NOTHING


class AdmissionMachine(RuleBasedStateMachine):
    """Any order of answers, ends, losses, limits, neighbours and clock jumps, against a server of generation scope."""

    @initialize(
        limit=st.integers(1, 6),
        ceiling=st.none() | st.integers(1, 5),
        announce=st.sampled_from(["always", "refusals", "never"]),
    )
    def start(self, limit: int, ceiling: int | None, announce: Announce) -> None:
        self.server = Server(limit, announce)
        self.ceiling = ceiling
        self.admission = new_admission(ceiling)
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

    @rule(many=st.booleans())
    def submit(self, many: bool) -> None:
        """As many as may, or one; each within the capacity, but for one question when all slots are full."""
        while True:
            now = self.admission.statistics(self.now)
            if not self.admission.admit(self.now):
                break
            question = self.taken() == now.limit and not self.posts
            assert not (self.cautious or now.limit is None) or not self.posts
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
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """The server decides, and writes down what it tells."""
        self.decide(self.pick(data, decided=False))

    def decide(self, post: Post) -> None:
        post.decided = self.server.active < self.server.limit
        self.server.active += post.decided
        post.told = self.server.headers(refused=not post.decided)

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
            self.admission.accepted(post.told, self.now)
        else:
            self.cautious = True
            self.refusals += 1
            told = RateLimit(post.told.limit, post.told.active, retry_after)
            self.admission.refused(told, self.now)

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

    @precondition(lambda self: self.server.announce == "always")
    @rule()
    def look(self) -> None:
        """A poll's headers."""
        self.admission.observed(self.server.headers(refused=False))

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
