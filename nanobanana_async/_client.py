"""`Client`: what users hold. It wires the layers together and owns what they need; the work is done below."""

from __future__ import annotations

import asyncio
import math
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import aiohttp
import anyio

from ._accounts import Account, accounts_of, find_api_key
from ._addresses import find_base_url
from ._answers import Model
from ._calls import OpenCalls
from ._engine import ClientStatistics, Engine
from ._exceptions import ConfigurationError, InvalidRequestError
from ._job import Job
from ._learned import plan_of
from ._limiter import Limiter
from ._map import Outcomes, Prompts
from ._models import GenerateRequest, Generation, Mode
from ._polling import Plan
from ._pool import Pool
from ._queue import AGEING
from ._references import check_references
from ._retry import RetryPolicy
from ._seat import Seat, seats_of
from ._stream import EventStream
from ._timeouts import Timeouts
from ._transport import Transport
from ._wire import raise_for_failure

BATCH_PRIORITY = -10.0  # of jobs that come in masses, so that those somebody waits for go first


class RequestFields(TypedDict, total=False):
    """The fields of a GenerateRequest beside its prompt; None means the service's default."""

    model: str | None
    reference_images: Any
    aspect_ratio: str | None
    quantity: int | None


class Client:
    """An asyncio client for one account, or several.

    Every generation waits for one of the account's slots, whoever asks for it and in whatever mode. Use it as an
    async context manager, or call `aclose()`. The key comes from `api_key`, NANO_BANANA_API_KEY or NB_API_KEY; the base
    URL from `base_url` or NANO_BANANA_BASE_URL.

    `max_concurrency` is a ceiling of your own below the account's limit. `poll` is when to look at what runs: by
    default a LearnedPlan, which learns how long generations take; a PollPlan, or one interval in seconds, is followed
    as it is. Clients of one account in one process may share a limiter and a plan. `timeout` is a Timeouts, or seconds
    for every single request. A `session` you pass stays yours to close.

    `max_queued` jobs may wait; beyond that `submit` waits for room, or raises QueueFullError where it is called with
    `wait_for_room=False`. Jobs of higher priority go first; for every slot that passes the others over, those become
    `ageing` points more urgent, so that none waits for ever.

    `fsync=False` lets images that were just saved be lost in a power cut, where the disk is slow.

    `accounts` instead of a key are several Accounts, or keys of one each: a job goes to whichever has a slot free. One
    that is refused (401, 402, 403) is out of service for ten minutes, and its jobs go on with the others.

    Raises: ConfigurationError when there is no key or the base URL is unusable.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        accounts: Iterable[Account | str] | None = None,
        base_url: str | None = None,
        limiter: Limiter | None = None,
        max_concurrency: int | None = None,
        poll: Plan | float | None = None,
        retry: RetryPolicy | None = None,
        timeout: Timeouts | float | None = None,
        session: aiohttp.ClientSession | None = None,
        user_agent: str | None = None,
        max_queued: int = 10_000,
        ageing: float = AGEING,
        fsync: bool = True,
    ) -> None:
        if accounts is not None and any(given is not None for given in (api_key, limiter, max_concurrency)):
            raise ConfigurationError("with accounts, give key, limiter and max_concurrency to each Account")
        if max_queued < 1:
            raise ConfigurationError(f"max_queued must be at least 1 (got {max_queued})")
        if not ageing >= 0:
            raise ConfigurationError(f"ageing must be 0 or more points a slot (got {ageing})")
        if accounts is None:
            accounts = [Account(find_api_key(api_key), limiter=limiter, max_concurrency=max_concurrency)]
        self._timeouts = Timeouts.of(timeout)
        self._max_queued = max_queued
        self._ageing = ageing
        self._plan = plan_of(poll)
        connect = partial(
            Transport,
            base_url=find_base_url(base_url),
            timeouts=self._timeouts,
            session=session,
            user_agent=user_agent,
        )
        self._seats = seats_of(accounts_of(accounts), connect, plan=self._plan, retry=retry, fsync=fsync)
        self._pool = Pool(self._seats)
        self._engine: Engine | None = None
        self._calls = OpenCalls(retry or RetryPolicy())

    # ---- generating

    async def generate(
        self,
        prompt: str | GenerateRequest,
        *,
        mode: Mode = "async",
        priority: float = 0,
        group: str | None = None,
        timeout: float | None = None,
        wait_for_room: bool = True,
        **fields: Unpack[RequestFields],
    ) -> Generation:
        """Generate images and wait for them. Cancelling it cancels its job, see `Job.cancel`.

        The CancelledError has a note that tells what was paid, and the log has the id.

        `timeout` is how many seconds the generation may run before GenerationTimeoutError, which has its id.

        Raises: InvalidRequestError, APIStatusError, GenerationError, ConnectError; QueueFullError as `submit` does.
        Source: POST /generate.
        """
        job = await self.submit(
            prompt, mode=mode, priority=priority, group=group, timeout=timeout, wait_for_room=wait_for_room, **fields
        )
        try:
            return await job.result()
        except asyncio.CancelledError as error:
            error.add_note(job.abandon())
            raise

    async def submit(
        self,
        prompt: str | GenerateRequest,
        *,
        mode: Mode = "async",
        priority: float = 0,
        group: str | None = None,
        timeout: float | None = None,
        wait_for_room: bool = True,
        **fields: Unpack[RequestFields],
    ) -> Job:
        """Queue a generation and return at once: higher `priority` first, then first come.

        Jobs of one priority share the slots evenly between their `group`s: one user's many don't hold up another's few.
        When `max_queued` jobs wait already, it waits for room, or, told not to, raises QueueFullError.

        Raises: InvalidRequestError, QueueFullError.
        """
        request = GenerateRequest.of(prompt, **fields)
        job = self._make_job(request, mode=mode, priority=priority, group=group, timeout=timeout)
        await self.enqueue(job, wait_for_room=wait_for_room)
        return job

    async def enqueue(self, job: Job, *, wait_for_room: bool = True) -> None:
        """Queue a Job that you made yourself, with a ledger or a destination of its own. Raises: QueueFullError."""
        await self._started().scheduler.enqueue(job, wait_for_room=wait_for_room)

    def enqueue_nowait(self, job: Job) -> None:
        """The same at once, also in a callback of the loop; in a full queue it stands outside until there is room.

        For those who queue a job when another has got on, as a batch does: many at once would know no bound.
        """
        self._started().scheduler.enqueue_nowait(job)

    def map(
        self,
        prompts: Prompts,
        *,
        mode: Mode = "async",
        priority: float = BATCH_PRIORITY,
        group: str | None = None,
        max_pending: int | None = None,
        **fields: Unpack[RequestFields],
    ) -> Outcomes:
        """Generate for every prompt of an iterable or async iterable; outcomes come as they finish.

        Its jobs are less urgent than those of `generate`, `submit` and `stream`, unless you give them a `priority`.
        At most `max_pending` prompts are held between the input and whoever reads the outcomes.
        """
        engine = self._started()
        if max_pending is not None and max_pending < 1:
            raise ValueError(f"max_pending must be at least 1 (got {max_pending})")
        return Outcomes(
            prompts,
            make_job=lambda item: self._make_job(
                GenerateRequest.of(item, **fields), mode=mode, priority=priority, group=group
            ),
            enqueue=engine.scheduler.enqueue,
            width=lambda: max_pending or engine.map_width(),
        )

    def stream(
        self,
        prompt: str | GenerateRequest,
        *,
        priority: float = 0,
        group: str | None = None,
        timeout: float | None = None,
        wait_for_room: bool = True,
        **fields: Unpack[RequestFields],
    ) -> EventStream:
        """Generate and follow the progress. Source: POST /generate, mode stream.

        Raises: InvalidRequestError; on entering the block, QueueFullError as `submit` does.
        """
        request = GenerateRequest.of(prompt, **fields)
        job = self._make_job(request, mode="stream", priority=priority, group=group, timeout=timeout)
        return EventStream(job, partial(self._started().scheduler.enqueue, wait_for_room=wait_for_room))

    # ---- looking

    async def get(self, generation_id: str) -> Generation:
        """One look at a generation, whatever its status. Source: GET /generate.

        Raises: NotFoundError, APIStatusError, TransportError.
        """
        reply = await self._pool.find(lambda seat: self._calls.read(lambda: seat.look(generation_id)))
        return reply.value.to_generation(generation_id)

    async def wait(self, generation_id: str, *, timeout: float | None = None) -> Generation:
        """Wait for a generation by its id: one of an earlier process, or one whose wait ended early.

        Raises: GenerationTimeoutError after `timeout` seconds, GenerationFailedError, ContentRejectedError.
        """
        if timeout is not None and not timeout >= 0:
            raise InvalidRequestError(f"timeout must be 0 seconds, for one look, or more (got {timeout!r})")
        patience = timeout if timeout is not None else self._timeouts.generation_timeout
        watch = (await self._seat_of(generation_id)).watch
        record = await self._calls.run(lambda: watch.until_end(generation_id, timeout=patience, at_once=True))
        generation = record.to_generation(generation_id)
        raise_for_failure(generation)
        return generation

    async def models(self) -> list[Model]:
        """The models and what they cost. Source: GET /models. Raises: APIStatusError, TransportError."""
        return await self._calls.read(self._seats[0].api.models)

    async def credits(self) -> int:
        """The balance; of several accounts the sum. Source: GET /credits. Raises: APIStatusError, TransportError."""
        return await self._pool.credits(lambda seat: self._calls.read(seat.api.credits))

    # ---- images

    async def download(
        self, generation: Generation | str, folder: str | os.PathLike[str] = ".", *, stem: str | None = None
    ) -> list[Path]:
        """Save a generation's images (or those of an id) into `folder`, made if missing; their paths, in order.

        Files are named by `stem`, else by the generation's id, with the extension of what the bytes are. A file is
        there whole or not at all.

        Raises: DownloadError.
        """
        whole = await self.wait(generation) if isinstance(generation, str) else generation
        return await self._calls.run(lambda: self._seats[0].downloads.save(whole, folder, stem=stem))

    # ---- state and end

    @property
    def timeouts(self) -> Timeouts:
        """The deadlines that its requests have."""
        return self._timeouts

    def statistics(self) -> ClientStatistics:
        """The numbers of this moment."""
        if self._engine is None:
            return ClientStatistics()
        now = self._engine.statistics()
        return replace(now, accounts=self._pool.accounts()) if len(self._seats) > 1 else now

    @property
    def limit(self) -> int | None:
        """How many generations may run at once, as far as it is known: `statistics().limit`, without the rest."""
        return None if self._engine is None else self._engine.limit

    @property
    def slots(self) -> int:
        """The limit; while it is not known, how many slots are taken. Twice as many jobs keep every slot busy."""
        return 0 if self._engine is None else self._engine.slots

    @property
    def slot_interval(self) -> float:
        """Seconds from one slot's coming free to the next one's, on average: how often somebody has to submit."""
        return math.inf if self._engine is None else self._engine.scheduler.slot_interval

    @property
    def plan(self) -> Plan:
        """When to look at what runs. What a LearnedPlan has learned can be kept: see its `dump` and `load`."""
        return self._plan

    def expected_wait(self, *, priority: float = 0, group: str | None = None) -> float | None:
        """Seconds until a job submitted now would get a slot: from the queue, the slots and how long they are held.

        None while nobody can know that: every slot is taken, and no generation of this client has ended yet, however
        long they run already. A job in the queue tells its `position`, which is always known.
        """
        if self._engine is None:
            return None
        return self._engine.scheduler.expected_wait(priority=priority, group=group)

    async def idle(self) -> None:
        """Wait until no job waits or runs, cancelled ones at the service included."""
        if self._engine is not None:
            await self._engine.scheduler.idle()

    async def aclose(self) -> None:
        """End every job that waits or runs, after the answers of submissions under way are in. Idempotent."""
        self._calls.end()
        for seat in self._seats:
            seat.end()
        with anyio.CancelScope(shield=True):
            try:
                if self._engine is not None:
                    await self._engine.aclose()
            finally:
                for seat in self._seats:
                    await seat.transport.aclose()

    async def __aenter__(self) -> Self:
        self._calls.begin()
        self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        now = self.statistics()
        slots = f"{now.submitting + now.running + now.abandoned}/{'?' if now.limit is None else now.limit}"
        base_url = self._seats[0].transport.base_url
        return f"<Client {base_url} [jobs: {now.running} running, {now.queued} queued | slots: {slots}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a client holds the API key and open connections; it can't be pickled")

    def __del__(self) -> None:
        if getattr(self, "_engine", None) is not None and not self._calls.closed:
            warnings.warn(
                f"{type(self).__name__} was not closed; use async with, or aclose()", ResourceWarning, 2, self
            )

    # ---- inside

    def _make_job(self, request: GenerateRequest, **options: Any) -> Job:
        check_references(request.reference_images)
        return Job(request, **options)

    def _started(self) -> Engine:
        """The engine of the running loop; a loop that has ended leaves its engine behind."""
        self._calls.check_open()
        if self._engine is None or self._engine.ended:
            for seat in self._seats:
                seat.begin()
            self._engine = self._new_engine()
        if self._engine.loop is not asyncio.get_running_loop():
            raise RuntimeError("this client belongs to another running event loop; make one client per loop")
        return self._engine

    def _new_engine(self) -> Engine:
        """One account's slots as they are; those of several through the pool."""
        (seat, *others) = self._seats
        limiter, run = (self._pool, self._pool.run) if others else (seat.limiter, seat.pipeline.run)
        return Engine(limiter, run, max_queued=self._max_queued, ageing=self._ageing)

    async def _seat_of(self, generation_id: str) -> Seat:
        """Whose a generation is, asked where there are several accounts."""
        (seat, *others) = self._seats
        if not others:
            return seat

        async def look(seat: Seat) -> Seat:
            await self._calls.read(lambda: seat.look(generation_id))
            return seat

        return await self._pool.find(look)
