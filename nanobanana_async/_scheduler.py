"""Who runs when: the queue, the room in it, admission, close. Never talks HTTP.

One dispatcher waits for work, then for a slot, and only then picks the job: whoever is most urgent at the moment a
slot is free gets it (`_queue`), also one that still waits for room in the queue. A job that need not wait, for others
or for a slot, starts as it comes, without the dispatcher. A refused job returns to its old place. Every job runs in a
task of the scheduler's own, so that a user's cancellation never reaches into a submission, and in a scope of its own,
which ends it when the scheduler is stopped or when nobody wants its images. The scheduler waits for all of them,
whatever ends it: what is in the midst of a POST is not cancelled, but by an abort.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from ._concern import concerns, concerns_others
from ._exceptions import NanoBananaError, QueueFullError
from ._job import Job, JobStatus
from ._limiter import Limiter, Slot, find_try_acquire
from ._outlook import SlotLengths, expected_wait, slot_interval
from ._pipeline import Refused
from ._queue import AGEING, FairQueue
from ._room import Room
from ._tally import SchedulerStatistics, Tally
from ._untold import Untold

_LOGGER = logging.getLogger(__name__)

STARTS = 2  # jobs begun in one turn of the loop, so that thousands of free slots don't hold up everything else: while
# 10,000 fill, a turn takes 2.5 ms, and with 10 a turn 12 ms; the slots fill as quickly


class Scheduler:
    """Feeds jobs to `run`, one slot each, until it is stopped. At most `max_queued` wait.

    For each slot that jobs of a lower priority are passed over, they become `ageing` points more urgent.
    """

    def __init__(
        self,
        limiter: Limiter,
        run: Callable[[Job, Slot], Awaitable[None]],
        *,
        max_queued: int = 10_000,
        ageing: float = AGEING,
    ) -> None:
        self._limiter = limiter
        self._run_in_slot = run
        self._max_queued = max_queued
        self._room: Room[Job] = Room(max_queued)  # for those that come, until their first slot
        self._queue: FairQueue[Job] = FairQueue(ageing=ageing)
        self._live: dict[Job, anyio.CancelScope] = {}
        self._tally = Tally()
        self._untold = Untold(asyncio.get_running_loop())
        self._in_slot: dict[Job, float] = {}  # since when
        self._lengths = SlotLengths()
        self._tasks: set[asyncio.Task[None]] = set()
        self._try_slot = find_try_acquire(limiter)
        self._work = asyncio.Event()  # something was queued
        self._out_of_work = False  # and waiting for some
        self._context = contextvars.copy_context()  # of the jobs' tasks, whoever starts them
        self._beginning = 0  # tasks before their first step
        self._changed: set[asyncio.Future[None]] = set()
        self._asking = anyio.CancelScope()  # around the wait for work and for a slot
        self._asked_for = math.inf  # the priority it is waited for with
        self._stopped = False

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Scheduler [jobs: {now.running + now.submitting} running, {now.queued} queued]>"

    async def serve(self) -> None:
        """Dispatch until stopped; whatever is left by then ends as JobCancelledError, its POST answered."""
        try:
            while not self._stopped:
                with anyio.CancelScope() as self._asking:
                    await self._dispatch()
        except Exception:
            _LOGGER.exception("the scheduler stopped unexpectedly")
        finally:
            self.stop()
            try:
                await self._all_ended()
            finally:
                for job in (*self._queue, *self._live):
                    job.cancel("the client was closed")
                self._untold.tell()
                self._wake()

    def stop(self) -> None:
        """Submit nothing more, and let `serve` come to its end. Idempotent."""
        self._stopped = True
        self._asking.cancel()
        for scope in self._live.values():
            scope.cancel()

    def abort(self) -> None:
        """Stop without waiting for the answers of submissions under way: they may be paid, and their ids are lost."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def enqueue(self, job: Job, *, wait_for_room: bool = True) -> None:
        """Add a job; while there is no room in the queue, wait. Cancelled while waiting, the job is.

        Raises: QueueFullError instead of waiting, if told so; then the job was not added.
        """
        self._check_open()
        if self._room.full and not wait_for_room:
            await asyncio.sleep(0)  # those that have a slot to go to leave now
            self._check_open()
            if self._room.full:
                raise self._full(job)
        place = self.enqueue_nowait(job)
        if place is not None:
            await self._wait_for(place, job)

    def enqueue_nowait(self, job: Job) -> asyncio.Future[None] | None:
        """Add a job; where there is no room in the queue, what to wait for: it is done when there is."""
        self._check_open()
        place = self._room.enter(job, priority=job.priority)
        self._queue.push(job, priority=job.priority, group=job.group)
        job.scheduled(self)
        job.add_done_callback(self._forget)  # at once, should it have been cancelled meanwhile
        if not self._start_at_once():
            self._work.set()
            self._ask_for(job)
        return place

    def ahead(self, job: Job) -> int | None:
        """How many go before a job; None when it does not wait."""
        return self._queue.ahead(job)

    def expected_wait(self, *, priority: float = 0, group: str | None = None) -> float | None:
        """Seconds until a job that came now would get a slot; None while it is not known how long they are held."""
        ahead = self._queue.ahead_of_new(priority=priority, group=group)
        return expected_wait(ahead, self._limiter.statistics(), self._lengths.mean)

    @property
    def slot_interval(self) -> float:
        """Seconds from one slot's coming free to the next one's, on average."""
        return slot_interval(self._limiter.statistics(), self._lengths.mean)

    def slot_left(self, job: Job) -> None:
        """A job's slot is free again. Idempotent."""
        self._queue.done(job)
        since = self._in_slot.pop(job, None)
        if since is not None and job.generation_id is not None:
            self._lengths.add(asyncio.get_running_loop().time() - since)

    def moved(self, job: Job, before: JobStatus) -> None:
        """A job's status was `before` until now."""
        if job in self._live:
            self._tally.moved(job, before)

    def charged(self, amount: int) -> None:
        """What a job takes is known to be so many credits more."""
        self._tally.charged(amount)

    def untold(self, job: Job) -> None:
        """Nobody hears of this job any more."""
        self._untold.add(job)

    def statistics(self) -> SchedulerStatistics:
        """The jobs of this moment."""
        return self._tally.statistics(queued=len(self._queue) - self._room.outside)

    async def idle(self) -> None:
        """Wait until no job waits, runs, or is watched to its end."""
        while self._queue or self._tasks:
            await self._change()

    # ---- dispatching

    async def _dispatch(self) -> None:
        """Give slots to jobs, until it is cancelled: for good, or because a slot is to be asked for more urgently."""
        for started in itertools.count(1):
            while not self._queue:
                await self._new_work()
            self._start_next(await self._slot())
            if started % STARTS == 0:
                await asyncio.sleep(0)

    async def _new_work(self) -> None:
        self._work.clear()
        self._out_of_work = True
        try:
            await self._work.wait()
        finally:
            self._out_of_work = False

    def _start_at_once(self) -> bool:
        """Start the one job that is queued, if it need not wait for anything: so the dispatcher may sleep on.

        It is the only one: the dispatcher is out of work, and has not been told of any since. In a callback of the
        loop, outside of any task, anyio makes no scope: then the dispatcher starts it.
        """
        if not self._out_of_work or self._work.is_set() or self._beginning >= STARTS or not self._queue:
            return False
        if asyncio.current_task() is None:
            return False
        try:
            slot = self._try_slot()
        except Exception:  # of a limiter of the user's: the dispatcher meets it, too, and ends for it
            return False
        if slot is not None:
            self._start_next(slot)
        return slot is not None

    async def _slot(self) -> Slot:
        """A slot for the most urgent job."""
        self._asked_for = self._queue.priority
        try:
            return await self._limiter.acquire(priority=self._asked_for)
        finally:
            self._asked_for = math.inf

    def _ask_for(self, job: Job) -> None:
        """Ask for a slot anew, should the job be more urgent than those that one is waited for with."""
        if job.priority > self._asked_for:
            self._asking.cancel()

    def _start_next(self, slot: Slot) -> None:
        job = self._queue.pop() if not self._stopped else None  # a stop may come in the moment that a slot is given
        if job is None:  # or cancelled, while a slot was waited for
            slot.release()
            return
        self._live[job] = scope = anyio.CancelScope()
        self._tally.began(job)
        self._in_slot[job] = asyncio.get_running_loop().time()
        self._room.leave(job)
        self._beginning += 1
        task = asyncio.create_task(self._run(job, slot, scope), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, job, slot, scope))

    async def _run(self, job: Job, slot: Slot, scope: anyio.CancelScope) -> None:
        """One job in its slot; nothing but an abort leaves here."""
        self._beginning -= 1
        try:
            with scope:
                try:
                    if not scope.cancel_called:  # else stopped before it began, and not worth a POST
                        await self._attempt(job, slot)
                finally:
                    slot.release()
        except Exception:  # such as one of a callback of the user's
            _LOGGER.exception("the scheduler stops, because job %s could not be ended", job.id)
            self.stop()
        finally:
            self._left(job)

    async def _attempt(self, job: Job, slot: Slot) -> None:
        try:
            await self._run_in_slot(job, slot)
        except Refused:
            if not job.done():
                self._in_slot.pop(job, None)
                self._queue.put_back(job)
                self._work.set()
                self._ask_for(job)
        except NanoBananaError as error:
            self._fail(job, error)
        except Exception as error:
            _LOGGER.exception("%r met an unexpected error", job)
            if job.generation_id:
                error.add_note(job.pick_up)
            job.fail(error)

    def _left(self, job: Job) -> None:
        """Its task is over."""
        if job in self._in_slot:
            self.slot_left(job)
        del self._live[job]
        self._tally.left(job)

    def _ended(self, job: Job, slot: Slot, scope: anyio.CancelScope, task: asyncio.Task[None]) -> None:
        """A task has ended; one that was cancelled before its first step has left nothing in order."""
        self._tasks.discard(task)
        if self._live.get(job) is scope:
            self._beginning -= 1
            slot.release()
            self._left(job)
        if self._stopped:
            job.cancel("the client was closed")
        self._wake()

    async def _all_ended(self) -> None:
        """Wait for the jobs' tasks, also when cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        while self._tasks:
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _fail(self, job: Job, error: NanoBananaError) -> None:
        error.generation_id = error.generation_id or job.generation_id
        error.credits_used = error.credits_used if error.credits_used is not None else job.credits_used
        job.fail(error)
        if job.generation_id is None and concerns_others(error):
            for waiting in [other for other in self._queue if concerns(error, job.request, other.request)]:
                waiting.fail(_not_sent(error))

    def _forget(self, job: Job) -> None:
        self._room.leave(job)
        self._queue.discard(job)
        self._tally.ended(job)
        if job.cancelled:
            self._untold.add(job)
        if job.cancelled and job.generation is not None and job in self._live:
            self._live[job].cancel()  # it has ended, so there are only images on their way, which nobody wants
        self._wake()

    # ---- the room

    async def _wait_for(self, place: asyncio.Future[None], job: Job) -> None:
        try:
            await place
        except BaseException:
            job.cancel("whoever queued it was cancelled")
            raise
        if self._stopped:
            job.cancel("the client was closed")
            self._check_open()

    def _full(self, job: Job) -> QueueFullError:
        wait = self.expected_wait(priority=job.priority, group=job.group)
        room = expected_wait(0, self._limiter.statistics(), self._lengths.mean)
        told = "wait, or raise it" if wait is None else f"a job that came now would wait about {wait:.0f} s"
        return QueueFullError(
            f"{self._max_queued} jobs wait already, which is max_queued; {told}", expected_wait=wait, retry_after=room
        )

    def _check_open(self) -> None:
        if self._stopped:
            raise RuntimeError("the client is closed; open a new one")

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
