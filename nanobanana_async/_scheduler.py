"""Who runs when: the queue, priorities, admission, close. Never talks HTTP.

One dispatcher waits for work, then for a slot, and only then picks the job: whoever is most urgent at the moment a
slot is free gets it. A refused job returns to its old place, which is before everything younger. Every job runs in
one task under the scheduler's own group, so that a user's cancellation never reaches into a submission.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from ._exceptions import (
    AuthenticationError,
    BlockedError,
    InsufficientCreditsError,
    NanoBananaError,
    PermissionDeniedError,
)
from ._job import Job, JobStatus
from ._limiter import Limiter, Slot
from ._pipeline import Refused

_LOGGER = logging.getLogger(__name__)

# What the account itself was refused for: the jobs that wait behind would only be refused as well.
_ACCOUNT_ERRORS = (AuthenticationError, InsufficientCreditsError, PermissionDeniedError, BlockedError)


class JobQueue:
    """Jobs by priority (higher first), then age. Cancelled ones leave at once."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Job]] = []
        self._places: dict[str, tuple[float, int]] = {}  # a job keeps its place through refusals
        self._waiting: set[str] = set()
        self._ages = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, job: Job) -> None:
        """Add a job, or put a refused one back where it was."""
        place = self._places.setdefault(job.id, (-job.priority, next(self._ages)))
        self._waiting.add(job.id)
        heapq.heappush(self._heap, (*place, job))

    def pop(self) -> Job | None:
        """Take the most urgent job."""
        while self._heap:
            job = heapq.heappop(self._heap)[-1]
            if job.id in self._waiting:
                self._waiting.remove(job.id)
                return job
        return None

    def forget(self, job: Job) -> None:
        """The job ended: it needs no place any more."""
        self._waiting.discard(job.id)
        self._places.pop(job.id, None)
        if len(self._heap) > 2 * len(self._waiting):
            self._heap = [entry for entry in self._heap if entry[-1].id in self._waiting]
            heapq.heapify(self._heap)

    def waiting(self) -> list[Job]:
        """The jobs that wait, in no order."""
        return [entry[-1] for entry in self._heap if entry[-1].id in self._waiting]


@dataclass(frozen=True, slots=True)
class SchedulerStatistics:
    """Jobs by where they are, and what became of the others so far.

    `abandoned` were cancelled, but their generation still runs at the service.
    """

    queued: int
    submitting: int
    running: int
    downloading: int
    abandoned: int
    completed: int
    failed: int
    credits_used: int


class Scheduler:
    """Feeds jobs to `run`, one slot each, until it is stopped. At most `max_queued` wait."""

    def __init__(
        self, limiter: Limiter, run: Callable[[Job, Slot], Awaitable[None]], *, max_queued: int = 10_000
    ) -> None:
        self._limiter = limiter
        self._run_in_slot = run
        self._room = asyncio.Semaphore(max_queued)
        self._newcomers: set[Job] = set()  # those that hold a place of `_room`: from their arrival to their first slot
        self._queue = JobQueue()
        self._live: set[Job] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed: set[asyncio.Future[None]] = set()
        self._completed = self._failed = self._credits_used = 0
        self._scope: anyio.CancelScope | None = None
        self._stopped = False

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Scheduler [jobs: {now.running + now.submitting} running, {now.queued} queued]>"

    async def serve(self) -> None:
        """Dispatch until stopped; whatever is left by then ends as JobCancelledError, its POST answered."""
        try:
            async with anyio.create_task_group() as jobs:
                self._scope = jobs.cancel_scope
                if self._stopped:
                    jobs.cancel_scope.cancel()
                await self._dispatch(jobs)
        except Exception:
            _LOGGER.exception("the scheduler stopped unexpectedly")
        finally:
            self._stopped = True
            for job in (*self._queue.waiting(), *self._live):
                job.cancel("the client was closed")
            self._wake()

    def stop(self) -> None:
        """Submit nothing more, and let `serve` come to its end. Idempotent."""
        self._stopped = True
        self._room.release()
        if self._scope is not None:
            self._scope.cancel()

    def abort(self) -> None:
        """Stop without waiting for the answers of submissions under way: they may be paid, and their ids are lost."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def enqueue(self, job: Job) -> None:
        """Add a job, waiting for room first. Cancelled while waiting, the job was never added."""
        await self._room.acquire()
        if self._stopped:
            self._room.release()  # the next one who waits shall hear of it as well
            raise RuntimeError("the client is closed; open a new one")
        self._newcomers.add(job)
        self._queue.push(job)
        job.add_done_callback(self._forget)  # at once, should it have been cancelled meanwhile
        self._wake()

    def statistics(self) -> SchedulerStatistics:
        """The jobs of this moment."""
        states = Counter(job.status for job in self._live)
        return SchedulerStatistics(
            queued=len(self._queue),
            submitting=states[JobStatus.SUBMITTING] + states[JobStatus.QUEUED],
            running=states[JobStatus.RUNNING],
            downloading=states[JobStatus.COMPLETED] + states[JobStatus.STORED],
            abandoned=states[JobStatus.CANCELLED],
            completed=self._completed,
            failed=self._failed,
            credits_used=self._credits_used,
        )

    async def idle(self) -> None:
        """Wait until no job waits, runs, or is watched to its end."""
        while self._queue or self._live:
            await self._change()

    # ---- dispatching

    async def _dispatch(self, jobs: TaskGroup) -> None:
        while True:
            while not self._queue:
                await self._change()
            self._start_next(jobs, await self._limiter.acquire())

    def _start_next(self, jobs: TaskGroup, slot: Slot) -> None:
        job = self._queue.pop()
        if job is None:  # cancelled, while a slot was waited for
            slot.release()
            return
        self._live.add(job)
        self._make_room(job)
        self._wake()
        jobs.start_soon(self._run, job, slot)

    async def _run(self, job: Job, slot: Slot) -> None:
        """One job in its slot; nothing but cancellation leaves here."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._run_in_slot(job, slot)
        except Refused:
            if not job.done():
                self._queue.push(job)
        except NanoBananaError as error:
            self._fail(job, error)
        except Exception as error:
            _LOGGER.exception("job %s met an unexpected error", job.id)
            job.fail(error)
        finally:
            slot.release()
            self._tasks.discard(task)
            self._live.discard(job)
            self._credits_used += job.credits_used or 0
            if self._stopped:
                job.cancel("the client was closed")
            self._wake()

    def _fail(self, job: Job, error: NanoBananaError) -> None:
        error.generation_id = error.generation_id or job.generation_id
        error.credits_used = error.credits_used if error.credits_used is not None else job.credits_used
        job.fail(error)
        if isinstance(error, _ACCOUNT_ERRORS) and job.generation_id is None:
            for waiting in self._queue.waiting():
                waiting.fail(_not_sent(error))

    def _make_room(self, job: Job) -> None:
        if job in self._newcomers:
            self._newcomers.remove(job)
            self._room.release()

    def _forget(self, job: Job) -> None:
        self._make_room(job)
        self._queue.forget(job)
        if job.error is None:
            self._completed += 1
        else:
            self._failed += 1
        self._wake()

    # ---- waiting

    async def _change(self) -> None:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.add(change)
        try:
            await change
        finally:
            self._changed.discard(change)

    def _wake(self) -> None:
        for change in self._changed:
            if not change.done():
                change.set_result(None)


def _not_sent(error: NanoBananaError) -> NanoBananaError:
    """The same refusal, for a job that was not even sent."""
    copied = copy.copy(error)
    copied.args = (f"not sent, because a job before it met: {error}",)
    copied.generation_id, copied.credits_used = None, None
    return copied
