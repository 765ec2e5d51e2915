"""A job: one request on its way to images. Its states, who may change them, and the ledger that is told.

    queued → submitting → running → completed → stored
       ↑         │           │           └→ expired: its links ended before the download
       └─────────┤ refused   └→ failed, rejected
                 └→ failed, rejected, uncertain
    queued, submitting, running → cancelled

A job whose wait timed out stays running: at the service it does. One whose download failed stays completed.

Only the scheduler and the pipeline change a job; users read it, wait for it and cancel it. Cancelling detaches the
job from whoever waits: before the POST that is all; after it the service runs on, and so do the watch over its slot
and the records in the ledger. Nothing here needs a loop, but `result()`.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, get_args

from ._answers import Submission
from ._events import StreamEvent
from ._exceptions import (
    ContentRejectedError,
    DownloadError,
    DownloadExpiredError,
    GenerationTimeoutError,
    InvalidRequestError,
    JobCancelledError,
    SubmissionUncertainError,
)
from ._models import GenerateRequest, Generation, Mode


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    RUNNING = "running"
    COMPLETED = "completed"
    STORED = "stored"
    FAILED = "failed"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_Q, _S, _R = JobStatus.QUEUED, JobStatus.SUBMITTING, JobStatus.RUNNING
_ENDS = {JobStatus.FAILED, JobStatus.REJECTED, JobStatus.CANCELLED}
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _Q: frozenset({_S, *_ENDS}),
    _S: frozenset({_Q, _R, JobStatus.COMPLETED, JobStatus.UNCERTAIN, *_ENDS}),
    _R: frozenset({JobStatus.COMPLETED, JobStatus.UNCERTAIN, *_ENDS}),
    JobStatus.COMPLETED: frozenset({JobStatus.STORED, JobStatus.EXPIRED, JobStatus.CANCELLED}),
}


class Ledger(Protocol):
    """Told of a job's life, each hook awaited before anything else happens.

    `intend` returns only when the intent is durable; then the POST goes out. `withdrawn` says that it was refused or
    never left, uncharged. `accepted` returns only when the id is durable; `finished` has the URLs and their expiry.
    """

    async def intend(self, job: Job) -> None: ...
    async def withdrawn(self, job: Job) -> None: ...
    async def accepted(self, job: Job, submission: Submission) -> None: ...
    async def finished(self, job: Job, generation: Generation) -> None: ...
    async def stored(self, job: Job, files: list[Path]) -> None: ...


class JobScheduler(Protocol):
    """What a job knows of the scheduler that it waits in."""

    def ahead(self, job: Job) -> int | None: ...
    def slot_left(self, job: Job) -> None: ...
    def moved(self, job: Job, before: JobStatus) -> None: ...
    def charged(self, amount: int) -> None: ...
    def untold(self, job: Job) -> None: ...


class NullLedger:
    """Keeps no record: a plain client's ledger."""

    async def intend(self, job: Job) -> None:
        """Nothing to record."""

    async def withdrawn(self, job: Job) -> None:
        """Nothing to record."""

    async def accepted(self, job: Job, submission: Submission) -> None:
        """Nothing to record."""

    async def finished(self, job: Job, generation: Generation) -> None:
        """Nothing to record."""

    async def stored(self, job: Job, files: list[Path]) -> None:
        """Nothing to record."""


NULL_LEDGER = NullLedger()


class Job:
    """A request in the client's hands: read `.status`, await `.result()`, or `.cancel()` it.

    `.id` names it here; `.generation_id` names it at the service, once it was accepted. `.credits_used` is what the
    service says it took. Jobs of one priority share the slots evenly between their `group`s.

    Raises: InvalidRequestError for a priority that is no number, or a timeout that is not above 0.
    """

    _left = False  # by somebody who waited for it

    def __init__(
        self,
        request: GenerateRequest,
        *,
        mode: Mode = "async",
        priority: float = 0,
        group: str | None = None,
        timeout: float | None = None,
        destination: Destination | None = None,
        ledger: Ledger = NULL_LEDGER,
    ) -> None:
        if mode not in get_args(Mode):
            raise InvalidRequestError(f"mode is one of {', '.join(get_args(Mode))} (got {mode!r})")
        if not _is_number(priority):  # nan is neither more nor less urgent than another
            raise InvalidRequestError(f"priority must be a number (got {priority!r})")
        if timeout is not None and not (_is_number(timeout) and timeout > 0):  # else paid, and given up at once
            raise InvalidRequestError(f"timeout must be seconds above 0 (got {timeout!r})")
        self.id = secrets.token_hex(8)
        self.request = request
        self.mode: Mode = mode
        self.priority = priority
        self.group = group
        self.timeout = timeout
        self.destination = destination
        self.ledger = ledger
        self.status = JobStatus.QUEUED
        self.generation_id: str | None = None
        self.credits_used: int | None = None
        self.generation: Generation | None = None
        self.files: list[Path] = []
        self.error: BaseException | None = None
        self._trace: TracebackType | None = None  # of the error, before anybody waited
        self.on_event: Callable[[StreamEvent], None] | None = None
        self._scheduler: JobScheduler | None = None
        self._callbacks: list[Callable[[Job], None]] = []
        self._done = False
        self._heard = False  # by somebody, how it ended

    def __del__(self) -> None:
        if self._left and not self._heard and not self.cancelled:
            self._untold()

    def __repr__(self) -> str:
        named = f" {self.generation_id}" if self.generation_id else ""
        return f"<Job {self.id} {self.status.value}{named}>"

    # ---- for users

    def done(self) -> bool:
        """Whether `result()` would answer at once."""
        return self._done

    async def result(self) -> Generation:
        """Wait for the generation. Cancelling this wait leaves the job alone.

        Where nobody waits again before the job is dropped, a warning in the log has its id, once it is paid and ended.

        Raises: whatever the job ended with; JobCancelledError when it was cancelled.
        """
        if not self._done:
            await self._wait()
        self._heard = True
        if self.error is not None:
            raise self.error.with_traceback(self._trace)
        assert self.generation is not None  # done without an error means that it is set
        return self.generation

    def cancel(self, reason: str = "the job was cancelled") -> bool:
        """Stop waiting for this job; False when it had ended.

        Before its submission that is free. Afterwards the service runs on and is not refunded: the slot stays taken
        until the generation ends, and `generation_id` picks it up again with `client.wait()`. Where no ledger of its
        own keeps that id, it is a warning in the log, too.
        """
        if self._done:
            return False
        told = f"{reason} {self._where()}"
        self.fail(JobCancelledError(told, generation_id=self.generation_id, credits_used=self.credits_used))
        return True

    @property
    def cancelled(self) -> bool:
        """Nobody waits for this job any more."""
        return self.status is JobStatus.CANCELLED

    @property
    def recorded(self) -> bool:
        """Whether a ledger of its own keeps its id; a plain client's jobs have none."""
        return self.ledger is not NULL_LEDGER

    @property
    def position(self) -> int | None:
        """How many jobs go before it, should nothing change; None when it does not wait in a queue (any more)."""
        return None if self._scheduler is None or self._done else self._scheduler.ahead(self)

    # ---- for the scheduler and the pipeline

    def scheduled(self, scheduler: JobScheduler) -> None:
        """It is in this scheduler's hands."""
        self._scheduler = scheduler

    def accepted(self, generation_id: str | None, credits_used: int | None) -> None:
        """The service has taken it, and named it so; for a job that was cancelled meanwhile, nobody hears of that."""
        self.generation_id = generation_id
        self.charge(credits_used)
        if self.cancelled:
            self._untold()

    def charge(self, credits_used: int | None) -> None:
        """What the service now says that it took."""
        if self._scheduler is not None:
            self._scheduler.charged((credits_used or 0) - (self.credits_used or 0))
        self.credits_used = credits_used

    def abandon(self) -> str:
        """Whoever waited has gone without an outcome: cancel it, and tell what that means for its money."""
        if not self.cancel() and not self.cancelled and not self._heard:
            self._untold()
        self._heard = True
        return str(self.error) if self.error is not None else f"it ended meanwhile: {self.pick_up}"

    @property
    def pick_up(self) -> str:
        """How to get what is paid."""
        return f"it is paid: pick it up with client.wait({self.generation_id!r})"

    def leave_slot(self) -> None:
        """Its generation has ended and its slot is free; what follows, such as a download, needs none."""
        if self._scheduler is not None:
            self._scheduler.slot_left(self)

    def add_done_callback(self, callback: Callable[[Job], None]) -> None:
        """Call `callback(job)` when the job ends; at once if it has."""
        if self._done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def advance(self, status: JobStatus) -> None:
        """Move on to `status`. A cancelled job stays cancelled, whatever its generation does.

        Raises: RuntimeError for a step that the transition table does not know.
        """
        if self.cancelled:
            return
        if status not in TRANSITIONS.get(self.status, frozenset()):
            raise RuntimeError(f"job {self.id} can't go from {self.status.value} to {status.value}")
        self._move(status)

    def emit(self, event: StreamEvent) -> None:
        """Hand a stream's event to whoever listens."""
        if self.on_event is not None:
            self.on_event(event)

    def complete(self, generation: Generation, files: list[Path] | None = None) -> None:
        """End well."""
        if self._done:
            return
        self.generation = generation
        self.files = files or []
        self._end()

    def fail(self, error: BaseException) -> None:
        """End with `error`."""
        if self._done:
            return
        self._move(self._status_after(error))
        self.error, self._trace = error, error.__traceback__
        self._end()

    def _move(self, status: JobStatus) -> None:
        before, self.status = self.status, status
        if self._scheduler is not None:
            self._scheduler.moved(self, before)

    def _status_after(self, error: BaseException) -> JobStatus:
        if isinstance(error, JobCancelledError):
            return JobStatus.CANCELLED
        if isinstance(error, DownloadExpiredError):
            return JobStatus.EXPIRED
        if isinstance(error, GenerationTimeoutError | DownloadError):
            return self.status
        if isinstance(error, ContentRejectedError):
            return JobStatus.REJECTED
        return JobStatus.UNCERTAIN if isinstance(error, SubmissionUncertainError) else JobStatus.FAILED

    def _end(self) -> None:
        self._done = True
        self.on_event = None  # who listens holds the job: without it, the last reference to it frees both
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    async def _wait(self) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: Job) -> None:
            if not ended.done():
                ended.set_result(None)

        self._callbacks.append(wake)
        try:
            await ended
        except (asyncio.CancelledError, GeneratorExit):  # the latter for a task that its loop has left behind
            self._left = True
            raise
        finally:
            if wake in self._callbacks:
                self._callbacks.remove(wake)

    def _untold(self) -> None:
        if self._scheduler is not None:
            self._scheduler.untold(self)

    def _where(self) -> str:
        """How far the job got, and what that means for its money."""
        if self.generation_id:
            resume = f"pick it up with client.wait({self.generation_id!r})"
            return f"when it had become generation {self.generation_id}, which is paid: {resume}"
        if self.status is JobStatus.QUEUED:
            return "before it was submitted; nothing was charged"
        return "while it was being submitted; the service may run it all the same, paid"


class Destination:
    """Where a job's images go: a folder, and the stem of their names."""

    __slots__ = ("folder", "stem")

    def __init__(self, folder: Path, stem: str | None = None) -> None:
        self.folder = folder
        self.stem = stem


def _is_number(value: float) -> bool:
    """Whether it can be compared with others, whatever was given; nan can't."""
    try:
        return not math.isnan(value)
    except TypeError:
        return False
