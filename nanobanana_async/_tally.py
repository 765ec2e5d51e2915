"""Where jobs are, and what became of them: pure counts, so that to ask costs the same for thousands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ._job import Job, JobStatus


@dataclass(frozen=True, slots=True)
class SchedulerStatistics:
    """Jobs by where they are, and what became of the others so far.

    `abandoned` were cancelled, but their generation still runs at the service; `cancelled` counts all that were.
    """

    queued: int
    submitting: int
    running: int
    downloading: int
    abandoned: int
    completed: int
    failed: int
    cancelled: int
    credits_used: int


class Tally:
    """Counts the jobs in slots from `began` to `left`, and how jobs ended, in slots or before."""

    def __init__(self) -> None:
        self._states: Counter[JobStatus] = Counter()  # of those in slots
        self._completed = self._failed = self._cancelled = self._credits_used = 0

    def began(self, job: Job) -> None:
        """It was given a slot."""
        self._states[job.status] += 1

    def moved(self, job: Job, before: JobStatus) -> None:
        """One in a slot has another status than `before`."""
        self._states[before] -= 1
        self._states[job.status] += 1

    def left(self, job: Job) -> None:
        """It goes back to the queue, or was watched to its end."""
        self._states[job.status] -= 1

    def charged(self, amount: int) -> None:
        """The service told what a job takes; fewer than 0 where it takes less than was told before."""
        self._credits_used += amount

    def ended(self, job: Job) -> None:
        """It has an outcome."""
        if job.error is None:
            self._completed += 1
        elif job.cancelled:
            self._cancelled += 1
        else:
            self._failed += 1

    def statistics(self, *, queued: int) -> SchedulerStatistics:
        """The numbers of this moment, with so many that wait."""
        states = self._states
        return SchedulerStatistics(
            queued=queued,
            submitting=states[JobStatus.SUBMITTING] + states[JobStatus.QUEUED],
            running=states[JobStatus.RUNNING],
            downloading=states[JobStatus.COMPLETED] + states[JobStatus.STORED],
            abandoned=states[JobStatus.CANCELLED],
            completed=self._completed,
            failed=self._failed,
            cancelled=self._cancelled,
            credits_used=self._credits_used,
        )
