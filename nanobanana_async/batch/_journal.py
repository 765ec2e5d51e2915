"""A batch's memory: `batch.db`, told of every step of every job before anything relies on it.

    ready → intent → running → completed → stored
      ↑        │        │          └→ expired
      └────────┤        └→ failed, rejected, lost
               └→ failed, rejected, uncertain

Theory of operation. Every call is an order to one writer thread (`_writer`), which commits orders in groups and
answers after the commit; so whatever a call returned from is on disk, and survives kill -9 and, with synchronous
FULL, a power cut. Only the order intent → POST → accepted matters for money: an intent without an answer is a doubt,
and the next start finds it (`doubt_intents`). The tables and triggers in `schema.sql` keep the log of attempts and the
sums in the same transactions, so neither can drift from the states.

A job that was put aside is ready again by `requeue` only; what its earlier attempts took stays counted. One whose
generation turns out to run, or to have images, goes on with that (`_second_look`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from .._models import DEFAULT_MODEL, Generation
from . import _journal_steps as steps
from ._inputs import ModelCounts, Row
from ._journal_codec import MANIFEST_COLUMNS, to_manifest
from ._journal_db import DB_FILE, connect_read_only, explain, session, told
from ._journal_import import Import
from ._journal_mirror import Snapshot, mirror
from ._journal_rows import Added, Counts, JobState, JournalRow, StateCounts
from ._lock import is_locked
from ._manifest import ManifestRow
from ._writer import Writer

T = TypeVar("T")
P = ParamSpec("P")

# Seconds in which an order may wait for others, to share their commit.
LINGER = 0.01  # nobody waits for it in a hurry: no slot is held any more, and no money depends on it
ACCEPTED_LINGER = 0.001  # the next row's intent is hardly ever further away

_MANIFEST = f"SELECT {MANIFEST_COLUMNS} FROM input CROSS JOIN job USING (idx) ORDER BY input.idx"
_SINCE_LAST_STEP = "SELECT julianday('now') - julianday(at) FROM attempt ORDER BY id DESC LIMIT 1"
_TALLY = "SELECT state, sum(jobs), sum(images), sum(spent), sum(reserved) FROM tally GROUP BY state"
_GIVEN_UP = "SELECT state, count(*) FROM job WHERE state IN ('failed', 'lost') AND attempts >= ? GROUP BY state"
_TALLY_READY = "SELECT model, jobs, images, surcharge FROM tally WHERE state = 'ready' AND jobs > 0"


class Journal:
    """One batch's journal; `async with Journal.open(folder) as journal`.

    Every method raises JournalError when the disk fails or is full, with nothing of that call written; the journal
    can be used on once there is space.
    """

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._folder = folder
        self._writer = writer

    def __repr__(self) -> str:
        return f"<Journal {self._folder / DB_FILE}>"

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, *, synchronous: str = "FULL") -> AsyncIterator[Journal]:
        """Open the folder's journal, or begin one, and keep every other process off the folder.

        Raises: JournalError when another process works there, for a newer schema, another program's or a broken
        file, a folder that can't be written to, a full disk.
        """
        path = folder / DB_FILE
        writer = Writer(lambda: session(folder, synchronous), explain=lambda error: explain(error, path))
        await writer.start()
        try:
            yield cls(folder, writer)
        finally:
            await writer.aclose()

    # ---- rows and sums

    async def add_rows(self, rows: Iterable[Row], *, dedupe: bool = False, source: str | None = None) -> Added:
        """Take an input's rows: all of them, or none if one can't be taken. Rows that are there stay as they are.

        `rows` is drained in the writer thread, and nothing else is written meanwhile. `dedupe` leaves out a row whose
        key and request are those of an earlier one. `source` is the input's name for messages.

        Raises: InputError for a row that differs from the one known by its index; whatever `rows` raises.
        """
        order = Import(rows, dedupe=dedupe, source=source)
        try:
            return await self._writer.run(order, alone=True)
        except asyncio.CancelledError:
            order.abandoned.set()
            raise

    async def counts(self) -> Counts:
        """Sums by state. Takes no longer for a million rows than for one."""
        return await self._run(_counts)

    async def given_up(self, max_attempts: int) -> dict[JobState, int]:
        """Failed and lost rows that have had as many attempts, by state."""
        return await self._run(_given_up, max_attempts)

    async def open_by_model(self) -> dict[str, ModelCounts]:
        """What is still to be sent, by model."""
        return await self._run(_open_by_model)

    async def take(self, limit: int, *, after: int = -1) -> list[JournalRow]:
        """The next ready rows beyond index `after`, in index order. Takes the same time however many are done."""
        return await self.unfinished(JobState.READY, limit=limit, after=after)

    async def unfinished(self, *states: JobState, limit: int, after: int = -1) -> list[JournalRow]:
        """The next rows in any of these states beyond index `after`, in index order."""
        return await self._run(steps.select, states, limit, after)

    # ---- the steps of a job

    async def intend(self, index: int, cost: int | None) -> None:
        """About to be sent, for this many credits: they are reserved. On disk when this returns.

        Raises: RuntimeError for a row that is not ready.
        """
        await self._run(steps.intend, index, cost)

    async def intend_again(self, index: int, cost: int | None) -> None:
        """The same for an uncertain row, which may be paid already: only where the user asked for that.

        The row is never merely ready meanwhile, or a later run would send it unasked. Raises: RuntimeError.
        """
        await self._run(steps.intend_again, index, cost)

    async def put_back(self, index: int, error: str) -> None:
        """Such a row was refused or never sent: it is as uncertain as before, and why."""
        await self._run(steps.put_back, index, error)

    async def withdrawn(self, index: int) -> None:
        """Refused or never sent: ready again, nothing reserved, no attempt spent. A ready row stays as it is.

        Raises: RuntimeError for a row that was accepted, or has ended.
        """
        await self._run(steps.withdrawn, index)

    def accepted(
        self,
        index: int,
        generation_id: str | None,
        credits: int | None,  # noqa: A002
        remaining: int | None,
    ) -> asyncio.Future[None]:
        """Taken by the service, for so many credits, with so many left. On disk when the future is done.

        It is ordered by the call itself: what is ordered later is committed with it or after it.
        """
        return self._run_with_others(ACCEPTED_LINGER, steps.accepted, index, generation_id, credits, remaining)

    def completed(self, index: int, generation: Generation) -> asyncio.Future[None]:
        """Made: its links and their end are known. One without images is recorded as failed, or rejected."""
        return self._run_with_others(LINGER, steps.completed, index, generation)

    async def stored(self, index: int, files: Sequence[str], *, completed: Generation | None = None) -> None:
        """On disk: `files` as the manifest names them. `completed`: as what it was made, where that is not recorded."""
        if completed is None:
            await self._run_with_others(LINGER, steps.stored, index, files)
        else:
            await self._run_with_others(LINGER, steps.completed_and_stored, index, completed, files)

    async def ended(
        self,
        index: int,
        state: JobState,
        error: str,
        *,
        generation_id: str | None = None,
        credits: int | None = None,  # noqa: A002
        remaining: int | None = None,
    ) -> None:
        """Put aside: failed, rejected, uncertain, lost or expired, and why.

        What an answer to the submission itself told, `credits` and `remaining`, goes to the balance as well.

        A failure with neither id nor credits, told now or before, was a refusal and frees what was reserved. What is
        lost counts as paid, by its expected cost unless `credits` says otherwise.
        """
        await self._run(steps.ended, index, state, error, generation_id, credits, remaining)

    async def doubt_intents(self) -> int:
        """At a start: intents that a crash left become uncertain; how many. Accepted ones without an id are lost."""
        return await self._run(steps.doubt_intents)

    async def requeue(
        self,
        *states: JobState,
        max_attempts: int | None = None,
        indexes: Sequence[int] | None = None,
        without_id: bool = False,
    ) -> int:
        """Make jobs that were put aside ready again, if they had fewer than `max_attempts`; how many.

        `without_id`: only those whose generations are not known, so that nobody could look at them.

        An uncertain attempt counts as not paid from then on; to count it as paid, end it as lost first.
        """
        return await self._run(steps.requeue, states, max_attempts, indexes, without_id)

    async def mirror(self, rows: Sequence[Snapshot], settings: Mapping[str, str] | None = None) -> None:
        """Take over what became of rows elsewhere, and settings with them: all of it, or nothing."""
        await self._run(mirror, rows, settings or {})

    # ---- what is known of the account and the batch

    async def balance(self) -> int | None:
        """The account's balance as last known."""
        return await self._run(steps.balance)

    async def set_balance(self, credits: int) -> None:  # noqa: A002
        """The account's balance, as it was just read."""
        await self._run(steps.set_balance, credits)

    async def age(self) -> float:
        """Seconds since the last step of any job; 0 for a clock that was set back meanwhile, or without any step."""
        return max(0.0, await self._run(_age))

    async def get_setting(self, name: str) -> str | None:
        """What was set under this name."""
        return await self._run(_get_setting, name)

    async def set_setting(self, name: str, value: str) -> None:
        """Remember a value under a name."""
        await self._run(_set_setting, name, value)

    # ---- the manifest

    async def flush(self) -> None:
        """Commit what lingers, so that everybody can read it."""
        await self._run(_nothing)

    def manifest_rows(self) -> Iterator[ManifestRow]:
        """The rows as they are now, in index order, streamed on a connection of their own. For another thread."""
        return _manifest_rows(self._folder, running=True)

    @staticmethod
    def read(folder: Path) -> Iterator[ManifestRow]:
        """The same without the lock, whether or not a batch runs there. Raises: JournalError, at the first row."""
        return _manifest_rows(folder, running=None)

    @staticmethod
    def peek_setting(folder: Path, name: str) -> str | None:
        """A setting without the lock, whether or not a batch runs there. Raises: JournalError."""
        with told(folder / DB_FILE), closing(connect_read_only(folder)) as connection:
            return _get_setting(connection, name)

    def _run(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **named: P.kwargs
    ) -> asyncio.Future[T]:
        return self._writer.run(lambda connection: work(connection, *args, **named))

    def _run_with_others(
        self, linger: float, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **named: P.kwargs
    ) -> asyncio.Future[T]:
        return self._writer.run(lambda connection: work(connection, *args, **named), linger=linger)


def _manifest_rows(folder: Path, *, running: bool | None) -> Iterator[ManifestRow]:
    known_running = is_locked(folder) if running is None else running
    with told(folder / DB_FILE), closing(connect_read_only(folder)) as connection:
        for columns in connection.execute(_MANIFEST):
            yield to_manifest(columns, running=known_running)


def _nothing(connection: sqlite3.Connection) -> None:
    """What is committed with it is what counts."""


def _counts(connection: sqlite3.Connection) -> Counts:
    counts = Counts()
    for state, *sums in connection.execute(_TALLY):
        counts.by_state[JobState(state)] = StateCounts(*sums)
    return counts


def _given_up(connection: sqlite3.Connection, max_attempts: int) -> dict[JobState, int]:
    return {JobState(state): rows for state, rows in connection.execute(_GIVEN_UP, (max_attempts,))}


def _open_by_model(connection: sqlite3.Connection) -> dict[str, ModelCounts]:
    found: dict[str, ModelCounts] = {}
    for name, rows, images, surcharge in connection.execute(_TALLY_READY):
        model = found.setdefault(name or DEFAULT_MODEL, ModelCounts())
        model.rows += rows
        model.images += images
        model.surcharge += surcharge
    return found


def _age(connection: sqlite3.Connection) -> float:
    [days] = connection.execute(_SINCE_LAST_STEP).fetchone() or [0.0]
    return float(days) * 86_400


def _get_setting(connection: sqlite3.Connection, name: str) -> str | None:
    found = connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])


def _set_setting(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value)
    )
