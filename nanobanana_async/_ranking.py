"""A priority queue whose members may move and leave: a heap that skips what has gone stale. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

SLACK = 16  # entries that have gone stale in a heap before they are worth clearing out


class Ranking(Generic[T]):
    """Members by a key, smallest first, then first come. To change a key is to place the member again."""

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int, T]] = []
        self._entries: dict[T, tuple[Any, int, T]] = {}  # those that count; the others in the heap have gone stale
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def place(self, member: T, key: Any) -> None:
        """Put a member at `key`, wherever it was."""
        entry = self._entries.get(member)
        if entry is not None and entry[0] == key:
            return
        self._entries[member] = entry = (key, next(self._order), member)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + SLACK:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def remove(self, member: T) -> None:
        """Take a member out. Idempotent."""
        self._entries.pop(member, None)

    def first(self) -> T | None:
        """The member with the smallest key."""
        while self._heap:
            entry = self._heap[0]
            if self._entries.get(entry[-1]) is entry:
                return entry[-1]
            heapq.heappop(self._heap)
        return None
