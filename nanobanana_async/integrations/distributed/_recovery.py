"""A batch that Redis has lost: which of its rows may go on, told from the balance.

The journal knows what the coordinator had taken over. What workers told and nobody took over, they tell again
(`_retelling`), and what was on its way is waited for. If the balance then is what all that explains, nothing else was
taken: the rows that nobody told of are ready. If not (a worker died as well, or somebody else spends on the account),
they are `uncertain`: never sent again unless the user asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..._client import Client
from ..._exceptions import JobCancelledError
from ...batch._brake import Brake
from ...batch._journal import Journal
from ...batch._journal_mirror import Snapshot
from ...batch._journal_rows import JobState, JournalRow
from ...batch._patience import Patience
from ...batch._runner import DISTRIBUTED
from ...batch._telling import Teller
from ._book import Book
from ._handing import Plan, from_ranges
from ._late import Latecomers
from ._pages import rows_of
from ._rows import RowRecord

BASELINE = "distributed_baseline"  # a setting: a batch, the balance at some moment, and what was spent until then
LOST = "Redis lost the batch while workers had this row: it may be charged; --uncertain retry sends it again"


class Recovery:
    """What to do when Redis has lost a batch, and what to note for that beforehand."""

    def __init__(
        self,
        journal: Journal,
        client: Client,
        latecomers: Latecomers,
        *,
        brake: Brake,
        teller: Teller,
        patience: Patience,
        answer_timeout: float,
    ) -> None:
        self._journal = journal
        self._client = client
        self._latecomers = latecomers
        self._brake = brake
        self._teller = teller
        self._patience = patience
        self._answer_timeout = answer_timeout

    async def note(self, batch: str, balance: int, spent: int) -> None:
        """The balance, and the journal's sum, at one moment when nothing was on its way."""
        await self._journal.set_setting(BASELINE, json.dumps([batch, balance, spent]))

    async def judge(self, book: Book, plan: Plan) -> None:
        """Wait for what is on its way, and judge what nobody told of. Afterwards the batch is nobody's.

        Raises: JobCancelledError when it was stopped meanwhile; APIStatusError.
        """
        self._teller.say("Redis has lost the batch; what is on its way is waited for")
        await self._latecomers.expect(plan.batch)
        await self._brake.rest(self._answer_timeout)
        await self._latecomers.take_over(book, None)
        left = [row for text in plan.shards for row in await self._untold(text)]
        explained = await self._is_explained(plan.batch)
        if self._brake.pulled:
            raise JobCancelledError("stopped before the balance could tell what became of the batch that Redis lost")
        await self._journal.mirror(judged(left, explained=explained), {DISTRIBUTED: ""})
        doubtful = f"what became of {len(left):,} rows is not known" if left and not explained else ""
        self._teller.say(doubtful and f"Redis has lost the batch: {doubtful}")

    async def _untold(self, shard: str) -> list[JournalRow]:
        return await rows_of(self._journal, set(from_ranges(shard)), JobState.READY, JobState.INTENT)

    async def _is_explained(self, batch: str) -> bool:
        """Whether the journal explains the balance, now and a moment later."""
        text = await self._journal.get_setting(BASELINE)
        name, balance, spent = json.loads(text) if text else ("", 0, 0)
        if name != batch:
            return False
        for delay in (0.0, self._patience.confirm_delay):
            await self._brake.rest(delay)
            expected = balance - ((await self._journal.counts()).credits - spent)
            if await self._client.credits() != expected:
                return False
        return True


def judged(rows: Iterable[JournalRow], *, explained: bool) -> list[Snapshot]:
    """What becomes of rows that nobody told of. One that was in doubt and sent again is as doubtful as before. Pure."""
    return [_record(row, explained=explained).snapshot(row.index) for row in rows]


def _record(row: JournalRow, *, explained: bool) -> RowRecord:
    if not explained:
        return RowRecord(state=JobState.UNCERTAIN, attempts=max(1, row.attempts), cost=row.cost, error=LOST)
    before = row.attempts - (row.state is JobState.INTENT)
    if row.state is JobState.INTENT and before > 0:
        return RowRecord(state=JobState.UNCERTAIN, attempts=before, cost=row.cost, error=LOST)
    return RowRecord(state=JobState.READY, attempts=before)
