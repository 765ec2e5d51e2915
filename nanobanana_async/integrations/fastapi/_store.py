"""Where jobs are remembered: SQLite, in memory for one process, or in a file for all workers of a host.

Every call runs on one thread of its own, in order, so the event loop never waits for a disk, and a write that nobody
awaits is still seen by the next read. What decides about money is one statement each: a job is begun only by the
worker that holds it, and only while it is queued, whatever another worker does at that moment.

A worker proves with its beat that it lives. A job whose worker beats no more is an orphan: `adopt` hands it over.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ..._job import JobStatus
from .._sqlite_file import open_shared
from ._records import JobRecord

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
SILENCE_SECONDS = 15.0  # a worker that was not heard for so long is gone; a busy one misses a beat or two
BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, worker TEXT NOT NULL, status TEXT NOT NULL,
    created REAL NOT NULL, ended REAL, position INTEGER, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_of_owner ON jobs (owner, created);
CREATE INDEX IF NOT EXISTS ended_jobs ON jobs (ended) WHERE ended IS NOT NULL;
CREATE INDEX IF NOT EXISTS open_jobs ON jobs (worker) WHERE ended IS NULL;
CREATE TABLE IF NOT EXISTS workers (id TEXT PRIMARY KEY, beat REAL NOT NULL) WITHOUT ROWID;
"""
_ORPHAN = "ended IS NULL AND worker NOT IN (SELECT id FROM workers WHERE beat > ?)"


class JobStore:
    """Open with `async with`. `path` None keeps it in memory.

    At most `max_finished` ended jobs are remembered, for `keep_seconds`.
    """

    def __init__(self, path: Path | None, worker: str, *, max_finished: int, keep_seconds: float) -> None:
        self.shared = path is not None
        self._path = path
        self._worker = worker
        self._max_finished = max_finished
        self._keep_seconds = keep_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nanobanana jobs")
        self._db: sqlite3.Connection

    async def __aenter__(self) -> Self:
        try:
            await self._call(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = self._thread.submit(self._close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closing))

    # ---- one job

    async def add(self, record: JobRecord) -> None:
        """Remember a new job, and forget the oldest ended ones."""
        row = (record.id, record.owner, self._worker, record.status, record.created_at, record.ended_at, record.dump())
        await self._call(lambda: self._add(row))

    async def get(self, job_id: str, owner: str) -> tuple[JobRecord, int | None] | None:
        """A job of this owner, and the jobs ahead of it as its worker last told."""
        query = "SELECT record, position FROM jobs WHERE id = ? AND owner = ?"
        row = await self._call(lambda: self._db.execute(query, (job_id, owner)).fetchone())
        return None if row is None else (JobRecord.load(row[0]), row[1])

    async def newest(self, owner: str, count: int) -> list[JobRecord]:
        """An owner's newest jobs, the newest first."""
        query = "SELECT record FROM jobs WHERE owner = ? ORDER BY created DESC LIMIT ?"
        rows = await self._call(lambda: self._db.execute(query, (owner, count)).fetchall())
        return [JobRecord.load(text) for (text,) in rows]

    async def recent(self, owner: str, since: float, count: int = 100) -> list[tuple[JobRecord, int | None]]:
        """An owner's jobs that are open or have ended since then, the newest first, with the jobs ahead of each."""
        query = (
            "SELECT record, position FROM jobs WHERE owner = ? AND (ended IS NULL OR ended > ?) "
            "ORDER BY created DESC LIMIT ?"
        )
        rows = await self._call(lambda: self._db.execute(query, (owner, since, count)).fetchall())
        return [(JobRecord.load(text), position) for text, position in rows]

    async def begin(self, record: JobRecord) -> bool:
        """Durable before a byte is sent: this worker submits the job. False when it is no longer ours, or cancelled."""
        return await self._move(record, JobStatus.QUEUED, JobStatus.SUBMITTING)

    async def withdraw(self, record: JobRecord) -> bool:
        """Nothing was taken: it waits again. False when it is no longer ours."""
        return await self._move(record, JobStatus.SUBMITTING, JobStatus.QUEUED)

    async def cancel(self, record: JobRecord) -> bool:
        """End a job that another worker holds; True when it had not begun."""
        statement = "UPDATE jobs SET status = ?, ended = ?, record = ? WHERE id = ? AND status = ?"
        row = (record.status, record.ended_at, record.dump(), record.id, JobStatus.QUEUED.value)
        return await self._call(lambda: self._db.execute(statement, row).rowcount == 1)

    async def save(self, record: JobRecord) -> None:
        """Durable when this returns."""
        await self._call(self._saving(record))

    def save_later(self, record: JobRecord) -> None:
        """The same, without waiting; every later read sees it."""
        self._later(self._saving(record))

    async def delete(self, record: JobRecord) -> None:
        """A job that was never queued."""
        await self._call(lambda: self._db.execute("DELETE FROM jobs WHERE id = ?", (record.id,)))

    # ---- workers

    async def beat(self, positions: dict[str, int]) -> set[str]:
        """This worker lives, and its queued jobs stand at `positions`. Returns those that were cancelled elsewhere."""
        return await self._call(lambda: self._beat(positions))

    async def adopt(self) -> list[JobRecord]:
        """Take over the jobs of workers that have gone."""
        return await self._call(self._adopt)

    def leave(self) -> None:
        """This worker goes: others may take over at once."""
        self._later(lambda: self._db.execute("DELETE FROM workers WHERE id = ?", (self._worker,)))

    # ---- on the thread

    async def _move(self, record: JobRecord, before: JobStatus, after: JobStatus) -> bool:
        record.status = after.value
        statement = "UPDATE jobs SET status = ?, record = ? WHERE id = ? AND worker = ? AND status = ?"
        row = (record.status, record.dump(), record.id, self._worker, before.value)
        return await self._call(lambda: self._db.execute(statement, row).rowcount == 1)

    async def _call(self, work: Callable[[], T]) -> T:
        """Run to the end even when whoever asked goes away."""
        return await asyncio.shield(asyncio.wrap_future(self._thread.submit(work)))

    def _later(self, work: Callable[[], object]) -> None:
        self._thread.submit(work).add_done_callback(_log_failure)

    def _open(self) -> None:
        if self._path is None:
            self._db = sqlite3.connect(":memory:", isolation_level=None)
            self._db.executescript(_SCHEMA)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = open_shared(self._path, _SCHEMA, synchronous="FULL", busy_seconds=BUSY_SECONDS)
        self._prune()

    def _close(self) -> None:
        self._db.close()

    def _add(self, row: tuple[object, ...]) -> None:
        self._db.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, NULL, ?)", row)
        self._prune()

    def _saving(self, record: JobRecord) -> Callable[[], object]:
        statement = "UPDATE jobs SET status = ?, ended = ?, record = ?, position = NULL WHERE id = ?"
        row = (record.status, record.ended_at, record.dump(), record.id)
        return lambda: self._db.execute(statement, row)

    def _prune(self) -> None:
        self._db.execute("DELETE FROM jobs WHERE ended < ?", (time.time() - self._keep_seconds,))
        count = "SELECT count(*) FROM jobs WHERE ended IS NOT NULL"
        surplus = self._db.execute(count).fetchone()[0] - self._max_finished
        if surplus > 0:
            oldest = "SELECT id FROM jobs WHERE ended IS NOT NULL ORDER BY ended LIMIT ?"
            self._db.execute(f"DELETE FROM jobs WHERE id IN ({oldest})", (surplus,))

    def _beat(self, positions: dict[str, int]) -> set[str]:
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?)", (self._worker, time.time()))
            rows = [(position, job_id) for job_id, position in positions.items()]
            self._db.executemany("UPDATE jobs SET position = ? WHERE id = ? AND ended IS NULL", rows)
            query = "SELECT id FROM jobs WHERE worker = ? AND ended IS NOT NULL AND id = ?"
            return {job_id for job_id in positions if self._db.execute(query, (self._worker, job_id)).fetchone()}

    def _adopt(self) -> list[JobRecord]:
        since = time.time() - SILENCE_SECONDS
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?)", (self._worker, time.time()))
            rows = self._db.execute(f"SELECT status, record FROM jobs WHERE {_ORPHAN}", (since,)).fetchall()
            self._db.execute(f"UPDATE jobs SET worker = ? WHERE {_ORPHAN}", (self._worker, since))
            self._db.execute("DELETE FROM workers WHERE beat <= ?", (since,))
        records = [JobRecord.load(text) for _, text in rows]
        for record, (status, _) in zip(records, rows, strict=True):
            record.status = status
        return records


def _log_failure(done: Future[object]) -> None:
    if error := done.exception():
        _LOGGER.error("a job's record could not be written: %s", error, exc_info=error)
