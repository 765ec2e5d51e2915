"""The book under every order of turns, deaths, lost answers, lost books and jumps of the clock."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from nanobanana_async import RateLimit
from nanobanana_async._admission import Admission
from nanobanana_async.integrations._book import Book, Lease, LeaseState
from nanobanana_async.integrations._entries import Terms
from nanobanana_async.integrations._keeper import News
from nanobanana_async.integrations._store import Change
from nanobanana_async.integrations._turn import PATIENCE, Turn

TERMS = Terms(lease_seconds=30.0, submit_seconds=120.0, adopted_seconds=900.0)
NOTHING = RateLimit()


@dataclass
class Process:
    """What a keeper and its slots do, without a loop."""

    name: str
    known: Book | None = None
    news: list[News] = field(default_factory=list)
    batch: list[News] = field(default_factory=list)
    number: int = 0
    waiting: dict[str, float] = field(default_factory=dict)
    slots: dict[str, LeaseState] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    looks: bool = True
    address: str = ""

    def __post_init__(self) -> None:
        self.address = f"at {self.name}"
        self.tokens = (f"{self.name}.{number}" for number in itertools.count())

    def take(self, book: Book, clock: float, dead) -> Turn:
        turn = Turn(book, self.name, clock, TERMS, lambda: Admission(uniform=lambda low, high: high))
        turn.begin(self.address, self.known, dead(book.holders))
        if turn.batch(self.number):
            for tell in self.batch:
                tell(turn)
        turn.queue_up(self.waiting)
        if self.looks:
            turn.adopt()
        turn.hand_out()
        return turn

    def turn(self, text: str | None, clock: float, dead=lambda _: set(), *, heard: bool = True) -> Change:
        """One turn; its end may not be heard of."""
        if not self.batch:
            self.batch, self.news = self.news, []
            self.number += bool(self.batch)
        change = Change.of(text, clock, self.take, dead)
        if heard:
            self.known, self.batch = change.turn.book, []
            for token in [token for token in self.waiting if token in self.known.leases]:
                del self.waiting[token]
                self.slots[token] = LeaseState.SUBMITTING
        return change

    def want(self, priority: float = 0.0) -> str:
        token = next(self.tokens)
        self.waiting[token] = priority
        return token

    def accept(self, token: str, told: RateLimit = NOTHING, generation_id: str | None = None) -> None:
        self.slots[token] = LeaseState.RUNNING
        self.news.append(partial(Turn.accepted, token=token, rate_limit=told))
        if generation_id is not None:
            self.ids[token] = generation_id
            self.news.append(partial(Turn.named, token=token, generation_id=generation_id))

    def give_back(self, token: str) -> None:
        self.news.append(partial(Turn.release, token=token, state=self.slots.pop(token)))


class Store:
    """A text and a clock."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.clock = 1000.0
        self.woken: set[str] = set()

    def turn(self, process: Process, dead: tuple[str, ...] = (), *, heard: bool = True) -> Book:
        change = process.turn(self.text, self.clock, lambda _: set(dead), heard=heard)
        self.text = change.text or self.text
        self.woken = change.wake
        return change.turn.book

    @property
    def book(self) -> Book:
        assert self.text is not None
        return Book.loads(self.text)


@pytest.fixture
def store() -> Store:
    return Store()


def run_some(store: Store, process: Process, count: int, limit: int, *, named: bool = True) -> list[str]:
    """So many of an announced limit run in this process."""
    tokens = []
    for _ in range(count):
        tokens.append(process.want())
        store.turn(process)
        process.accept(tokens[-1], RateLimit(limit=limit), f"id of {tokens[-1]}" if named else None)
        store.turn(process)
    return tokens


# ---- who goes first -----------------------------------------------------------------------------------------


def test_the_most_urgent_of_all_processes_is_offered_the_slot(store: Store) -> None:
    """By priority, then by age, whoever gives it back."""
    one, two, three = Process("one"), Process("two"), Process("three")
    (running,) = run_some(store, one, 1, 1)
    for process, priority in ((one, 1.0), (two, 2.0), (three, 2.0)):
        process.want(priority)
        store.turn(process)
    one.give_back(running)
    store.turn(one)
    assert store.woken == {"at two"}
    store.turn(three)
    assert not three.slots
    store.turn(two)
    assert two.slots


def test_one_that_does_not_come_is_passed_over_until_it_does(store: Store) -> None:
    """A process that hangs may cost its patience once, not with every slot."""
    one, two = Process("one"), Process("two")
    (running,) = run_some(store, one, 1, 1)
    two.want(9.0)
    store.turn(two)
    for round_ in range(3):
        one.give_back(running)
        waiting = one.want()
        store.turn(one)
        if round_ == 0:
            assert not one.slots
            store.clock += PATIENCE
            store.turn(one)
        assert waiting in one.slots
        one.accept(waiting)
        store.turn(one)
        running = waiting
    one.give_back(running)
    store.turn(two)
    assert not two.slots  # it hasn't been given back yet
    store.turn(one)
    assert store.woken == {"at two"}
    store.turn(two)
    assert two.slots


def test_who_is_passed_over_rises(store: Store) -> None:
    """An endless stream of urgent work in one process leaves another its share."""
    one, two = Process("one"), Process("two")
    (running,) = run_some(store, one, 1, 1)
    two.want(0.0)
    store.turn(two)
    given = 0
    while not two.slots and given < 20:
        one.want(1.0)
        one.give_back(running)
        store.turn(one)
        store.turn(two)
        if one.slots:
            (running,) = one.slots
            one.accept(running)
            given += 1
    assert given in (10, 11)


def test_the_next_one_learns_when_time_alone_makes_room(store: Store) -> None:
    """It set its clock before there was a pause."""
    one, two = Process("one"), Process("two")
    waiting = one.want()
    store.turn(one)
    two.want()
    store.turn(two)
    assert waiting in one.slots
    one.news.append(
        partial(Turn.refused, token=waiting, state=one.slots.pop(waiting), told=NOTHING, busy=False, alone=True)
    )
    store.turn(one)
    assert store.woken == {"at two"}


def test_a_turn_that_changes_nothing_writes_nothing(store: Store) -> None:
    """Those who look must not keep the others from writing."""
    one = Process("one")
    run_some(store, one, 2, 4)
    before = store.text
    store.clock += 1.0
    assert one.turn(store.text, store.clock).text is None
    assert store.text == before


# ---- deaths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["told", "not heard of"])
def test_what_a_dead_process_left_running_is_adopted(store: Store, how: str) -> None:
    """Its slot counts until somebody has seen the end."""
    one, two = Process("one"), Process("two")
    (token,) = run_some(store, one, 1, 1)
    two.want()
    store.turn(two)
    if how == "not heard of":
        store.clock += 29.0
        store.turn(two)
        store.clock += 1.5
    book = store.turn(two, dead=("one",) if how == "told" else ())
    (lease,) = book.leases.values()
    assert (lease.holder, lease.generation_id) == ("two", f"id of {token}")
    assert not two.slots
    two.news.append(partial(Turn.ended, token=token, fence=lease.fence))
    store.turn(two)
    assert two.slots


def test_what_is_forsaken_is_adopted(store: Store) -> None:
    """Where its id is known, nobody has to guess how long it runs."""
    one, two = Process("one", looks=False), Process("two")
    (token,) = run_some(store, one, 1, 1)
    one.news.append(partial(Turn.forsake, token=token, state=one.slots.pop(token), seconds=0.5))
    store.turn(one)
    two.want()
    store.clock += 1.0
    lease = store.turn(two).leases[token]
    assert lease.holder == "two"
    assert not two.slots
    two.news.append(partial(Turn.ended, token=token, fence=lease.fence))
    store.turn(two)
    assert two.slots


def test_what_may_have_been_submitted_counts_for_as_long_as_an_answer_may_take(store: Store) -> None:
    """Nobody knows its id."""
    one, two = Process("one"), Process("two")
    run_some(store, one, 1, 1, named=False)
    two.want()
    store.turn(two, dead=("one",))
    for _ in range(5):
        store.clock += 23.9
        store.turn(two)
        assert not two.slots
    store.clock += 1.0
    store.turn(two)
    assert two.slots


def test_one_that_was_taken_for_dead_takes_its_own_back(store: Store) -> None:
    """Then its adopter's word on it doesn't count any more."""
    one, two = Process("one"), Process("two")
    (token,) = run_some(store, one, 1, 4)
    fence = store.turn(two, dead=("one",)).leases[token].fence
    assert store.turn(one).leases[token].holder == "one"
    two.news.append(partial(Turn.ended, token=token, fence=fence))
    assert token in store.turn(two).leases
    one.give_back(token)
    assert store.turn(one).leases == {}


def test_after_a_silence_of_all_nobody_is_dead(store: Store) -> None:
    """Whoever comes first finds everybody late, itself too: it was the store that was away."""
    one, two = Process("one"), Process("two")
    (token,) = run_some(store, one, 1, 4)
    store.turn(two)
    store.clock += 300.0
    book = store.turn(two)
    assert book.leases[token].holder == "one"
    store.clock += 31.0
    store.turn(two)
    book = store.turn(two)
    assert book.leases[token].holder in ("one", "two")


# ---- lost books and clocks ----------------------------------------------------------------------------------


def test_a_lost_book_is_written_anew_and_nothing_is_handed_out_before_all_have_spoken(store: Store) -> None:
    """What those hold who haven't spoken is not known."""
    one, two = Process("one"), Process("two")
    run_some(store, one, 2, 4)
    run_some(store, two, 1, 4)
    store.turn(one)
    store.text = None
    one.want()
    book = store.turn(one)
    assert len(book.leases) == 3
    assert book.facts["known"]["announced"] == 4
    assert store.woken == {"at two"}
    assert len(one.slots) == 2
    store.turn(two)
    store.turn(one)
    assert len(one.slots) == 3


def test_a_lost_book_waits_for_nobody_for_ever(store: Store) -> None:
    """A process may have died in the meantime: twice the time in which it would have been heard of."""
    one, two = Process("one"), Process("two")
    run_some(store, one, 1, 4)
    store.turn(two)
    store.turn(one)
    store.text = None
    one.want()
    for seconds in (0.0, 59.0, 2.0):
        assert len(one.slots) == 1
        store.clock += seconds
        store.turn(one)
    assert len(one.slots) == 2


def test_an_older_book_counts_as_lost(store: Store) -> None:
    """A server that came back with what it had on its disk."""
    one = Process("one")
    first = run_some(store, one, 1, 4)
    older = store.text
    second = run_some(store, one, 1, 4)
    store.text = older
    assert set(store.turn(one).leases) == {*first, *second}


def test_a_clock_set_back_goes_on_where_the_book_was(store: Store) -> None:
    """A host that was started anew: what was forsaken counts for the time that is left of it."""
    one = Process("one")
    (token,) = run_some(store, one, 1, 1, named=False)
    one.news.append(partial(Turn.forsake, token=token, state=one.slots.pop(token), seconds=50.0))
    store.turn(one)
    store.clock = 5.0
    one.want()
    store.turn(one)
    store.clock += 49.0
    store.turn(one)
    assert not one.slots
    store.clock += 2.0
    store.turn(one)
    assert one.slots


def test_clocks_that_differ_a_little_make_no_time_pass(store: Store) -> None:
    """Else the book's time would run ahead by each difference."""
    one = Process("one")
    for number in range(1000):
        store.clock = 1000.0 + number % 2 * 0.5
        one.news.append(lambda turn: turn.book.next_number())
        store.turn(one)
    assert store.book.now(1000.5) == 1000.5


def test_a_turn_whose_end_was_not_heard_of_is_told_once(store: Store) -> None:
    """The store may have written it before the connection broke."""
    one = Process("one")
    run_some(store, one, 1, 4)
    waiting = one.want()
    store.turn(one)
    one.news.append(
        partial(Turn.refused, token=waiting, state=one.slots.pop(waiting), told=NOTHING, busy=False, alone=True)
    )
    store.turn(one, heard=False)
    store.turn(one)
    assert store.book.facts["known"]["refusals"] == 1


def test_what_was_told_to_a_new_book_without_an_answer_is_told_again(store: Store) -> None:
    """Its leases are asserted again by then, as they were before; a slot would be taken for ever."""
    one = Process("one")
    one.want()
    store.turn(one)
    [token] = one.slots
    del one.slots[token]
    one.news.append(partial(Turn.forsake, token=token, state=LeaseState.SUBMITTING, seconds=20.0))
    store.text = None
    store.turn(one, heard=False)
    assert store.turn(one).leases[token].until is not None


@pytest.mark.parametrize("text", ["", "no book", "[]", '{"epoch": 1}'])
def test_a_book_that_cannot_be_read_counts_as_lost(text: str) -> None:
    """Whoever wrote it."""
    assert Change.of(text, 0.0, Process("one").take).turn.book.version == 1


def test_facts_of_another_version_are_forgotten(store: Store) -> None:
    """Its leases count all the same."""
    one = Process("one")
    run_some(store, one, 2, 4)
    book = store.book
    book.facts = {"known": {"unheard": 1}}
    store.text = book.dumps()
    assert len(store.turn(Process("two")).leases) == 2


# ---- any order ----------------------------------------------------------------------------------------------


class SharedAccount(RuleBasedStateMachine):
    """Processes, a service with `limit` slots that says so, and a store that fails in every way."""

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.store = Store()
        self.running: set[str] = set()  # at the service
        self.ids = (f"g{number}" for number in itertools.count())
        self.names = (f"p{number}" for number in itertools.count())
        self.processes = [Process(next(self.names)) for _ in range(3)]
        self.older: list[str | None] = []

    processes_ = st.integers(0, 2)

    @rule(which=processes_, priority=st.integers(0, 2))
    def want(self, which: int, priority: int) -> None:
        if len(self.processes[which].waiting) < 3:
            self.processes[which].want(float(priority))

    @rule(which=processes_)
    def give_up(self, which: int) -> None:
        process = self.processes[which]
        if process.waiting:
            token, _ = process.waiting.popitem()
            process.news.append(partial(Turn.release, token=token, state=LeaseState.SUBMITTING))

    @rule(which=processes_, outcome=st.sampled_from(["heard", "heard", "heard", "not heard", "not written"]))
    def take_turn(self, which: int, outcome: str) -> None:
        process, before = self.processes[which], len(self.leases())
        told = not process.news
        if outcome == "not written":
            process.turn(self.store.text, self.store.clock, heard=False)
            return
        self.store.turn(process, heard=outcome == "heard")
        self.check_limit(before)
        if outcome == "heard" and told:
            self.check_slots(process)

    @rule(which=processes_)
    def post(self, which: int) -> None:
        """The service answers a submission."""
        process = self.processes[which]
        for token, state in list(process.slots.items()):
            if state is LeaseState.SUBMITTING:
                self.answer(process, token)
                return

    def answer(self, process: Process, token: str) -> None:
        active = len(self.running)
        if active >= self.limit:
            state = process.slots.pop(token)
            told = RateLimit(limit=self.limit, active=active)
            process.news.append(partial(Turn.refused, token=token, state=state, told=told, busy=False, alone=False))
            return
        self.running.add(identity := next(self.ids))
        process.accept(token, RateLimit(limit=self.limit, active=active + 1), identity)

    @rule(which=processes_)
    def lose_answer(self, which: int) -> None:
        process = self.processes[which]
        for token, state in list(process.slots.items()):
            if state is LeaseState.SUBMITTING:
                del process.slots[token]
                process.news.append(partial(Turn.forsake, token=token, state=state, seconds=20.0))
                return

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.running.discard(data.draw(st.sampled_from(sorted(self.running))))

    @rule(which=processes_)
    def see_ends(self, which: int) -> None:
        """Polls of its own, and looks at what it adopted."""
        process = self.processes[which]
        for token, identity in list(process.ids.items()):
            if identity not in self.running:
                del process.ids[token]
                if token in process.slots:
                    process.give_back(token)
        for lease in list(process.known.held_by(process.name)) if process.known is not None else []:
            if not lease.token.startswith(f"{process.name}.") and lease.generation_id not in self.running:
                process.news.append(partial(Turn.ended, token=lease.token, fence=lease.fence))

    @rule(which=processes_, noticed=st.booleans())
    def die(self, which: int, noticed: bool) -> None:
        """And another one starts."""
        dead = self.processes[which].name
        self.processes[which] = Process(next(self.names))
        if noticed:
            self.store.turn(self.processes[which], dead=(dead,))

    @rule(seconds=st.sampled_from([0.2, 5.0, 29.0, 70.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.store.clock += seconds

    @rule()
    def clock_is_set_back(self) -> None:
        self.store.clock = 10.0

    @rule(how=st.sampled_from(["lost", "older", "kept"]))
    def the_book_is_lost(self, how: str) -> None:
        if how == "kept":
            self.older.append(self.store.text)
        else:
            self.store.text = None if how == "lost" or not self.older else self.older.pop()

    # ---- what is promised

    def leases(self) -> dict[str, Lease]:
        return self.store.book.leases if self.store.text is not None else {}

    def check_limit(self, before: int) -> None:
        """A turn hands out no more than the limit, but for one question."""
        if self.store.text is None:
            return
        book = self.store.book
        if book.facts["known"]["announced"] == self.limit:
            assert len(book.leases) <= max(before, self.limit + book.facts["questions"]["asking"])

    def check_slots(self, process: Process) -> None:
        """What a process holds is in the book, as it is."""
        held = {lease.token: lease for lease in self.store.book.held_by(process.name)}
        for token, state in process.slots.items():
            assert held[token].state is state

    def teardown(self) -> None:
        """With everything answered and seen, everybody who waits gets a slot, and at last none is taken."""
        if not hasattr(self, "store"):
            return
        for _ in range(80):
            for which, process in enumerate(self.processes):
                self.store.turn(process)
                while any(state is LeaseState.SUBMITTING for state in process.slots.values()):
                    self.post(which)
                self.running.clear()
                self.see_ends(which)
                self.store.turn(process)
            if not self.leases() and not any(process.waiting for process in self.processes):
                break
            self.store.clock += 20.0
        assert not any(process.waiting or process.slots for process in self.processes)
        assert self.store.text is None or self.store.book.leases == {}


TestSharedAccount = SharedAccount.TestCase
TestSharedAccount.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
