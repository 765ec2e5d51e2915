"""What a batch tells while it runs: sums, and what happened to single rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ._journal_rows import Counts, JobState


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Sums of this moment. `running` and `queued` are this run's; the others are the batch's, earlier runs included.

    `unsettled` are uncertain or lost; `workers` are those of a distributed batch.
    `eta` is seconds, None while nothing can be said. `note` says what is waited for.
    """

    rows: int = 0
    stored: int = 0
    completed: int = 0
    failed: int = 0
    unsettled: int = 0
    running: int = 0
    queued: int = 0
    credits: int = 0
    limit: int | None = None
    eta: float | None = None
    note: str = ""
    workers: int | None = None

    @property
    def done(self) -> int:
        """Rows that need nothing more."""
        return self.stored + self.failed + self.unsettled


class BatchEventKind(StrEnum):
    """What happened."""

    PROGRESS = "progress"
    ROW = "row"  # a row ended, well or not
    NOTE = "note"  # something for people to know: no network, settling


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """One thing that happened; `index`, `state` and `message` where it was to a row."""

    kind: BatchEventKind
    progress: BatchProgress
    index: int | None = None
    state: JobState | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """How a run ended. `stopped_by` is what ended it early: an error, or None for the end of work or a `stop()`.

    `given_up`: the failed and lost rows that have had all their attempts, by state.
    """

    counts: Counts
    credits_used: int
    seconds: float
    doubtful_credits: int = 0
    interrupted: bool = False
    stopped_by: Exception | None = None
    given_up: Mapping[JobState, int] = field(default_factory=dict)

    @property
    def all_stored(self) -> bool:
        """Whether every row's images are on disk."""
        return self.counts.by_state[JobState.STORED].rows == self.counts.rows

    def rows(self, *states: JobState) -> int:
        """How many rows are in these states."""
        return sum(self.counts.by_state[state].rows for state in states)


@dataclass(slots=True)
class Tally:
    """Rows by state, kept up to date in memory so that progress costs no query."""

    by_state: dict[JobState, int] = field(default_factory=dict)
    rows: int = 0

    @classmethod
    def of(cls, counts: Counts) -> Tally:
        """The journal's counts as a start."""
        return cls({state: sums.rows for state, sums in counts.by_state.items()}, counts.rows)

    def move(self, before: JobState, after: JobState) -> None:
        """One row went from one state to another."""
        self.by_state[before] = self.by_state.get(before, 0) - 1
        self.by_state[after] = self.by_state.get(after, 0) + 1

    def count(self, *states: JobState) -> int:
        """Rows in these states."""
        return sum(self.by_state.get(state, 0) for state in states)
