"""Many prompts in, outcomes out as they finish, in flat memory."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio

from ._exceptions import InvalidRequestError
from ._job import Job, JobStatus
from ._models import GenerateRequest, Generation

CLEANUP_SECONDS = 5.0  # for the input's own clean-up, when it is an async generator

Prompts: TypeAlias = Iterable[str | GenerateRequest] | AsyncIterable[str | GenerateRequest]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one prompt: `generation` or `error`, never both.

    `index` is its place in the input. `request` is None only when `item`, what the input gave, could not be made one.
    """

    index: int
    item: Any
    request: GenerateRequest | None
    generation: Generation | None = None
    error: BaseException | None = None


class Outcomes:
    """`async with client.map(prompts) as outcomes: async for outcome in outcomes: …`

    Reads the input only as fast as outcomes are taken, so an endless one is welcome. One failure stops nothing.
    Leaving the block cancels what waits; what runs at the service runs on. An error that the input itself raises
    comes out after the outcomes of everything before it.

    After the block, `unread` are the outcomes that nobody has read, and `abandoned` the jobs that were sent and had not
    ended: `client.wait(job.generation_id)` picks one up. At most as many as were pending; the log has their ids, too.
    """

    unread: tuple[Outcome, ...] = ()
    abandoned: tuple[Job, ...] = ()

    def __init__(
        self,
        prompts: Prompts,
        *,
        make_job: Callable[[Any], Job],
        enqueue: Callable[[Job], Awaitable[None]],
        width: Callable[[], int],
    ) -> None:
        self._prompts = prompts
        self._make_job = make_job
        self._enqueue = enqueue
        self._width = width
        self._pending: dict[str, tuple[int, Any, Job]] = {}
        self._ready: deque[tuple[Outcome, Job | None]] = deque()
        self._input_error: BaseException | None = None
        self._changed = asyncio.Event()
        self._feeder: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._feeder = asyncio.create_task(self._feed(), name="nanobanana map")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if self._feeder is not None:
            self._feeder.cancel()
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await asyncio.wait((self._feeder,))

    def __aiter__(self) -> Self:
        return self

    def _leave(self) -> None:
        """Keep what nobody has heard of, and let all of it go."""
        ready, pending = list(self._ready), [job for _, _, job in self._pending.values()]
        self.unread = tuple(outcome for outcome, _ in ready)
        self.abandoned = tuple(job for job in pending if job.status is not JobStatus.QUEUED)
        for job in (*(job for _, job in ready if job is not None), *pending):
            job.abandon()
        self._ready.clear()

    async def __anext__(self) -> Outcome:
        if self._feeder is None:
            raise RuntimeError("outcomes are read inside their block: async with client.map(…) as outcomes")
        while not self._ready:
            if self._feeder.done() and not self._pending:
                raise self._input_error or StopAsyncIteration
            await self._change()
        outcome, _ = self._ready.popleft()
        self._changed.set()  # there is room for one more
        return outcome

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _feed(self) -> None:
        try:
            async with aclosing(_numbered(self._prompts)) as items:
                async for index, item in items:
                    await self._add(index, item)
                    while len(self._pending) + len(self._ready) >= self._width():
                        await self._change()
        except Exception as error:
            self._input_error = error
        finally:
            asyncio.get_running_loop().call_soon(self._changed.set)  # when this task is done

    async def _add(self, index: int, item: Any) -> None:
        try:
            job = self._make_job(item)
        except InvalidRequestError as error:
            self._ready.append((Outcome(index, item, None, error=error), None))
            self._changed.set()
            return
        self._pending[job.id] = (index, item, job)
        try:
            await self._enqueue(job)
        except BaseException:
            del self._pending[job.id]
            raise
        job.add_done_callback(self._collect)

    def _collect(self, job: Job) -> None:
        index, item, _ = self._pending.pop(job.id)
        generation = job.generation if job.error is None else None
        self._ready.append((Outcome(index, item, job.request, generation, job.error), job))
        self._changed.set()


async def _numbered(prompts: Prompts) -> AsyncGenerator[tuple[int, Any], None]:
    index = itertools.count()
    if isinstance(prompts, AsyncIterable):
        async for item in prompts:
            yield next(index), item
    else:
        for item in prompts:
            yield next(index), item
