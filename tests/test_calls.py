"""A call ends with its client, and a task that somebody else cancels stays cancelled."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from nanobanana_async import RetryPolicy
from nanobanana_async._calls import OpenCalls


async def stall() -> None:
    await asyncio.get_running_loop().create_future()


async def started(calls: OpenCalls, call=stall) -> asyncio.Task[None]:
    task = asyncio.create_task(calls.run(call))
    while not len(calls):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return task


async def test_a_call_returns_what_it_returns() -> None:
    """And is forgotten."""
    calls = OpenCalls(RetryPolicy())
    assert await calls.run(lambda: asyncio.sleep(0, 7)) == 7
    assert len(calls) == 0


async def test_ending_ends_a_call_and_leaves_its_task_alive() -> None:
    """The caller hears of it as an error, and may go on to await other things."""
    calls = OpenCalls(RetryPolicy())

    async def caller() -> int:
        with pytest.raises(RuntimeError, match="closed during this call"):
            await calls.run(stall)
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    task = asyncio.create_task(caller())
    while not len(calls):  # noqa: ASYNC110
        await asyncio.sleep(0)
    calls.end()
    calls.end()
    assert await task == 0
    assert len(calls) == 0


@pytest.mark.parametrize("ours_first", [True, False])
async def test_a_task_that_is_cancelled_as_well_stays_cancelled(ours_first: bool) -> None:
    """Whichever came first."""
    calls = OpenCalls(RetryPolicy())
    task = await started(calls)
    for cancel in (calls.end, task.cancel) if ours_first else (task.cancel, calls.end):
        cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_ends_all_the_same_leaves_no_cancellation_behind() -> None:
    """One that catches it, or has its result already."""
    calls = OpenCalls(RetryPolicy())

    async def stubborn() -> int:
        try:
            await stall()
        except asyncio.CancelledError:
            return 7
        return 0

    async def caller() -> tuple[int, int]:
        return await calls.run(stubborn), asyncio.current_task().cancelling()

    task = asyncio.create_task(caller())
    while not len(calls):  # noqa: ASYNC110
        await asyncio.sleep(0)
    calls.end()
    assert await task == (7, 0)


async def test_a_deadline_around_a_call_is_a_deadline() -> None:
    """anyio's and asyncio's own."""
    calls = OpenCalls(RetryPolicy())
    with anyio.move_on_after(0.01) as scope:
        await calls.run(stall)
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await calls.run(stall)
