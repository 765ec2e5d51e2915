"""A generation's progress, to iterate over while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from ._events import StreamEvent
from ._job import Job
from ._models import Generation


class EventStream:
    """`async with client.stream(…) as events: async for event in events: …`

    Progress never falls, the last event is "complete" and has the generation. When the connection drops and the
    generation's id is known, polling takes over. Leaving the block early leaves the generation running,
    and its id in the log.

    Raises, while iterating: what the generation ended with; StreamInterruptedError when the stream broke before the
    id was told, because a paid generation may then be running.
    """

    def __init__(self, job: Job, enqueue: Callable[[Job], Awaitable[None]]) -> None:
        self.job = job
        self._enqueue = enqueue
        self._events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()  # None: the job has ended
        self._entered = self._ended = False
        self._seen = False  # the generation

    @property
    def generation(self) -> Generation | None:
        """The finished generation, once the stream has told it."""
        self._seen = self._seen or self.job.generation is not None
        return self.job.generation

    async def __aenter__(self) -> Self:
        self._entered = True
        self.job.on_event = self._events.put_nowait
        self.job.add_done_callback(lambda _: self._events.put_nowait(None))
        await self._enqueue(self.job)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._seen:
            self.job.abandon()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        if not self._entered:
            raise RuntimeError("a stream is read inside its block: async with client.stream(…) as events")
        if self._ended:
            raise StopAsyncIteration
        return await self._events.get() or await self._last()

    async def _last(self) -> StreamEvent:
        self._ended = True
        generation = await self.job.result()
        return StreamEvent("complete", "Generation completed", 100.0, generation)
