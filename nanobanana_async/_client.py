"""`Client`: what users hold. It wires the layers together and owns what they need; the work is done below."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

import aiohttp
import anyio

from ._addresses import DEFAULT_BASE_URL
from ._api import Api
from ._calls import OpenCalls
from ._downloads import Downloads
from ._engine import ClientStatistics, Engine
from ._exceptions import ConfigurationError, NanoBananaError
from ._job import Job
from ._learned import plan_of
from ._limiter import AccountLimiter, Limiter
from ._map import Outcomes, Prompts
from ._models import GenerateRequest, Generation, Mode, Model
from ._pipeline import Pipeline
from ._polling import Plan
from ._queue import AGEING
from ._references import check_references
from ._retry import RetryPolicy
from ._stream import EventStream
from ._transport import Timeouts, Transport
from ._watch import Watch
from ._wire import raise_for_failure

T = TypeVar("T")

BATCH_PRIORITY = -10.0  # of jobs that come in masses, so that those somebody waits for go first
DOWNLOAD_RETRY = RetryPolicy(max_attempts=10)  # trying again costs nothing, and the images are paid


class RequestFields(TypedDict, total=False):
    """The fields of a GenerateRequest beside its prompt; None means the service's default."""

    model: str | None
    reference_images: Any
    aspect_ratio: str | None
    quantity: int | None


class Client:
    """An asyncio client for one account.

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

    Raises: ConfigurationError when there is no key or the base URL is unusable.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
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
    ) -> None:
        if limiter is not None and max_concurrency is not None:
            raise ConfigurationError("give max_concurrency to the limiter, not to the client that uses it")
        for name, most in (("max_concurrency", max_concurrency), ("max_queued", max_queued)):
            if most is not None and most < 1:
                raise ConfigurationError(f"{name} must be at least 1 (got {most})")
        if not ageing >= 0:
            raise ConfigurationError(f"ageing must be 0 or more points a slot (got {ageing})")
        self._transport = Transport(
            find_api_key(api_key),
            base_url=find_base_url(base_url),
            timeouts=Timeouts.of(timeout),
            session=session,
            user_agent=user_agent,
        )
        self._limiter = limiter
        self._max_concurrency = max_concurrency
        self._max_queued = max_queued
        self._ageing = ageing
        self._plan = plan_of(poll)
        self._retry = retry or RetryPolicy()
        self._api = Api(self._transport)
        self._watch = Watch(self._api, self._plan, backoff=self._retry.backoff)
        self._downloads = Downloads(self._transport, retry=retry or DOWNLOAD_RETRY)
        self._pipeline = Pipeline(
            self._api,
            self._watch,
            self._downloads,
            plan=self._plan,
            retry=self._retry,
            generation_timeout=self._transport.timeouts.generation_timeout,
        )
        self._engine: Engine | None = None
        self._calls = OpenCalls()
        self._closed = False

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

        `timeout` is how many seconds the generation may run before GenerationTimeoutError, which has its id.

        Raises: InvalidRequestError, APIStatusError, GenerationError, ConnectError; QueueFullError as `submit` does.
        Source: POST /generate.
        """
        job = await self.submit(
            prompt, mode=mode, priority=priority, group=group, timeout=timeout, wait_for_room=wait_for_room, **fields
        )
        try:
            return await job.result()
        except asyncio.CancelledError:
            job.cancel()
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
        reply = await self._retrying(lambda: self._api.get(generation_id))
        return reply.value.to_generation(generation_id)

    async def wait(self, generation_id: str, *, timeout: float | None = None) -> Generation:
        """Wait for a generation by its id: one of an earlier process, or one whose wait ended early.

        Raises: GenerationTimeoutError after `timeout` seconds, GenerationFailedError, ContentRejectedError.
        """
        patience = timeout if timeout is not None else self._transport.timeouts.generation_timeout
        record = await self._while_open(lambda: self._watch.until_end(generation_id, timeout=patience, at_once=True))
        generation = record.to_generation(generation_id)
        raise_for_failure(generation)
        return generation

    async def models(self) -> list[Model]:
        """The models and what they cost. Source: GET /models. Raises: APIStatusError, TransportError."""
        return await self._retrying(self._api.models)

    async def credits(self) -> int:
        """The account's balance. Source: GET /credits. Raises: APIStatusError, TransportError."""
        return await self._retrying(self._api.credits)

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
        return await self._while_open(lambda: self._downloads.save(whole, folder, stem=stem))

    # ---- state and end

    @property
    def timeouts(self) -> Timeouts:
        """The deadlines that its requests have."""
        return self._transport.timeouts

    def statistics(self) -> ClientStatistics:
        """The numbers of this moment."""
        return self._engine.statistics() if self._engine is not None else ClientStatistics()

    @property
    def plan(self) -> Plan:
        """When to look at what runs. What a LearnedPlan has learned can be kept: see its `dump` and `load`."""
        return self._plan

    def expected_wait(self, *, priority: float = 0, group: str | None = None) -> float | None:
        """Seconds until a job submitted now would get a slot: from the queue, the slots and how long they are held.

        None while that is not known: before the first generation has ended. A job in the queue tells its `position`.
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
        self._closed = True
        self._calls.end()
        with anyio.CancelScope(shield=True):
            try:
                if self._engine is not None:
                    await self._engine.aclose()
            finally:
                await self._transport.aclose()

    async def __aenter__(self) -> Self:
        self._closed = False
        self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        now = self.statistics()
        slots = f"{now.submitting + now.running + now.abandoned}/{'?' if now.limit is None else now.limit}"
        return (
            f"<Client {self._transport.base_url} [jobs: {now.running} running, {now.queued} queued | slots: {slots}]>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a client holds the API key and open connections; it can't be pickled")

    def __del__(self) -> None:
        if getattr(self, "_engine", None) is not None and not self._closed:
            warnings.warn(
                f"{type(self).__name__} was not closed; use async with, or aclose()", ResourceWarning, 2, self
            )

    # ---- inside

    def _make_job(self, request: GenerateRequest, **options: Any) -> Job:
        check_references(request.reference_images)
        return Job(request, **options)

    def _started(self) -> Engine:
        """The engine of the running loop; a loop that has ended leaves its engine behind."""
        self._check_open()
        if self._engine is None or self._engine.ended:
            limiter = self._limiter or AccountLimiter(max_concurrency=self._max_concurrency)
            self._engine = Engine(limiter, self._pipeline.run, max_queued=self._max_queued, ageing=self._ageing)
        if self._engine.loop is not asyncio.get_running_loop():
            raise RuntimeError("this client belongs to another running event loop; make one client per loop")
        return self._engine

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the client is closed; open a new one")

    async def _while_open(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call that closing the client ends."""
        self._check_open()
        return await self._calls.run(call)

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        """A read, repeated as the retry policy allows."""
        delays = self._retry.delays()
        while True:
            try:
                return await self._while_open(call)
            except NanoBananaError as error:
                delay = self._retry.next_delay(error, delays)
                if delay is None:
                    raise
            await anyio.sleep(delay)


def find_api_key(api_key: str | None = None) -> str:
    """The key given, else the environment's. Raises: ConfigurationError, without repeating the key."""
    key = api_key or os.environ.get("NANO_BANANA_API_KEY") or os.environ.get("NB_API_KEY") or ""
    key = key.strip()
    if not key:
        raise ConfigurationError("no API key: pass api_key, or set NANO_BANANA_API_KEY")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError("the API key has characters that no key has; copy it again")
    return key


def find_base_url(base_url: str | None = None) -> str:
    """The base URL given, else the environment's, else the service's."""
    return base_url or os.environ.get("NANO_BANANA_BASE_URL") or DEFAULT_BASE_URL
