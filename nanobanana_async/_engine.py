"""A client at work: the scheduler and its slots, on one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ._accounts import AccountStatistics
from ._job import Job
from ._limiter import Limiter, Slot
from ._queue import AGEING
from ._scheduler import Scheduler
from ._scope import Scope

_LOGGER = logging.getLogger(__name__)

_SCOPES: dict[Scope | None, str] = {
    "generation": "a generation, until it has ended",
    "request": "an open request; generations run on without one, until the service is busy",
    None: "not known any more; it is asked again",
}

LEAST_MAP_WIDTH = 32  # jobs that map() keeps between its input and its reader, or twice the slots if that is more


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """A client's jobs and slots at this moment, and what it has done so far.

    `abandoned` jobs were cancelled while the service runs on. `limit` is None while it is still being found, and so is
    `scope`: "generation" where a slot is held until the generation has ended, "request" where only open requests hold
    one. `others` is how many slots other users of the account take, `cool_down` how many seconds nothing is submitted
    because of a refusal. `completed`, `failed` and `cancelled` are jobs that have ended. `credits_used` counts from the
    acceptance of each job, and less again where its end tells of less. `accounts` are the numbers of each, where there
    are several.
    """

    queued: int = 0
    submitting: int = 0
    running: int = 0
    downloading: int = 0
    abandoned: int = 0
    limit: int | None = None
    scope: Scope | None = None
    others: int = 0
    cool_down: float = 0.0
    refusals: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    credits_used: int = 0
    accounts: tuple[AccountStatistics, ...] = ()


class Engine:
    """Starts when made; ends with `aclose()`.

    The scheduler lives in a task of its own, because a client may be opened in one task and closed in another.
    """

    def __init__(
        self,
        limiter: Limiter,
        run: Callable[[Job, Slot], Awaitable[None]],
        *,
        max_queued: int,
        ageing: float = AGEING,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.scheduler = Scheduler(limiter, self._run, max_queued=max_queued, ageing=ageing)
        self._limiter = limiter
        self._run_in_slot = run
        self._told: tuple[Scope | None, int | None] = (None, None)
        self._task = asyncio.create_task(self.scheduler.serve(), name="nanobanana scheduler")

    def map_width(self) -> int:
        """How many jobs keep every slot busy while outcomes are read."""
        return max(LEAST_MAP_WIDTH, 2 * self.slots)

    @property
    def limit(self) -> int | None:
        """How many generations may run at once; None while that is being found."""
        return self._limiter.statistics().limit

    @property
    def slots(self) -> int:
        """The limit; while it is being found, how many are taken: whoever keeps more jobs ready lets it be found."""
        return self._limiter.statistics().slots

    def statistics(self) -> ClientStatistics:
        """The numbers of this moment."""
        jobs, slots = self.scheduler.statistics(), self._limiter.statistics()
        return ClientStatistics(
            queued=jobs.queued,
            submitting=jobs.submitting,
            running=jobs.running,
            downloading=jobs.downloading,
            abandoned=jobs.abandoned + slots.forsaken,
            limit=slots.limit,
            scope=slots.scope,
            others=slots.others,
            cool_down=slots.cool_down,
            refusals=slots.refusals,
            completed=jobs.completed,
            failed=jobs.failed,
            cancelled=jobs.cancelled,
            credits_used=jobs.credits_used,
        )

    async def _run(self, job: Job, slot: Slot) -> None:
        """Run a job in its slot, and tell in the log what that has taught of the slots."""
        try:
            await self._run_in_slot(job, slot)
        finally:
            self._tell()

    def _tell(self) -> None:
        if not _LOGGER.isEnabledFor(logging.INFO):
            return
        slots = self._limiter.statistics()
        (scope, limit), self._told = self._told, (slots.scope, slots.limit)
        if slots.scope != scope:
            _LOGGER.info("what holds a slot: %s", _SCOPES[slots.scope])
        if slots.limit != limit:
            known = "not known yet" if slots.limit is None else slots.limit
            _LOGGER.debug("generations that may run at once: %s (%d taken by others)", known, slots.others)

    @property
    def ended(self) -> bool:
        """Whether it was closed, or its loop has gone."""
        return self._task.done() or self.loop.is_closed()

    async def aclose(self) -> None:
        """End all jobs. A cancellation while submissions are awaited gives those up, and is raised again."""
        if self.ended:
            return
        self.scheduler.stop()
        try:
            await asyncio.wait((self._task,))
        except asyncio.CancelledError:
            self.scheduler.abort()
            await asyncio.wait((self._task,))
            raise
