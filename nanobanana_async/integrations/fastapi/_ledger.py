"""A job's ledger hooks: its record is written before anything else happens."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from ..._answers import Submission
from ..._job import Job, JobStatus
from ..._models import Generation, GenerationStatus
from ._records import JobRecord
from ._store import JobStore

_LOGGER = logging.getLogger(__name__)


class RecordLedger:
    """Keeps one record.

    `changed(record)` is called after every step, `lost(job_id)` when the job turns out not to be ours any more.
    """

    def __init__(
        self, record: JobRecord, store: JobStore, *, changed: Callable[[JobRecord], None], lost: Callable[[str], None]
    ) -> None:
        self._record = record
        self._store = store
        self._changed = changed
        self._lost = lost

    async def intend(self, job: Job) -> None:
        """Durable, or the job is cancelled: it is another worker's now, or was cancelled there."""
        if self._record.ended:
            return
        if not await self._store.begin(self._record):
            self._lost(job.id)
        self._changed(self._record)

    async def withdrawn(self, job: Job) -> None:
        """Refused, or never sent: it waits again."""
        if self._record.status == JobStatus.SUBMITTING.value:
            await self._store.withdraw(self._record)
            self._changed(self._record)

    async def accepted(self, job: Job, submission: Submission) -> None:
        """The id is durable. On a full disk it is in the log, and here for as long as this process lives."""
        self._record.accepted(submission.generation_id, submission.credits_used)
        await self._save_paid()

    async def finished(self, job: Job, generation: Generation) -> None:
        """The links and their end."""
        if generation.status is GenerationStatus.COMPLETED:
            self._record.learn(generation)
            await self._save_paid()

    async def stored(self, job: Job, files: list[Path]) -> None:
        """The images are in the app's own folder; to its caller the job has been complete before."""

    async def _save_paid(self) -> None:
        try:
            await self._store.save(self._record)
        except sqlite3.Error as error:
            _LOGGER.error("the record of paid generation %s is not written: %s", self._record.generation_id, error)
        self._changed(self._record)
