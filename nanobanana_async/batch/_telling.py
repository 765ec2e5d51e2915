"""Tells whoever listens how a batch is doing."""

from __future__ import annotations

import time
from collections.abc import Callable

from .._client import Client
from .._learned import LearnedPlan
from ._budget import Budget
from ._events import BatchEvent, BatchEventKind, BatchProgress, Tally
from ._journal_rows import Counts, JobState, JournalRow

_DONE = (JobState.STORED, JobState.FAILED, JobState.REJECTED, JobState.EXPIRED, JobState.LOST, JobState.UNCERTAIN)


class Teller:
    """Keeps the sums in memory, so that progress costs no query. `on_event` hears of every change."""

    def __init__(self, client: Client, on_event: Callable[[BatchEvent], None] | None) -> None:
        self._client = client
        self.on_event = on_event
        self._tally = Tally()
        self._states: dict[int, JobState] = {}  # of the rows under way
        self._budget = Budget(None)
        self._note = ""
        self.news = 0  # changes so far
        self._started_at = time.monotonic()
        self._done_before = 0

    def start(self, counts: Counts, budget: Budget) -> None:
        """A run begins with these sums."""
        self._tally = Tally.of(counts)
        self._budget = budget
        self._started_at = time.monotonic()
        self._done_before = self._tally.count(*_DONE)
        self._emit(BatchEventKind.PROGRESS)

    # ---- rows

    def begin(self, row: JournalRow) -> None:
        """A row is under way."""
        self._states[row.index] = row.state

    def moved(self, index: int, state: JobState) -> None:
        """A row under way changed its state, silently."""
        before = self._states.get(index)
        if before is not None:
            self.news += 1
            self._tally.move(before, state)
            self._states[index] = state

    def ended(self, index: int, state: JobState, message: str = "") -> None:
        """A row is as far as this run can take it."""
        self.moved(index, state)
        self._emit(BatchEventKind.ROW, index, state, message)

    def doubts(self, index: int, message: str) -> None:
        """A row's answer was lost."""
        self._emit(BatchEventKind.ROW, index, JobState.INTENT, message)

    def leave(self, index: int) -> None:
        """A row is not under way any more."""
        self._states.pop(index, None)

    # ---- people

    def say(self, note: str) -> None:
        """Something for people to know, until it is replaced or taken back by an empty one."""
        if note != self._note:
            self._note = note
            self._emit(BatchEventKind.NOTE, message=note)

    def progress(self) -> BatchProgress:
        """The sums of this moment."""
        now, tally = self._client.statistics(), self._tally
        return BatchProgress(
            rows=tally.rows,
            stored=tally.count(JobState.STORED),
            completed=tally.count(JobState.COMPLETED),
            failed=tally.count(JobState.FAILED, JobState.REJECTED, JobState.EXPIRED),
            unsettled=tally.count(JobState.UNCERTAIN, JobState.LOST),
            running=now.submitting + now.running,
            queued=tally.count(JobState.READY, JobState.INTENT),
            credits=self._budget.spent,
            limit=now.limit,
            eta=self._eta(),
            note=self._note,
        )

    def _eta(self) -> float | None:
        """From how fast rows get done; before every slot has done one, from how long generations take."""
        done = self._tally.count(*_DONE) - self._done_before
        left = self._tally.rows - self._tally.count(*_DONE, JobState.COMPLETED)
        plan, limit = self._client.plan, self._client.limit
        length = plan.mean_length if limit and done < limit and isinstance(plan, LearnedPlan) else None
        if limit and length is not None:
            return left * length / limit
        return left * (time.monotonic() - self._started_at) / done if done > 0 else None

    def _emit(
        self, kind: BatchEventKind, index: int | None = None, state: JobState | None = None, message: str = ""
    ) -> None:
        if self.on_event is not None:
            self.on_event(BatchEvent(kind, self.progress(), index, state, message))
