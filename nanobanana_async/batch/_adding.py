"""Rows of any iterable, sync or async, for the journal's writer thread. Nothing is collected on the way."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import TypeAlias

from .._models import GenerateRequest
from ._inputs import Row

BatchItem: TypeAlias = Row | GenerateRequest | str
CHUNK_ROWS = 256  # rows handed over at once: a hop between threads costs as much as some dozen rows
MAX_CHUNKS = 2  # handed over, and not taken yet


def to_row(index: int, item: BatchItem) -> Row:
    """A row as it is; a request or a prompt becomes one, without a key. Raises: InvalidRequestError."""
    return item if isinstance(item, Row) else Row(index, index + 1, None, GenerateRequest.of(item), {})


def rows_of(items: Iterable[BatchItem]) -> Iterator[Row]:
    """Rows of a plain iterable, which is drained in the writer's thread."""
    return (to_row(index, item) for index, item in enumerate(items))


class Bridge:
    """An async iterable on the loop's side, a plain one on the thread's: `fill` on one, `for row in bridge` there."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: queue.SimpleQueue[list[Row] | Exception | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(MAX_CHUNKS)

    async def fill(self, items: AsyncIterable[BatchItem]) -> None:
        """Hand over all items. What they raise is raised by the iteration."""
        try:
            index, chunk = 0, list[Row]()
            async for item in items:
                chunk.append(to_row(index, item))
                index += 1
                if len(chunk) == CHUNK_ROWS:
                    chunk = await self._hand_over(chunk)
            self._chunks.put(chunk)
        except Exception as error:
            self._chunks.put(error)
        finally:
            self._chunks.put(None)  # also when cancelled: the thread must not wait for ever

    async def _hand_over(self, chunk: list[Row]) -> list[Row]:
        await self._room.acquire()
        self._chunks.put(chunk)
        return []

    def __iter__(self) -> Iterator[Row]:
        while (chunk := self._chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield from chunk
            self._loop.call_soon_threadsafe(self._room.release)
