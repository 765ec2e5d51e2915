"""A row's ledger: puts every step into the journal, holds the budget, and takes its turn at the turnstile.

Between `intend` and `accepted` or `withdrawn` a ledger is *inside*: a POST may be on its way. Whoever leaves the batch
early first waits until its ledgers are outside (`outside`), so that no paid id is left unrecorded. What comes in after
`close` (a generation that is watched on by the client) belongs to the next run, which picks it up by its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from .._answers import Submission
from .._exceptions import JobCancelledError, JournalError
from .._job import Job
from .._models import Generation
from .._wire import failure_of
from ._ballast import Ballast
from ._brake import Brake
from ._budget import Budget, Prices
from ._journal import Journal
from ._journal_rows import JobState, JournalRow
from ._manifest import relative_files
from ._settling import Account
from ._turnstile import Turn, Turnstile

_LOGGER = logging.getLogger(__name__)

SHARED_AT = "shared_at"  # a setting: when somebody else last moved the balance
DOUBTFUL = "doubtful_credits"  # a setting: costs of uncertain attempts that were sent again; they may have been paid
UNCERTAIN = "may be charged: the balance does not tell; --uncertain retry sends it again"
COMPLETED_LINGER = 0.2  # seconds in which images may be stored, to be recorded together with their links
RECORD_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between attempts to record a paid id on a full disk
_STOPPED = "the batch submits nothing more"


@dataclass(frozen=True, slots=True)
class Desk:
    """What all ledgers of a run share. `moved` hears of every change of a row's state."""

    journal: Journal
    folder: Path
    budget: Budget
    prices: Prices
    turnstile: Turnstile
    account: Account
    brake: Brake
    ballast: Ballast
    moved: Callable[[int, JobState], None]


class RowLedger:
    """The four steps and the withdrawal of one row's job."""

    def __init__(self, row: JournalRow, desk: Desk) -> None:
        self.row = row
        self.cost: int | None = None
        self.turn: Turn | None = None
        self.superseded = False  # the folder is locked: nobody else works on it
        self._desk = desk
        self._place = desk.turnstile.place()
        self._charged: int | None = None
        self._made: Generation | None = None  # and not recorded yet
        self._recording: asyncio.TimerHandle | None = None
        self._closed = False
        self._outside = asyncio.Event()
        self._outside.set()

    @property
    def inside(self) -> bool:
        """A submission is being prepared or under way."""
        return not self._outside.is_set()

    def line_up(self, go: Callable[[], None]) -> None:
        """Call `go` when the submission before this one is answered, or overdue: then a slot may be asked for."""
        self._place.line_up(go)

    async def outside(self) -> None:
        """Wait until no submission is under way."""
        await self._outside.wait()

    def close(self) -> None:
        """The run that made this ledger ends: record nothing but an answer that is still to come."""
        self._closed = True

    # ---- the hooks

    async def intend(self, job: Job) -> None:
        """Take a turn, reserve the cost, record the intent.

        Raises: BudgetExceededError, JournalError, JobCancelledError; nothing is sent then.
        """
        self._outside.clear()
        self.turn = await self._desk.turnstile.enter(on_overdue=self._place.pass_on)
        self._check_wanted(job)
        self.cost = self._desk.prices.of(self.row.request)
        self._desk.budget.reserve(self.row.index, self.cost)
        await self._write_intent()
        self._desk.moved(self.row.index, JobState.INTENT)
        self._check_wanted(job)

    async def withdrawn(self, job: Job) -> None:
        """The server refused it, or it never left, or `intend` did not come to its end."""
        try:
            if not self._closed:
                self._desk.moved(self.row.index, await take_back(self._desk, self.row))
        finally:
            self._desk.budget.release(self.row.index)
            self.leave()
        if self._desk.brake.pulled:
            job.cancel(_STOPPED)

    async def accepted(self, job: Job, submission: Submission) -> None:
        """The service took it: its id is on disk when this returns.

        The next row's turn begins before that, but not its POST: the journal keeps the order of what it is told, so
        the next intent is on disk only with, or after, this id, and one sync to disk serves both.
        """
        alone = self.turn is not None and self.turn.alone
        remaining = submission.remaining_credits if alone else None
        missing = self._charge(submission.credits_used, remaining)
        try:
            await self._record(submission, remaining)
        finally:
            self.leave()
        if missing:
            await self._note_shared(missing)
        self._desk.moved(self.row.index, JobState.RUNNING)

    async def finished(self, job: Job, generation: Generation) -> None:
        """Its links are known, or that there are none.

        Links to which its id leads are recorded a moment later, for the files are often there by then.
        """
        if self._closed:
            return
        if failure_of(generation) is not None or not generation.id:
            await self._desk.journal.completed(self.row.index, generation)
        else:
            self._made = generation
            self._recording = asyncio.get_running_loop().call_later(COMPLETED_LINGER, self._record_made)
            job.add_done_callback(lambda _: self._record_made())
        self._desk.moved(self.row.index, JobState.COMPLETED)
        if self._charged is None and generation.credits_used is not None:
            self._desk.budget.spent += generation.credits_used - (self.cost or 0)

    async def stored(self, job: Job, files: list[Path]) -> None:
        """Its files are on disk."""
        if not self._closed:
            names = relative_files(self._desk.folder, files)
            await self._desk.journal.stored(self.row.index, names, completed=self._taken())

    # ---- the end of a turn

    async def answered(self, credits: int | None) -> None:  # noqa: A002
        """It was taken and ended in one answer, without an id: rejected, say, and charged."""
        if self.turn is not None:
            missing = self._charge(credits, None)
            self.leave()
            if missing:
                await self._note_shared(missing)

    def leave(self) -> None:
        """Let the next one through. Idempotent."""
        self._end_turn()
        self._outside.set()

    # ---- inside

    def _end_turn(self) -> None:
        turn, self.turn = self.turn, None
        if turn is not None:
            self._desk.turnstile.leave(turn)
        self._place.pass_on()

    async def _write_intent(self) -> None:
        """Cancelled meanwhile, the intent is written all the same, and its withdrawal after it."""
        if self.row.state is JobState.UNCERTAIN:
            with anyio.CancelScope(shield=True):  # both or neither
                await write_off(self._desk, self.row.cost or 0)
                await self._desk.journal.intend_again(self.row.index, self.cost)
        else:
            await self._desk.journal.intend(self.row.index, self.cost)

    def _check_wanted(self, job: Job) -> None:
        if job.cancelled or self._desk.brake.pulled:
            raise JobCancelledError(f"row {self.row.index} was not sent: {_STOPPED}")

    async def _record(self, submission: Submission, remaining: int | None) -> None:
        """Write the id down, whatever it takes: on a full disk by what the ballast leaves, and again later."""
        told = (submission.generation_id, submission.credits_used, remaining)
        delays = iter(RECORD_DELAYS)
        while True:
            try:
                recorded = self._desk.journal.accepted(self.row.index, *told)
                self._end_turn()  # not before that order: the next row may begin here and now
                await recorded
                return
            except JournalError as error:
                self._desk.brake.pull(error)
                delay = 0.0 if self._desk.ballast.throw_off() else next(delays, None)
                if delay is None:
                    raise _unrecorded(self.row.index, submission, error) from error
            except RuntimeError as error:  # the journal was closed: the run was left before this answer came
                raise _unrecorded(self.row.index, submission, error) from error
            await anyio.sleep(delay)

    def _taken(self) -> Generation | None:
        """What is made and not recorded yet, to be recorded now."""
        made, self._made = self._made, None
        if self._recording is not None:
            self._recording.cancel()
        return made

    def _record_made(self) -> None:
        made = self._taken()
        if made is None:
            return
        with suppress(RuntimeError):  # the journal was closed: the next run finds the links by the id
            recorded = self._desk.journal.completed(self.row.index, made)
            recorded.add_done_callback(self._check_recorded)

    def _check_recorded(self, recorded: asyncio.Future[None]) -> None:
        """A row that could not be recorded as made is as it was, running, and paid; nothing more shall be."""
        error = None if recorded.cancelled() else recorded.exception()
        if isinstance(error, Exception):
            self._desk.brake.pull(error)

    def _charge(self, credits: int | None, remaining: int | None) -> int:  # noqa: A002
        """Settle what it took; how many credits are missing besides."""
        desk = self._desk
        self._charged = credits
        desk.budget.settle(self.row.index, credits)
        desk.prices.learn(self.row.request, credits)
        return desk.account.spent(credits, remaining)

    async def _note_shared(self, missing: int) -> None:
        """Somebody else has moved the balance, or a submission was taken after all that was judged as not taken."""
        late = self._desk.account.is_late(missing)
        if late:
            self._desk.budget.spent += missing
            told = "%d credits more are gone: what was judged as not taken, and sent again, was taken"
            _LOGGER.warning(told, missing)
        if self._closed:
            return
        _LOGGER.info("somebody else moves this account's balance: it can't tell what became of lost answers")
        with suppress(JournalError):
            if late:
                await write_off(self._desk, missing)
            await self._desk.journal.set_setting(SHARED_AT, str(self._desk.account.shared_at))


async def take_back(desk: Desk, row: JournalRow) -> JobState:
    """A submission took nothing: the row is what it was before, ready or uncertain.

    An intent that a crash left was uncertain before if it has an error: an earlier attempt's doubt.
    """
    if row.state is JobState.UNCERTAIN or (row.state is JobState.INTENT and row.error):
        await desk.journal.put_back(row.index, UNCERTAIN)
        return JobState.UNCERTAIN
    await desk.journal.withdrawn(row.index)
    return JobState.READY


async def write_off(desk: Desk, credits: int) -> None:  # noqa: A002
    """Count credits of uncertain attempts as spent for good: to send a row again must not make them free again."""
    if credits:
        await desk.journal.set_setting(DOUBTFUL, str(await written_off(desk.journal) + credits))


async def written_off(journal: Journal) -> int:
    """What `write_off` has added up to."""
    return int(await journal.get_setting(DOUBTFUL) or 0)


def _unrecorded(index: int, submission: Submission, error: Exception) -> JournalError:
    name = submission.generation_id
    message = f"row {index} is paid, but its id could not be recorded ({error}); nanobanana get {name} brings it"
    _LOGGER.error("%s", message)
    return JournalError(message, generation_id=name, credits_used=submission.credits_used)
