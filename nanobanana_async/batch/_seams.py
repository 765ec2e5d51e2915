"""What working on rows needs of a journal and a ledger: a batch's own on this disk, or a shard's that many share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from .._job import Ledger
from .._models import Generation
from ._journal_rows import JobState, JournalRow
from ._judging import Doubt, Judgement
from ._turnstile import Turn


class RowJournal(Protocol):
    """Rows by their state, and what becomes of them; `Journal` has more."""

    async def unfinished(self, *states: JobState, limit: int, after: int = -1) -> list[JournalRow]: ...
    def completed(self, index: int, generation: Generation) -> Awaitable[None]: ...
    async def stored(self, index: int, files: Sequence[str]) -> None: ...
    async def ended(
        self,
        index: int,
        state: JobState,
        error: str,
        *,
        generation_id: str | None = None,
        credits: int | None = None,  # noqa: A002
    ) -> None: ...


class SubmissionLedger(Ledger, Protocol):
    """The ledger of one row's submission. Between `intend` and the answer it is `inside`.

    `line_up` calls `go` when the row's job may be queued: whoever would have to wait for its turn shall not hold a
    slot. It must not raise.
    `superseded`: somebody else has brought the row further, and its job was cancelled for that.
    """

    row: JournalRow
    cost: int | None
    turn: Turn | None
    superseded: bool

    @property
    def inside(self) -> bool: ...
    def line_up(self, go: Callable[[], None]) -> None: ...
    async def outside(self) -> None: ...
    async def answered(self, credits: int | None) -> None: ...  # noqa: A002
    def leave(self) -> None: ...
    def close(self) -> None: ...


class RowJudge(Protocol):
    """Finds out what became of a submission whose answer was lost."""

    async def settle(self, doubt: Doubt, turn: Turn) -> Judgement: ...


LedgerMaker: TypeAlias = Callable[[JournalRow], SubmissionLedger]
