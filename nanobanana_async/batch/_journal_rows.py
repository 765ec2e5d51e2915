"""The journal's values: the states of a job, a job as the runner needs it, and sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from .._models import GenerateRequest


class JobState(StrEnum):
    """Where a job is, as the journal knows it."""

    READY = "ready"  # to be sent
    INTENT = "intent"  # may be on its way
    RUNNING = "running"  # accepted, paid
    COMPLETED = "completed"  # its links are known
    STORED = "stored"  # its files are on disk
    FAILED = "failed"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"  # may be paid and running
    LOST = "lost"  # paid, its id unknown
    EXPIRED = "expired"


ASIDE = frozenset({JobState.FAILED, JobState.REJECTED, JobState.UNCERTAIN, JobState.LOST, JobState.EXPIRED})


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One job as the runner needs it. `cost` is reserved; `credits` were taken by the present attempt.

    Reference images come back as they are stored: links, data URIs and paths, all of them strings.
    """

    index: int
    line: int
    key: str | None
    request: GenerateRequest
    extra: dict[str, Any]
    state: JobState
    attempts: int
    generation_id: str | None
    cost: int | None
    credits: int | None
    urls: tuple[str, ...]
    expires_at: datetime | None
    created_at: datetime | None
    files: tuple[str, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the rows of an input: new ones, known ones, and (with dedupe) those left out."""

    added: int = 0
    known: int = 0
    duplicates: int = 0


@dataclass(slots=True)
class StateCounts:
    """Sums over the rows of one state. `credits` of all their attempts; `reserved` are not settled yet."""

    rows: int = 0
    images: int = 0
    credits: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over a batch: `counts.by_state[JobState.READY].rows`, `counts.rows`, `counts.credits`."""

    by_state: dict[JobState, StateCounts] = field(default_factory=lambda: {state: StateCounts() for state in JobState})

    @property
    def rows(self) -> int:
        """Jobs in all."""
        return sum(state.rows for state in self.by_state.values())

    @property
    def images(self) -> int:
        """Images asked for."""
        return sum(state.images for state in self.by_state.values())

    @property
    def credits(self) -> int:
        """Credits that the service says it took, failed attempts included."""
        return sum(state.credits for state in self.by_state.values())

    @property
    def reserved(self) -> int:
        """Credits of attempts whose price was not told: on their way, running, or in doubt."""
        return sum(state.reserved for state in self.by_state.values())
