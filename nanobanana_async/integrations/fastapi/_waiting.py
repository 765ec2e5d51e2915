"""Waiting for a job's end in a request, as long as its caller is there."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

from fastapi import Request

from ._errors import ProblemError
from ._jobs import JobService
from ._states import JobState


async def wait_for_end(service: JobService, state: JobState, request: Request, seconds: float) -> JobState:
    """The job when it has ended or `seconds` are over.

    A caller that goes away meanwhile wants no image any more: a job that was not submitted yet is cancelled, for
    free; one that was is paid, runs on, and is found again by its id.
    """
    name, owner = state.record.id, state.record.owner
    tasks = (asyncio.create_task(_disconnected(request)), asyncio.create_task(_end(service, name, owner)))
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:  # as some middleware does when a caller goes away
        await _cancel_if_free(service, name, owner)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if done == {tasks[0]}:
        await _cancel_if_free(service, name, owner)
    return await service.find(name, owner)


async def _end(service: JobService, name: str, owner: str) -> None:
    async with aclosing(service.changes(name, owner)) as changes:
        async for _ in changes:
            pass


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel_if_free(service: JobService, name: str, owner: str) -> None:
    with suppress(ProblemError):  # it has been submitted: it runs on
        await service.cancel(name, owner)
