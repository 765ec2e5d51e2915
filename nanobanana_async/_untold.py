"""Paid generations that nobody hears of any more: a warning, because the service has no list to find their ids in."""

from __future__ import annotations

import asyncio
import logging

from ._job import Job, JobStatus

_LOGGER = logging.getLogger(__name__)

IDS_A_LINE = 100  # some 3,000 characters: what collects logs cuts longer lines, syslog's at 8,192

_NOTHING_TO_GET = (JobStatus.FAILED, JobStatus.REJECTED)


class Untold:
    """Gathers those of one turn of the loop, so that many at once are one line.

    A job may be dropped in any thread and at any line, also within the logging itself: so the loop tells of it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ids: list[str] = []

    def add(self, job: Job) -> None:
        """Nobody waits for this one; told of soon, if it is paid, has or will have images, and no ledger knows it."""
        if job.recorded or job.generation_id is None or job.status in _NOTHING_TO_GET:
            return
        self._ids.append(job.generation_id)
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self.tell)
        else:  # between two runs of it, or after the last
            self.tell()

    def tell(self) -> None:
        """Now: every id, for one that is not told is lost."""
        ids, self._ids = self._ids, []
        if len(ids) == 1:
            how = f"client.wait({ids[0]!r}), or nanobanana get {ids[0]} --wait"
            _LOGGER.warning("generation %s is paid and nobody waits for it any more; get it with %s", ids[0], how)
            return
        for start in range(0, len(ids), IDS_A_LINE):
            part = ids[start : start + IDS_A_LINE]
            _LOGGER.warning(
                "%d generations are paid and nobody waits for them any more; "
                "get each with client.wait(id), or nanobanana get ID --wait: %s",
                len(part),
                ", ".join(part),
            )
