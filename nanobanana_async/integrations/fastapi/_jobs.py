"""The jobs behind the routes: who may see which, and what is written down before anything else happens.

A job lives in one worker, where the client runs it; its record lives in the store, where every worker finds it. The
client's ledger hooks keep the record: the intent is in it before a byte is sent and the id before anything else. So
with a store in a file a job outlives its worker, see `_adoption.py`; and without one its generation is still found by
its receipt. A caller that goes away never cancels a job; `cancel` does, for as long as that is free.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio

from ..._client import Client
from ..._events import StreamEvent
from ..._exceptions import (
    JobCancelledError,
    NanoBananaError,
    QueueFullError,
)
from ..._job import Destination, Job, JobStatus
from ._endings import end_with_job, too_late
from ._errors import problem
from ._images import ImageFolder
from ._ledger import RecordLedger
from ._looks import Looks
from ._places import Live, Places
from ._receipts import Receipts
from ._records import JobRecord
from ._room import Room
from ._states import JobState, States
from ._store import JobStore
from ._turns import Turns
from ._watchers import Watchers

TICK_SECONDS = 1.0  # how often progress and positions are told again
GATHER_SECONDS = 0.1  # changes of many jobs that come together are told together
CLEANUP_SECONDS = 5.0
_QUEUED = JobStatus.QUEUED.value


class JobService:
    """Submits, finds, follows and cancels jobs, each for its owner only."""

    def __init__(
        self,
        client: Client,
        store: JobStore,
        images: ImageFolder,
        receipts: Receipts,
        room: Room,
    ) -> None:
        self.client = client
        self.store = store
        self.images = images
        self.live: dict[str, Live] = {}
        self.places = Places(self.live)
        self.states = States(client, self.places, receipts)
        self.turns = Turns()
        self.leaving = self.closing = False
        self._receipts = receipts
        self._looks = Looks(client)
        self._room = room
        self._watchers = Watchers()

    # ---- for the routes

    async def submit(self, record: JobRecord) -> JobState:
        """Queue a job. Raises: QueueFullError, InvalidRequestError."""
        self._check_room(record)
        live = self._hold(record)
        try:
            await self.store.add(record)
            await self.client.enqueue(live.job, wait_for_room=False)
        except BaseException:
            self._release(record.id)
            live.job.cancel()
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await self.store.delete(record)
            raise
        return self.states.of_live(live)

    async def find(self, name: str, owner: str) -> JobState:
        """A job by its id or its receipt. Raises: a 404 when this owner has none of that name."""
        live = self.live.get(name)
        if live is not None and live.record.owner == owner:
            return self.states.of_live(live)
        found = await self.store.get(name, owner)
        if found is not None:
            record, position = found
            if not record.ended and record.problem is not None:
                await self._look_again(record)
            return self.states.of(record, position)
        generation_id = self._receipts.read(name, owner)
        if generation_id is None:
            raise problem(404, "not-found", "No such job", "There is no job of this name, or it is not yours.")
        record = JobRecord(name, owner, {"prompt": ""}, status=JobStatus.RUNNING.value, generation_id=generation_id)
        await self._looks.update(record)
        record.ended_at = None  # nobody remembers
        return self.states.of(record)

    async def newest(self, owner: str, count: int) -> list[JobState]:
        """An owner's newest jobs, the newest first."""
        return self._states([(record, None) for record in await self.store.newest(owner, count)])

    async def cancel(self, name: str, owner: str) -> JobState:
        """Cancel a job that was not submitted yet; one that was cancelled before stays so.

        Raises: a 409 when it has been submitted: then it is paid, runs on, and can't be stopped.
        """
        live = self.live.get(name)
        if live is not None and live.record.owner == owner and live.job.status is JobStatus.QUEUED:
            live.record.status = _QUEUED  # its intent may be on its way to the disk: it is withdrawn
            live.job.cancel("the caller cancelled it")
            return self.states.of(live.record)
        state = await self.find(name, owner)
        if state.record.status == _QUEUED and name not in self.live:
            cancelled = replace(state.record, request=dict(state.record.request))
            cancelled.end(JobStatus.CANCELLED)
            if await self.store.cancel(cancelled):
                return self.states.of(cancelled)
            state = await self.find(name, owner)
        if state.record.status == JobStatus.CANCELLED.value:
            return state
        raise too_late(state.record)

    async def changes(self, name: str, owner: str) -> AsyncGenerator[JobState, None]:
        """The job now, and again whenever something about it may have changed, until it has ended."""
        while True:
            with self._watchers.watching(name) as change:
                state = await self.find(name, owner)
                yield state
                if state.record.ended or self.leaving:
                    return
                await asyncio.wait((change,), timeout=_tick())

    async def changes_of(self, owner: str, since: float) -> AsyncGenerator[list[JobState], None]:
        """All jobs of an owner that are open or have ended since then, now and whenever something may have changed."""
        while True:
            with self._watchers.watching(("owner", owner)) as change:
                yield self._states(await self.store.recent(owner, since))
                if self.leaving:
                    return
                await asyncio.wait((change,), timeout=_tick())
            await anyio.sleep(GATHER_SECONDS)

    async def image(self, name: str, owner: str, place: int) -> Path:
        """The file of one image, the first being 1. Raises: a 404 while there is none, DownloadError."""
        record = (await self.find(name, owner)).record
        if not record.completed or not 1 <= place <= record.images:
            raise problem(404, "no-such-image", "No such image", f"This job has {record.images} images by now.")
        files = await self.images.files(record.generation(), record.images)
        return files[place - 1]

    def leave(self) -> None:
        """The server stops: whoever waits for changes is answered with what is known."""
        self.leaving = True
        self._watchers.notify_all()

    def close(self) -> None:
        """The client closes: what it cancels now stays as it is in the store, for the next worker."""
        self.leave()
        self.closing = True

    def check_open(self) -> None:
        """Raises: a 503 once the worker is on its way out."""
        if self.leaving:
            raise problem(503, "closing", "Shutting down", "This server is shutting down.")

    # ---- for the adoption

    async def resume(self, record: JobRecord) -> None:
        """Queue a job of a worker that has gone."""
        with suppress(RuntimeError):  # the client is closed: the next worker goes on
            await self.client.enqueue(self._hold(record).job)

    def drop(self, name: str) -> None:
        """Another worker cancelled it, or runs it."""
        live = self._release(name)
        if live is not None:
            live.job.cancel("it is not this worker's any more")
            self.notify(live.record)

    def notify(self, record: JobRecord) -> None:
        """Wake whoever watches this job, or its owner's."""
        self._watchers.notify(record.id, ("owner", record.owner))

    # ---- inside

    def _check_room(self, record: JobRecord) -> None:
        if (refusal := self._room.refusal(record.owner)) is not None:
            wait = self.client.expected_wait(priority=record.priority, group=record.owner or None)
            raise QueueFullError(refusal, expected_wait=wait)

    def _hold(self, record: JobRecord) -> Live:
        job = Job(
            record.generate_request(),
            mode=record.mode,
            priority=record.priority,
            group=record.owner or None,
            timeout=record.timeout,
            destination=Destination(self.images.permanent) if self.images.permanent else None,
            ledger=RecordLedger(record, self.store, changed=self._changed, lost=self.drop),
        )
        job.id = record.id
        live = self.live[record.id] = Live(record, job)
        job.on_event = lambda event: self._progressed(live, event)
        job.add_done_callback(self._ended)
        self._room.update(record)
        self.places.changed()
        return live

    def _release(self, name: str) -> Live | None:
        live = self.live.pop(name, None)
        if live is not None:
            self._room.leave(live.record)
            self.places.changed()
        return live

    def _changed(self, record: JobRecord) -> None:
        if record.id in self.live:
            self._room.update(record)
            self.places.changed()
        self.notify(record)

    def _progressed(self, live: Live, event: StreamEvent) -> None:
        live.progress = max(live.progress, event.progress)
        self.notify(live.record)

    def _ended(self, job: Job) -> None:
        live = self._release(job.id)
        if live is None:
            return
        record = live.record
        if record.completed and record.started_at and record.ended_at:
            self.states.lengths.add(record.ended_at - record.started_at)
        if job.error is not None and not record.completed:
            if self.closing and isinstance(job.error, JobCancelledError):
                return  # as it is, so that the next worker goes on with it
            end_with_job(record, job)
        self.store.save_later(record)
        self.notify(record)

    async def _look_again(self, record: JobRecord) -> None:
        """At a generation that nobody waits for any more; a look that fails changes nothing."""
        with suppress(NanoBananaError):
            if await self._looks.update(record):
                await self.store.save(record)

    def _states(self, found: list[tuple[JobRecord, int | None]]) -> list[JobState]:
        held = [(self.live.get(record.id), record, position) for record, position in found]
        return [self.states.of_live(live) if live else self.states.of(record, place) for live, record, place in held]


def _tick() -> float:
    """Not all who came together are told together."""
    return random.uniform(0.75, 1.25) * TICK_SECONDS
