"""What a batch remembers of the account for its next run: its limit, and how long its generations take."""

from __future__ import annotations

from contextlib import suppress

import anyio

from .._client import Client
from .._exceptions import JournalError
from .._learned import LearnedPlan
from ._journal import Journal

LIMIT = "limit"  # a setting: the account's slots, as they were last known
LEARNED = "learned"  # a setting: what the plan has learned, as it dumps it


async def remembered_length(journal: Journal) -> float | None:
    """Seconds that a generation of earlier runs took, on average, if enough were seen."""
    plan = LearnedPlan()
    plan.load(await journal.get_setting(LEARNED) or "")
    return plan.mean_length


class Memory:
    """Keeps it in the journal. It is only advice: what can't be read or written is left out."""

    def __init__(self, client: Client, journal: Journal, *, interval: float) -> None:
        self._client = client
        self._journal = journal
        self._interval = interval
        self._written: dict[str, str] = {}

    async def recall(self) -> None:
        """Start warm: look at the first jobs when those of earlier runs were ready."""
        learned = await self._journal.get_setting(LEARNED)
        if learned and isinstance(self._client.plan, LearnedPlan):
            self._client.plan.load(learned)

    async def keep(self) -> None:
        """Write it down every now and then, until cancelled."""
        while True:
            await anyio.sleep(self._interval)
            await self.write()

    async def write(self) -> None:
        """Write down what has changed."""
        for name, value in self._known().items():
            if self._written.get(name) != value:
                with suppress(JournalError):
                    await self._journal.set_setting(name, value)
                    self._written[name] = value

    def _known(self) -> dict[str, str]:
        limit, plan = self._client.limit, self._client.plan
        known = {} if limit is None else {LIMIT: str(limit)}
        return known | {LEARNED: plan.dump()} if isinstance(plan, LearnedPlan) and plan.knows else known
