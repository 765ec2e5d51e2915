"""Where each waiting job stands, for all of them at once.

To ask the client's queue for one job's position takes a step for every group, which is every owner here; for a thousand
owners who all watch their jobs that is too much. The order among jobs of one worker is known: by priority, then an even
share between owners, then age. So only the first is asked for, and the others are counted from it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..._job import Job, JobStatus
from ._records import JobRecord

FRESH_SECONDS = 0.25


@dataclass(slots=True)
class Live:
    """A job that this worker's client runs."""

    record: JobRecord
    job: Job
    progress: float = 0.0  # as the service tells it, in stream mode

    @property
    def queued(self) -> bool:
        """Whether it waits."""
        return self.record.status == JobStatus.QUEUED.value


class Places:
    """The places of those that wait among `live`, which is in the order of their arrival."""

    def __init__(self, live: Mapping[str, Live]) -> None:
        self._live = live
        self._places: dict[str, int] = {}
        self._until = 0.0

    def of(self, name: str) -> int | None:
        """How many jobs are ahead of this one; None when it does not wait."""
        return self.all().get(name)

    def all(self) -> dict[str, int]:
        """The same for all that wait, not older than FRESH_SECONDS."""
        if time.monotonic() >= self._until:
            self._places = self._count()
            self._until = time.monotonic() + FRESH_SECONDS
        return self._places

    def _count(self) -> dict[str, int]:
        places: dict[str, int] = {}
        ahead: int | None = None
        for name in ranks(self._live.values()):
            if ahead is None:
                ahead = self._live[name].job.position  # None: it has got its slot, and goes now
                places[name] = ahead or 0
            else:
                ahead += 1
                places[name] = ahead
        return places

    def changed(self) -> None:
        """A job came, went, or moved on."""
        self._until = 0.0


def ranks(jobs: Iterable[Live]) -> list[str]:
    """The ids of those that wait, in the order in which they will go."""
    held: Counter[str] = Counter()
    waiting: list[Live] = []
    for live in jobs:
        if live.queued:
            waiting.append(live)
        elif not live.record.ended:
            held[live.record.owner] += 1
    keys: dict[str, tuple[float, int]] = {}
    for live in waiting:
        keys[live.record.id] = (-live.record.priority, held[live.record.owner])
        held[live.record.owner] += 1
    return sorted(keys, key=keys.__getitem__)
