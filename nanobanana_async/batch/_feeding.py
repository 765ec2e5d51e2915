"""Which row comes next: in the input's order, a width of them under way at once; those sent back come first."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable

from ._brake import Brake
from ._journal_rows import JobState, JournalRow
from ._seams import RowJournal

PAGE = 64  # rows read from the journal at a time
EARLIER_WIDTH = 256  # rows of an earlier run under way at once: nothing is sent before all of them are


class Feed:
    """Hands out rows in some states, each of them once, until the brake is pulled.

    The journal is read forwards only, beyond every row that was handed out, so what it tells of a row is never older
    than what is done with it. A row that has to be sent again is read anew, by its index. `once`: rows that come into
    these states after the others were handed out are left to whoever brought them there.
    """

    def __init__(
        self, journal: RowJournal, brake: Brake, *states: JobState, width: Callable[[], int], once: bool = False
    ) -> None:
        self._journal = journal
        self._brake = brake
        self._states = states
        self._width = width
        self._page: deque[JournalRow] = deque()
        self._cursor = -1
        self._again: list[int] = []
        self._under_way: set[int] = set()
        self._changed = asyncio.Event()
        self._once = once
        self._handed_out = asyncio.Event()
        brake.on_pull(self.wake)
        brake.on_pull(self._handed_out.set)

    def __repr__(self) -> str:
        return f"<Feed of {'/'.join(self._states)} rows [{len(self._under_way)} under way, {len(self._again)} again]>"

    async def next(self) -> JournalRow | None:
        """The next row, once there is room for it; None when there is none any more, or the journal can't be read."""
        while not self._brake.pulled:
            self._changed.clear()  # before the journal is read: what changes meanwhile must be seen
            if len(self._under_way) < self._width():
                try:
                    row = await self._read()
                except Exception as error:  # not to be raised, which would cancel the rows that run
                    self._brake.pull(error)
                    return None
                if self._brake.pulled:  # meanwhile
                    return None
                if row is not None:
                    self._under_way.add(row.index)
                    return row
                if not self._under_way and not self._again:
                    return None
            await self._changed.wait()
        return None

    async def handed_out(self) -> None:
        """Wait until all rows of a feed that is read `once` were handed out."""
        await self._handed_out.wait()

    async def all_done(self) -> None:
        """Wait until no row is under way any more."""
        while self._under_way:
            self._changed.clear()
            await self._changed.wait()

    def done(self, index: int, *, again: bool = False) -> None:
        """A row is not under way any more; `again` sends it back to be handed out once more."""
        self._under_way.discard(index)
        if again:
            heapq.heappush(self._again, index)
        self.wake()

    def wake(self) -> None:
        """The width may have changed."""
        self._changed.set()

    async def _read(self) -> JournalRow | None:
        while self._again:
            index = heapq.heappop(self._again)
            for row in await self._journal.unfinished(*self._states, limit=1, after=index - 1):
                if row.index == index:
                    return row
        if not self._page and not self._handed_out.is_set():
            self._page.extend(await self._journal.unfinished(*self._states, limit=PAGE, after=self._cursor))
        if not self._page:
            if self._once:
                self._handed_out.set()
            return None
        row = self._page.popleft()
        self._cursor = row.index
        return row
