"""Several workers on one store: each beats while it lives, and takes over the jobs of those that have gone.

A queued job is queued here. A running one is waited for by its id. One whose submission was under way is never sent
again: nobody can tell any more whether it was taken, so its caller is told that it may be paid.
"""

from __future__ import annotations

import logging
import sqlite3

import anyio
from anyio.abc import TaskGroup

from ..._exceptions import (
    ContentRejectedError,
    GenerationFailedError,
    NanoBananaError,
    NotFoundError,
    SubmissionUncertainError,
)
from ..._job import JobStatus
from ._endings import end_failed, settle
from ._errors import problem_of
from ._jobs import JobService
from ._records import JobRecord
from ._store import BEAT_SECONDS

_LOGGER = logging.getLogger(__name__)


class Adoption:
    """`run` it beside the service, in a task group that is cancelled when the service closes."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    async def run(self) -> None:
        """Beat, and look for orphans, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                try:
                    await self._beat(group)
                except sqlite3.Error as error:  # busy, or a full disk: the next beat may do better
                    _LOGGER.warning("the jobs' store does not answer: %s", error)
                await anyio.sleep(BEAT_SECONDS)

    async def _beat(self, group: TaskGroup) -> None:
        service = self._service
        for name in await service.store.beat(service.places.all()):
            service.drop(name)
        for record in [] if service.closing else await service.store.adopt():
            _LOGGER.info("took over job %s, %s", record.id, record.status)
            group.start_soon(self._take_over, record)

    async def _take_over(self, record: JobRecord) -> None:
        if record.status == JobStatus.QUEUED.value:
            await self._service.resume(record)
        elif record.generation_id is not None:
            await self._wait(record)
        else:
            lost = SubmissionUncertainError("the server went away while it was being submitted")
            record.end(JobStatus.UNCERTAIN, problem_of(lost))
            await self._service.store.save(record)

    async def _wait(self, record: JobRecord) -> None:
        assert record.generation_id is not None
        client = self._service.client
        try:
            settle(record, await client.wait(record.generation_id, timeout=record.timeout))
        except (GenerationFailedError, ContentRejectedError, NotFoundError) as error:
            end_failed(record, error)
        except RuntimeError:  # the client was closed: the next worker goes on
            return
        except NanoBananaError as error:  # it may still end well: whoever asks for it looks again
            record.problem = problem_of(error).model_dump(exclude_none=True)
        await self._service.store.save(record)
        self._service.notify(record)
