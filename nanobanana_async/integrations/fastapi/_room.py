"""How many jobs may wait: all together, and of each owner. Pure."""

from __future__ import annotations

from collections import defaultdict

from ..._job import JobStatus
from ._records import JobRecord


class Room:
    """Told of every change of a job here, it knows those that wait."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._of_owner: defaultdict[str, set[str]] = defaultdict(set)
        self._waiting = 0

    def refusal(self, owner: str) -> str | None:
        """Why this owner can't queue one more; None: there is room."""
        own = len(self._of_owner.get(owner, ()))
        if own >= self._most_of_one:
            return f"{own} of your jobs wait already"
        return f"{self._waiting} jobs wait already" if self._waiting >= self._most else None

    def update(self, record: JobRecord) -> None:
        """The job came, or changed."""
        if record.status == JobStatus.QUEUED.value:
            self._waiting += record.id not in self._of_owner[record.owner]
            self._of_owner[record.owner].add(record.id)
        else:
            self.leave(record)

    def leave(self, record: JobRecord) -> None:
        """The job is not here any more. Idempotent."""
        own = self._of_owner.get(record.owner, set())
        self._waiting -= record.id in own
        own.discard(record.id)
        if not own:
            self._of_owner.pop(record.owner, None)
