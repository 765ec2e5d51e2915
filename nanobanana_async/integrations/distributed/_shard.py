"""A shard's rows as a worker sees them: its file, how far the book says they are, and the steps that go back there.

The book knows best; what stands here is this slice's own view, brought up to date by `refresh` and by its own steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..._answers import Submission
from ..._exceptions import BudgetExceededError, ContentRejectedError
from ..._models import Generation
from ..._wire import failure_of
from ...batch._journal_rows import ASIDE, JobState, JournalRow
from ._book import Book, ForgottenError, ShardLostError
from ._lease import Lease
from ._rows import RowRecord
from ._storage import Storage

_PAID = frozenset({JobState.RUNNING, JobState.COMPLETED})
ENDED = ASIDE | {JobState.STORED}


class MisplacedError(Exception):
    """The row is not to be sent any more: somebody else has brought it further."""


class HeldError(Exception):
    """A lost answer is being judged; nothing may be submitted meanwhile."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A shard, its owner and the fence that proves it. `answer_timeout` is how long an intent may be unanswered."""

    batch: str
    shard: int
    fence: str
    lease: Lease
    worker: str
    answer_timeout: float


@dataclass(slots=True)
class Shard:
    """What `Rows` needs of a journal, and the steps of a ledger."""

    book: Book
    claim: Claim
    storage: Storage
    rows: dict[int, JournalRow]
    max_attempts: int
    told: dict[int, RowRecord] = field(default_factory=dict)  # what this slice told of rows that are paid or ended
    left: set[int] = field(default_factory=set)  # paid rows that this slice can't take further
    changes: int = 0
    stored_now: int = 0

    # ---- what there is

    async def refresh(self) -> None:
        """See the rows as the book has them."""
        for index, record in (await self.book.records(self.claim.batch, self.claim.shard)).items():
            if index in self.rows:
                self.rows[index] = record.upon(self.rows[index])

    async def unfinished(self, *states: JobState, limit: int, after: int = -1) -> list[JournalRow]:
        """The next rows in any of these states beyond index `after`, in index order."""
        found = (row for index, row in self.rows.items() if index > after and row.state in states and self._is_due(row))
        return sorted(found, key=lambda row: row.index)[:limit]

    def count(self, *states: JobState) -> int:
        """Rows in these states, those left aside not counted."""
        return sum(row.state in states and self._is_due(row) for row in self.rows.values())

    @property
    def over(self) -> bool:
        """Every row is at an end."""
        return all(row.state in ENDED for row in self.rows.values())

    def leave_paid(self) -> None:
        """What is paid and still not here stays for another slice."""
        self.left = {index for index, row in self.rows.items() if row.state in _PAID}

    def _is_due(self, row: JournalRow) -> bool:
        if row.state is JobState.UNCERTAIN:
            return row.attempts < self.max_attempts
        return row.index not in self.left

    # ---- a submission

    async def intend(self, row: JournalRow, cost: int | None, nonce: str) -> None:
        """About to be sent. Raises: MisplacedError, HeldError, ShardLostError, BudgetExceededError, BookError."""
        claim, again = self.claim, row.state is JobState.UNCERTAIN
        word = await self.book.intend(
            *(claim.batch, claim.shard, row.index, claim.fence, claim.worker, nonce),
            *("" if cost is None else cost, round(claim.answer_timeout * 1000), int(again)),
        )
        _check(word, claim, cost)
        self._put(row.index, state=JobState.INTENT, cost=cost, attempts=row.attempts + 1)

    async def withdraw(self, row: JournalRow, nonce: str) -> None:
        """It took nothing: the row is what it was."""
        await self.book.withdraw(self.claim.batch, self.claim.shard, row.index, nonce)
        self._put(row.index, state=row.state, cost=row.cost, attempts=row.attempts)

    async def accept(self, index: int, nonce: str, submission: Submission) -> str:
        """Taken, and paid: the book knows when this returns. `ok`, `twice` or `late`."""
        told = (submission.generation_id, submission.credits_used, submission.remaining_credits)
        known = {"state": JobState.RUNNING, "generation_id": told[0], "credits": told[1], "error": None}
        before = self._tell(index, known)
        word = await self.book.accept(self.claim.batch, self.claim.shard, index, nonce, told)
        if word != "twice":
            self._put(index, **known)
        elif before is None:
            del self.told[index]
        else:
            self.told[index] = before
        return word

    async def doubt(self, index: int, nonce: str) -> None:
        """Its answer was lost."""
        await self.book.doubt(self.claim.batch, self.claim.shard, index, nonce)

    # ---- what came of it

    async def completed(self, index: int, generation: Generation) -> None:
        """Made: its links are known. One without images is put aside as failed, or rejected."""
        failure = failure_of(generation)
        if failure is not None:
            state = JobState.REJECTED if isinstance(failure, ContentRejectedError) else JobState.FAILED
            told = generation.credits_used
            await self.ended(index, state, str(failure), generation_id=generation.id, credits=told)
            return
        await self._record(
            index,
            RowRecord(
                state=JobState.COMPLETED,
                generation_id=generation.id or None,
                credits=generation.credits_used,
                urls=tuple(generation.image_urls),
                created_at=generation.created_at,
                expires_at=generation.expires_at,
            ),
        )

    async def stored(self, index: int, files: Sequence[str]) -> None:
        """On disk; now also where the batch gathers."""
        await self.storage.keep(files)
        known = RowRecord.of(self.rows[index])  # all of it, for a Redis that has forgotten the rest
        await self._record(index, replace(known, state=JobState.STORED, files=tuple(files), error=None))
        self.stored_now += 1

    async def ended(
        self,
        index: int,
        state: JobState,
        error: str,
        *,
        generation_id: str | None = None,
        credits: int | None = None,  # noqa: A002
    ) -> None:
        """Put aside, and why."""
        record = RowRecord(state=state, error=error, generation_id=generation_id or None, credits=credits)
        await self._record(index, record)

    async def _record(self, index: int, record: RowRecord) -> None:
        known = {"state": record.state, **{name: value for name in _TOLD if (value := getattr(record, name))}}
        self._tell(index, known)
        await self.book.record(self.claim.batch, self.claim.shard, index, record)
        self._put(index, **known)

    def _tell(self, index: int, known: dict[str, Any]) -> RowRecord | None:
        """Note what is told before it is: Redis may write it down and forget it before its answer is read."""
        before = self.told.get(index)
        self.told[index] = RowRecord.of(replace(self.rows[index], **known))
        return before

    def _put(self, index: int, **values: Any) -> None:
        self.changes += 1
        self.rows[index] = replace(self.rows[index], **values)


_TOLD = ("generation_id", "credits", "urls", "created_at", "expires_at", "files", "error")


def _check(word: str, claim: Claim, cost: int | None) -> None:
    """What the book says to an intent."""
    match word.partition(":"):
        case ("ok", _, _):
            return
        case ("held", _, _):
            raise HeldError
        case ("misplaced" | "void", _, _):
            raise MisplacedError
        case ("fenced" | "stopped", _, _):
            raise ShardLostError(f"shard {claim.shard} is not this worker's any more, or its batch has stopped")
        case ("unpriced", _, _):
            raise BudgetExceededError(
                "what the next request costs isn't known, so a budget can't be kept; name a model that "
                "`nanobanana models` lists, or run without --max-credits"
            )
        case ("budget", _, left):
            raise BudgetExceededError(
                f"the next request costs {cost}, but the budget has only {left} left; "
                "run again with a larger --max-credits"
            )
    raise ForgottenError(f"Redis knows no batch {claim.batch}: it was flushed, or is another server")
