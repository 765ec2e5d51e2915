"""Calls that end when their client is closed, and reads that are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ._exceptions import NanoBananaError
from ._retry import RetryPolicy

T = TypeVar("T")


class OpenCalls:
    """Knows the tasks that are inside a call, and cancels them there: a cancel scope for each would take 10 µs.

    A task that is cancelled by somebody else as well stays cancelled (`asyncio.timeout` does it in the same way).
    """

    def __init__(self, retry: RetryPolicy) -> None:
        self.closed = False
        self._retry = retry
        self._tasks: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self) -> None:
        """The client is opened, perhaps again."""
        self.closed = False

    def check_open(self) -> None:
        """Raises: RuntimeError once the client is closed."""
        if self.closed:
            raise RuntimeError("the client is closed; open a new one")

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns. Raises: RuntimeError when `end` came before it did."""
        self.check_open()
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self._tasks.add(task)
        try:
            return await call()
        except asyncio.CancelledError:
            if self._take_back(task) and task.cancelling() <= cancelling:
                raise RuntimeError("the client was closed during this call") from None
            raise
        finally:
            self._tasks.discard(task)
            self._take_back(task)

    async def read(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns, which costs nothing: it is tried again as the retry policy allows."""
        delays = self._retry.delays()
        while True:
            try:
                return await self.run(call)
            except NanoBananaError as error:
                delay = self._retry.next_delay(error, delays)
                if delay is None:
                    raise
            await anyio.sleep(delay)

    def end(self) -> None:
        """End every call under way, and begin none any more."""
        self.closed = True
        for task in self._tasks - self._ended:
            self._ended.add(task)
            task.cancel()

    def _take_back(self, task: asyncio.Task[object]) -> bool:
        """Undo our own cancellation, if there was one."""
        if task not in self._ended:
            return False
        self._ended.discard(task)
        task.uncancel()
        return True
