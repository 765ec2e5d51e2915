"""The coordinator's watch: sums over all workers, and what became of rows, taken over into the journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from ..._exceptions import NanoBananaError
from ...batch._brake import Brake
from ...batch._events import BatchEvent, BatchEventKind, BatchProgress
from ...batch._journal import Journal
from ...batch._journal_rows import JobState
from ._beside import beside
from ._book import BatchState, Book, Change
from ._shard import ENDED
from ._sweeping import Kick, Sweeper

LOOK_INTERVAL = 0.2  # seconds between looks at the sums
PAGE = 500  # changes taken over at once
NO_WORKERS_AFTER = 2.0  # seconds without any before that is told
_FAILED = ("failed", "rejected", "expired")
_UNSETTLED = ("uncertain", "lost")


class Watch:
    """Looks at one batch until it is over."""

    PATIENCE = 15.0  # seconds for a message to reach a worker, before it is sent again

    def __init__(
        self,
        book: Book,
        journal: Journal,
        *,
        brake: Brake,
        on_event: Callable[[BatchEvent], None] | None,
        kick: Kick,
        server: str,
    ) -> None:
        self.over = False
        self._book = book
        self._journal = journal
        self._brake = brake
        self._on_event = on_event
        self._sweeper = Sweeper(book, kick, patience=self.PATIENCE)
        self._state: BatchState | None = None
        self._note = ""
        self._no_worker = f"no worker is there; start some with: nanobanana worker {server}"
        self._began = self._seen = time.monotonic()
        self._done_before = -1

    async def until_over(self, batch: str) -> str | None:
        """Look again and again; returns why the batch stopped, if that ended it. Raises: BookError, JournalError."""
        async with beside(self._sweeper.run()):
            return await self._look_on(batch)

    async def take_over(self, batch: str) -> bool:
        """Write changed rows into the journal; whether there may be more."""
        changes = await self._book.changed(batch, PAGE)
        if changes:
            await self._journal.mirror([change.record.snapshot(change.index) for change in changes])
            await self._book.noticed(batch, changes[-1].number)
            self._tell(changes)
        return len(changes) == PAGE

    def progress(self) -> BatchProgress:
        """The sums of this moment."""
        state = self._state
        if state is None:
            return BatchProgress(note=self._note)
        rows = state.rows
        return BatchProgress(
            rows=sum(rows.values()),
            stored=rows.get("stored", 0),
            completed=rows.get("completed", 0),
            failed=sum(rows.get(name, 0) for name in _FAILED),
            unsettled=sum(rows.get(name, 0) for name in _UNSETTLED),
            running=rows.get("running", 0) + rows.get("intent", 0),
            queued=rows.get("ready", 0),
            credits=state.base + state.spent,
            eta=self._eta(state),
            note=self._note,
            workers=state.workers,
        )

    # ---- inside

    async def _look_on(self, batch: str) -> str | None:
        while not self._brake.pulled:
            state = self._state = await self._book.state(batch)
            more = await self.take_over(batch)
            self._look_for_workers(state)
            self._emit(BatchEventKind.PROGRESS)
            if not more and state.over:
                self.over = True
                return None
            if not more and state.stopped and not state.busy:
                return state.stopped
            if not more:
                await self._brake.rest(LOOK_INTERVAL)
        with suppress(NanoBananaError):
            await self.take_over(batch)
        return None

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            if change.record.state in ENDED and change.record.state is not JobState.STORED:
                self._emit(BatchEventKind.ROW, change.index, change.record.state, change.record.error or "")

    def _look_for_workers(self, state: BatchState) -> None:
        now = time.monotonic()
        if state.workers:
            self._seen = now
        note = self._no_worker if now - self._seen > NO_WORKERS_AFTER else ""
        if note != self._note:
            self._note = note
            self._emit(BatchEventKind.NOTE, message=note)

    def _eta(self, state: BatchState) -> float | None:
        rows = state.rows
        done = sum(rows.get(one.value, 0) for one in ENDED)
        if self._done_before < 0:
            self._done_before, self._began = done, time.monotonic()
        new, left = done - self._done_before, sum(rows.values()) - done
        return left * (time.monotonic() - self._began) / new if new > 0 else None

    def _emit(
        self, kind: BatchEventKind, index: int | None = None, state: JobState | None = None, message: str = ""
    ) -> None:
        if self._on_event is not None:
            self._on_event(BatchEvent(kind, self.progress(), index, state, message))
