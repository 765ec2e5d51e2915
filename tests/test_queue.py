"""Who goes next: priorities that age, groups that share, refused ones in their place, and nobody lost."""

import math
from collections import Counter, deque
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nanobanana_async._queue import FairQueue
from nanobanana_async._ranking import Ranking

PRIORITIES = st.sampled_from([-10.0, 0, 0, 0.5, 10])
GROUPS = st.sampled_from([None, None, "a", "b", "c"])


def queue_of(*items, ageing=0.0):
    """Items as (name, priority, group)."""
    queue = FairQueue(ageing=ageing)
    for name, priority, group in items:
        queue.push(name, priority=priority, group=group)
    return queue


def drained(queue, *, ends=True):
    """Everything in the order of its going; each ends before the next goes, or none does."""
    order = []
    while (item := queue.pop()) is not None:
        order.append(item)
        if ends:
            queue.done(item)
    return order


def test_higher_priorities_go_first_then_age():
    """First come, first served among equals."""
    queue = queue_of(("low", -1, None), ("a", 0, None), ("high", 5, None), ("b", 0, None), ("highest", 5.5, None))
    assert drained(queue) == ["highest", "high", "a", "b", "low"]


# ---- groups


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_a_large_group_and_a_small_one_share_the_slots_evenly(slots):
    """10,000 jobs and 10 of another group: one each in turn, until the few are through."""
    queue = queue_of(*((("many", n), 0, "a") for n in range(10_000)), *((("few", n), 0, "b") for n in range(10)))
    running, order = deque(), []
    while len(order) < 20:
        while len(running) < slots:
            running.append(queue.pop())
            order.append(running[-1][0])
        queue.done(running.popleft())
    assert Counter(order[:20]) == {"many": 10, "few": 10}


def test_the_next_slot_goes_to_the_group_with_the_fewest_in_use():
    """Long jobs hold their slots: their group gets no more than its half of them."""
    queue = queue_of(*((f"long {n}", 0, "a") for n in range(6)), *((f"short {n}", 0, "b") for n in range(6)))
    assert [queue.pop() for _ in range(4)] == ["long 0", "short 0", "long 1", "short 1"]
    queue.done("short 0")
    assert queue.pop() == "short 2"
    queue.done("long 0")
    assert queue.pop() == "long 2"


def test_a_group_that_comes_late_gets_its_share_at_once():
    """It does not wait behind what came before, nor does it catch up on what it has missed."""
    queue = queue_of(*((f"a{n}", 0, "a") for n in range(9)))
    assert [queue.pop() for _ in range(4)] == ["a0", "a1", "a2", "a3"]
    for n in range(9):
        queue.push(f"b{n}", group="b")
    for n in range(4):
        queue.done(f"a{n}")
    assert [queue.pop() for _ in range(4)] == ["a4", "b0", "a5", "b1"]


def test_groups_share_within_a_priority_only():
    """Urgent is urgent, whoever has had more."""
    queue = queue_of(("a0", 1, "a"), ("a1", 1, "a"), ("b0", 0, "b"))
    assert drained(queue, ends=False) == ["a0", "a1", "b0"]


# ---- ageing


@pytest.mark.parametrize(("ahead", "ageing", "one_in"), [(10, 0.1, 101), (1, 0.1, 11), (10, 1, 11), (1, 1, 2)])
def test_an_endless_flood_leaves_one_slot_in_so_many(ahead, ageing, one_in):
    """d points more urgent work leaves one slot in d / ageing + 1."""
    queue = queue_of(*((f"low {n}", 0, None) for n in range(50)), ageing=ageing)
    served = []
    for number in range(one_in * 20):
        queue.push(number, priority=ahead)
        served.append(queue.pop())
        queue.done(served[-1])
    places = [place for place, item in enumerate(served) if isinstance(item, str)]
    assert len(places) == pytest.approx(20, abs=1)
    assert max(b - a for a, b in pairwise(places)) <= one_in + 1


def test_a_long_queue_that_is_served_gets_no_more_urgent():
    """An urgent job is next, even when ten thousand others have waited for hours."""
    queue = queue_of(*((n, 0, None) for n in range(10_000)), ageing=0.1)
    for number in range(9000):
        queue.done(queue.pop())
        if number % 100 == 0:
            queue.push(f"urgent {number}", priority=1)
            assert queue.pop() == f"urgent {number}"
            queue.done(f"urgent {number}")


def test_without_ageing_priorities_are_strict():
    """Whoever wants that gets it."""
    queue = queue_of(("low", 0, None))
    for number in range(1000):
        queue.push(number, priority=1e-6)
        assert queue.pop() == number
        queue.done(number)
    with pytest.raises(ValueError, match="ageing"):
        FairQueue(ageing=math.nan)


@given(st.lists(st.tuples(PRIORITIES, GROUPS), min_size=1, max_size=30), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_nothing_waits_for_ever(items, seed):
    """Whatever keeps coming, everything that waits now has had its slot after a bounded number of them."""
    queue = FairQueue(ageing=0.5)
    for number, (priority, group) in enumerate(items):
        queue.push(number, priority=priority, group=group)
    left = set(range(len(items)))
    for slot in range(len(items) * 60):
        queue.push(("flood", slot), priority=10, group=f"fresh {(slot + seed) % 7}")
        item = queue.pop()
        queue.done(item)
        left.discard(item)
    assert not left


# ---- places


@given(st.lists(st.tuples(PRIORITIES, GROUPS), min_size=1, max_size=25), st.data())
@settings(max_examples=60, deadline=None)
def test_refusals_change_no_order(items, data):
    """Several at once, answered in any order: all are back in their places, before everything younger."""
    named = [(number, *item) for number, item in enumerate(items)]
    undisturbed, queue = queue_of(*named), queue_of(*named)
    in_slots = [queue.pop() for _ in range(data.draw(st.integers(1, len(items))))]
    for item in data.draw(st.permutations(in_slots)):
        queue.put_back(item)
    assert len(queue) == len(items)
    assert drained(queue) == drained(undisturbed)


@given(st.lists(st.tuples(PRIORITIES, GROUPS), min_size=1, max_size=40), st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_position_is_how_many_go_before(items, ends, data):
    """Told for each that waits, after some have gone, and for one that would come now."""
    queue = queue_of(*((number, *item) for number, item in enumerate(items)))
    for item in data.draw(st.sets(st.sampled_from(range(len(items))), max_size=len(items) - 1)):
        queue.discard(item)
    priority, group = data.draw(st.tuples(PRIORITIES, GROUPS))
    expected = queue.ahead_of_new(priority=priority, group=group)
    queue.push("new", priority=priority, group=group)
    positions = {item: queue.ahead(item) for item in queue}
    assert positions["new"] == expected
    assert sorted(positions, key=positions.__getitem__) == drained(queue, ends=ends)
    assert sorted(positions.values()) == list(range(len(positions)))
    assert queue.ahead("new") is None


def test_a_position_far_back_is_exact():
    """Also where items are counted in blocks, with gaps in them."""
    queue = queue_of(*((n, 0, None) for n in range(5000)))
    for number in range(0, 4000, 3):
        queue.discard(number)
    assert queue.ahead(4500) == 4500 - len(range(0, 4000, 3))


def test_one_that_was_queued_before_is_refused():
    """One place each."""
    queue = queue_of(("a", 0, None))
    for _ in range(2):
        with pytest.raises(ValueError, match="already"):
            queue.push("a")
        queue.pop()


# ---- every item accounted for


class QueueMachine(RuleBasedStateMachine):
    """Any order of coming, going, refusals, cancellations and ends, next to plain sets."""

    def __init__(self):
        super().__init__()
        self.queue = FairQueue(ageing=0.1)
        self.waiting, self.in_slot, self.gone, self.facts = set(), set(), set(), {}

    @rule(priority=PRIORITIES, group=GROUPS)
    def push(self, priority, group):
        item = len(self.facts)
        self.facts[item] = (priority, group)
        self.queue.push(item, priority=priority, group=group)
        self.waiting.add(item)

    @rule()
    def pop(self):
        item = self.queue.pop()
        assert (item is None) == (not self.waiting)
        if item is not None:
            self.waiting.remove(item)
            self.in_slot.add(item)
            older = [other for other in self.waiting if self.facts[other] == self.facts[item] and other < item]
            assert not older

    @precondition(lambda self: self.in_slot)
    @rule(data=st.data())
    def refuse(self, data):
        item = data.draw(st.sampled_from(sorted(self.in_slot)))
        self.queue.put_back(item)
        self.in_slot.remove(item)
        self.waiting.add(item)

    @precondition(lambda self: self.in_slot)
    @rule(data=st.data())
    def end(self, data):
        item = data.draw(st.sampled_from(sorted(self.in_slot)))
        self.queue.done(item)
        self.queue.done(item)
        self.in_slot.remove(item)

    @precondition(lambda self: self.facts)
    @rule(data=st.data())
    def cancel(self, data):
        item = data.draw(st.sampled_from(sorted(self.facts)))
        self.queue.discard(item)
        self.waiting.discard(item)

    @invariant()
    def everybody_is_where_they_should_be(self):
        assert set(self.queue) == self.waiting
        assert len(self.queue) == len(self.waiting)
        in_use = sum(line.in_use for level in self.queue._levels.values() for line in level.lines.values())
        assert in_use == len(self.in_slot)

    def teardown(self):
        drained(self.queue)
        for item in self.in_slot:
            self.queue.done(item)
        assert not self.queue._levels
        assert not self.queue._tickets


QueueMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_every_item_is_accounted_for = QueueMachine.TestCase


def test_memory_follows_what_waits():
    """A million that came and went leave nothing; nor do groups and priorities that are used once."""
    queue = FairQueue()
    for number in range(3000):
        queue.push(number, priority=number % 100, group=str(number))
        queue.push(-number - 1)
        queue.discard(-number - 1) if number % 2 else queue.done(queue.pop())
    drained(queue)
    assert not queue._levels
    assert not queue._tickets
    assert len(queue._ranking._heap) <= 20


def test_a_ranking_forgets_old_places():
    """A member that moves about does not fill the heap."""
    ranking = Ranking()
    for key in range(1000):
        ranking.place("a", key)
        ranking.place("b", -key)
    assert (ranking.first(), len(ranking)) == ("b", 2)
    assert len(ranking._heap) <= 20
