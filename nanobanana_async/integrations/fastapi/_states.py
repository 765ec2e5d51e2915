"""A job at one moment: its record, and what only this moment tells."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..._client import Client
from ..._job import JobStatus
from ._places import Live, Places
from ._progress import Lengths
from ._receipts import Receipts
from ._records import JobRecord


@dataclass(frozen=True, slots=True)
class JobState:
    """`position` is how many are ahead of it, `expected_wait` seconds, `progress` percent."""

    record: JobRecord
    receipt: str | None = None
    position: int | None = None
    expected_wait: float | None = None
    progress: float = 0.0


class States:
    """Tells the states of jobs, those of this worker and others."""

    def __init__(self, client: Client, places: Places, receipts: Receipts) -> None:
        self.lengths = Lengths()
        self._client = client
        self._places = places
        self._receipts = receipts

    def of_live(self, live: Live) -> JobState:
        """Of a job that runs or waits here."""
        return self.of(live.record, self._places.of(live.record.id), live.progress)

    def of(self, record: JobRecord, position: int | None = None, progress: float = 0.0) -> JobState:
        """Of any job; `position` and `progress` as its own worker told them."""
        receipt = self._receipts.write(record.generation_id, record.owner) if record.generation_id else None
        if record.completed:
            return JobState(record, receipt, progress=100.0)
        if record.status == JobStatus.QUEUED.value:
            return JobState(record, receipt, position, self._wait(position))
        if record.status == JobStatus.RUNNING.value and record.started_at and record.mode != "stream":
            progress = self.lengths.progress(time.time() - record.started_at)
        return JobState(record, receipt, progress=progress)

    def _wait(self, ahead: int | None) -> float | None:
        return None if ahead is None else self.lengths.wait(ahead, self._client.limit)
