"""Tasks that run beside a block and end with it. What the block raises is raised as it is, and in no group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio

CANCEL_INTERVAL = 0.5  # seconds between cancellations of a task that goes on


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these until the block ends. They handle their own errors."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await end(tasks)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: redis-py (8.1) sometimes swallows a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_INTERVAL)
