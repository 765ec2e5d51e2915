"""Who goes next: by priority, then a fair share between groups, then age. Pure.

Theory of operation
-------------------
* *Levels.* Items of one priority are a level, and the next slot goes to the highest level. For every slot that passes
  a level over, it rises by `ageing` points; once served, it falls back to its own priority. So an endless stream of
  work that is d points more urgent leaves it one slot in d / ageing + 1, and nothing waits for ever. What rises is a
  level that gets nothing, not a job that waits long: a batch that is being served never gets ahead of an urgent job,
  however long its queue is. Slots are the clock, so that this holds for models that take a second or ten minutes.
* *Lines.* Inside a level every group has a line, and the lines share the slots by max-min fairness: the next one goes
  to the line with the fewest in use, and among equals round robin, to the one that has waited longest for its turn.
* *Age.* Inside a line it is first come, first served. A refused item goes back to its old place, and its line and
  level to theirs.

An item is waiting, then in a slot, then gone; a refusal leads back to waiting, and nothing else does. Every step costs
O(log n), whatever the numbers of items, groups and priorities.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ._ranking import SLACK, Ranking

T = TypeVar("T", bound=Hashable)

AGEING = 0.1  # points a slot: ten points more urgent leave one slot in 101, one point one in 11
BLOCK = 1024  # items counted together, so that to count those ahead is quick in a line of a million


class FairQueue(Generic[T]):
    """Items by priority (higher first), fairly between groups, then by age; see the theory of operation."""

    def __init__(self, *, ageing: float = AGEING) -> None:
        if not ageing >= 0:
            raise ValueError(f"ageing must be 0 or more points a slot (got {ageing})")
        self._ageing = ageing
        self._levels: dict[float, _Level[T]] = {}
        self._ranking: Ranking[_Level[T]] = Ranking()  # of the levels that wait
        self._tickets: dict[T, _Ticket] = {}
        self._waiting = 0
        self._given = 0  # slots so far: the time by which levels age
        self._numbers = itertools.count()
        self._turns = itertools.count()

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    def __iter__(self) -> Iterator[T]:
        """Those that wait, in no order."""
        return (item for item, ticket in self._tickets.items() if not ticket.in_slot)

    @property
    def priority(self) -> float:
        """Of the one that goes next; only while some wait."""
        level = self._ranking.first()
        assert level is not None
        return level.priority

    def push(self, item: T, *, priority: float = 0, group: str | None = None) -> None:
        """Add a new item, behind the others of its group. Raises: ValueError for one that is here already."""
        if item in self._tickets:
            raise ValueError(f"{item} is in the queue or in a slot already")
        self._tickets[item] = ticket = _Ticket(priority, group, next(self._numbers))
        self._enter(item, ticket, stamp=self._given, turn=next(self._turns))

    def pop(self) -> T | None:
        """Take the one that goes next; it uses a slot until `done` or `put_back`."""
        level = self._ranking.first()
        if level is None:
            return None
        line = level.next_line()
        item = line.take()
        self._count(level, -1)
        ticket = self._tickets[item]
        ticket.in_slot, ticket.stamp, ticket.turn = True, level.stamp, line.turn
        self._given += 1
        line.in_use += 1
        level.stamp, line.turn = self._given, next(self._turns)
        self._rank(level, line)
        return item

    def put_back(self, item: T) -> None:
        """Its slot was refused: it waits again, where it was, and nobody was passed over."""
        ticket = self._tickets[item]
        self._given -= 1
        ticket.in_slot = False
        self._enter(item, ticket, stamp=ticket.stamp, turn=ticket.turn, freed=1)

    def done(self, item: T) -> None:
        """Its slot is free again. Idempotent."""
        ticket = self._tickets.get(item)
        if ticket is None or not ticket.in_slot:
            return
        del self._tickets[item]
        level = self._levels[ticket.priority]
        line = level.lines[ticket.group]
        line.in_use -= 1
        self._rank(level, line)

    def discard(self, item: T) -> None:
        """It waits no more; one that is in a slot, or unknown, is left alone."""
        ticket = self._tickets.get(item)
        if ticket is None or ticket.in_slot:
            return
        del self._tickets[item]
        level = self._levels[ticket.priority]
        line = level.lines[ticket.group]
        line.remove(ticket.number)
        self._count(level, -1)
        self._rank(level, line)

    def ahead(self, item: T) -> int | None:
        """How many will go before one that waits, should nothing change; None when it does not wait.

        Ageing is left out. Takes a step for each priority, for each group of its own, and for each 1024 of its group.
        """
        ticket = self._tickets.get(item)
        if ticket is None or ticket.in_slot:
            return None
        line = self._levels[ticket.priority].lines[ticket.group]
        return self._before(ticket.priority, line, line.ahead(ticket.number))

    def ahead_of_new(self, *, priority: float = 0, group: str | None = None) -> int:
        """How many would go before one that came now."""
        level = self._levels.get(priority)
        line = level.lines.get(group) if level is not None else None
        return self._before(priority, line, len(line) if line is not None else 0)

    # ---- inside

    def _enter(self, item: T, ticket: _Ticket, *, stamp: int, turn: int, freed: int = 0) -> None:
        """Wait, as since `stamp` and `turn` unless others of the level and the line have waited for longer."""
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = _Level(ticket.priority, stamp)
        line = level.lines.get(ticket.group)
        if line is None:
            line = level.lines[ticket.group] = _Line(ticket.group)
        level.stamp = min(level.stamp, stamp) if level.waiting else stamp
        line.turn = min(line.turn, turn) if len(line) else turn
        line.in_use -= freed
        line.add(ticket.number, item)
        self._count(level, 1)
        self._rank(level, line)

    def _count(self, level: _Level[T], more: int) -> None:
        level.waiting += more
        self._waiting += more

    def _rank(self, level: _Level[T], line: _Line[T]) -> None:
        """Put a line and a level that have changed where they belong; forget those that hold nothing."""
        level.rank(line)
        if level.waiting:
            self._ranking.place(level, self._ageing * level.stamp - level.priority)
        else:
            self._ranking.remove(level)
        if not level.lines:
            del self._levels[level.priority]

    def _before(self, priority: float, line: _Line[T] | None, ahead: int) -> int:
        """Everything more urgent; `ahead` of its own group; and in those rounds one of each other group."""
        urgent = sum(level.waiting for other, level in self._levels.items() if other > priority)
        level = self._levels.get(priority)
        if level is None:
            return urgent
        mine = (line.in_use if line is not None else 0, line.turn if line is not None and len(line) else math.inf)
        others = (other for other in level.lines.values() if other is not line)
        return urgent + ahead + sum(min(len(other), ahead + (other.key < mine)) for other in others)


class _Level(Generic[T]):
    """Everything of one priority."""

    def __init__(self, priority: float, stamp: int) -> None:
        self.priority = priority
        self.stamp = stamp  # the slot since which it has waited for one
        self.waiting = 0
        self.lines: dict[str | None, _Line[T]] = {}
        self._ranking: Ranking[_Line[T]] = Ranking()  # of the lines that wait

    def next_line(self) -> _Line[T]:
        """Whose turn it is; only while some wait."""
        line = self._ranking.first()
        assert line is not None
        return line

    def rank(self, line: _Line[T]) -> None:
        """Put a line that has changed where it belongs; one that holds nothing is forgotten."""
        if len(line):
            self._ranking.place(line, line.key)
        else:
            self._ranking.remove(line)
            if not line.in_use:
                del self.lines[line.group]


class _Line(Generic[T]):
    """One group's items of one priority, by their numbers."""

    def __init__(self, group: str | None) -> None:
        self.group = group
        self.in_use = 0
        self.turn = 0
        self._items: dict[int, T] = {}
        self._numbers: list[int] = []  # a heap, with numbers that have left
        self._blocks: dict[int, int] = {}  # how many are in each block of numbers

    def __len__(self) -> int:
        return len(self._items)

    @property
    def key(self) -> tuple[int, int]:
        """The smallest goes next."""
        return self.in_use, self.turn

    def add(self, number: int, item: T) -> None:
        self._items[number] = item
        heapq.heappush(self._numbers, number)
        block = number // BLOCK
        self._blocks[block] = self._blocks.get(block, 0) + 1

    def take(self) -> T:
        """The oldest, which leaves."""
        while (number := heapq.heappop(self._numbers)) not in self._items:
            pass
        return self._leave(number)

    def remove(self, number: int) -> None:
        self._leave(number)
        if len(self._numbers) > 2 * len(self._items) + SLACK:
            self._numbers = sorted(self._items)

    def ahead(self, number: int) -> int:
        """How many are older."""
        block = number // BLOCK
        older = sum(count for other, count in self._blocks.items() if other < block)
        return older + sum(other in self._items for other in range(block * BLOCK, number))

    def _leave(self, number: int) -> T:
        block = number // BLOCK
        self._blocks[block] -= 1
        if not self._blocks[block]:
            del self._blocks[block]
        return self._items.pop(number)


@dataclass(slots=True)
class _Ticket:
    """One item's place: what it goes back to when its slot is refused."""

    priority: float
    group: str | None
    number: int
    in_slot: bool = False
    stamp: int = 0
    turn: int = 0
