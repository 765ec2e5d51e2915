"""What becomes of submissions whose answers were lost: asked of the balance while nobody else submits.

A row stays `intent` in the journal until it is judged. So whatever ends a judgement early, be it kill -9, leaves the
row for the next start, and what was judged once is not judged again by a balance that has moved since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .._client import Client
from .._exceptions import BatchError, JobCancelledError, NanoBananaError
from ._journal_rows import JobState, JournalRow
from ._network import Network
from ._patience import Patience
from ._settling import Verdict
from ._submitting import UNCERTAIN, Desk, take_back
from ._turnstile import Turn

MAX_MISSES = 5  # times that the service may drop one row's submission before it is taken to be the row's fault
MAX_QUESTIONS = 20  # for the balance, each of them retried as the client does
_LOST = "charged, but the answer with its id was lost; --retry-failed pays for it again"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Judgement:
    """The state a row is in now, what there is to say about it, and whether it is sent again."""

    state: JobState
    message: str
    again: bool = False


@dataclass(slots=True, eq=False)
class Doubt:
    """A submission whose answer won't come. `cost` is what it may have taken."""

    row: JournalRow
    cost: int | None
    reason: str
    judgement: Judgement | None = None


@dataclass(slots=True)
class _Misses:
    """How often one row's submission was not taken, and how many submissions had been taken before the first."""

    taken_before: int
    number: int = 0


class Judge:
    """Judges doubts, all that are open together, one judgement at a time."""

    def __init__(
        self,
        client: Client,
        desk: Desk,
        network: Network,
        patience: Patience,
        *,
        uncertain: Literal["hold", "retry"],
        max_attempts: int,
        say: Callable[[str], None] = lambda note: None,
    ) -> None:
        self._client = client
        self._desk = desk
        self._network = network
        self._patience = patience
        self._retries = uncertain == "retry"
        self._max_attempts = max_attempts
        self._say = say
        self._open: list[Doubt] = []
        self._misses: dict[int, _Misses] = {}

    async def settle(self, doubt: Doubt, turn: Turn) -> Judgement:
        """Find out what became of a submission, while nobody submits.

        Raises: JobCancelledError when the batch stops before the balance could be read; APIStatusError.
        """
        self._open.append(doubt)
        try:
            async with self._desk.turnstile.alone(turn):
                if doubt.judgement is None:
                    await self._judge(list(self._open))
        finally:
            self._open.remove(doubt)
        assert doubt.judgement is not None  # open ones are judged together
        return doubt.judgement

    async def settle_old(self) -> None:
        """The same for the intents that an earlier run left; then the balance is known. Nothing is under way yet.

        Raises: as `settle` does.
        """
        journal = self._desk.journal
        rows = await journal.unfinished(JobState.INTENT, limit=_PAGE)
        doubts = [Doubt(row, row.cost, "the process ended before the answer was read") for row in rows]
        quiet = await journal.age() - self._client.timeouts.submit_timeout  # so long one may have hung, and then died
        await self._judge(doubts, age=max(0.0, quiet))

    async def _judge(self, doubts: list[Doubt], *, age: float = 0.0) -> None:
        """`age`: for how many seconds nothing of them has been on its way, as far as is known."""
        desk, costs = self._desk, [doubt.cost for doubt in doubts]
        balance = await self._balance()
        verdict = desk.account.judge(balance, costs)
        if doubts and verdict is Verdict.NOT_TAKEN and age < self._patience.confirm_delay:
            await self._wait(self._patience.confirm_delay - age)
            balance = await self._balance()
            verdict = desk.account.judge(balance, costs)
        for doubt in doubts:
            doubt.judgement = await self._write(doubt, verdict)
        await desk.journal.set_balance(balance)
        desk.account.balance = balance

    async def _wait(self, seconds: float) -> None:
        """Until an unchanged balance can be believed. Raises: JobCancelledError when the batch is stopped before."""
        self._say(f"a lost submission may still arrive: the balance is asked again in {seconds:.0f} s")
        await self._desk.brake.rest(seconds)
        self._say("")
        if self._desk.brake.pulled:
            raise JobCancelledError("stopped before an unchanged balance could be believed; the next run judges")

    async def _balance(self) -> int:
        """The balance, however long the network is away; a service that can't tell it is not asked for ever."""
        for _ in range(MAX_QUESTIONS):
            try:
                return await self._client.credits()
            except NanoBananaError as error:
                if not error.retryable:
                    raise
                reason = error
            await self._network.back()
            await self._desk.brake.rest(self._patience.network_interval)
            if self._desk.brake.pulled:
                raise JobCancelledError("stopped before the balance could be read; the next run judges") from reason
        raise BatchError(
            f"the balance can't be read ({reason}), so what became of a lost answer can't be told; run it again later"
        ) from reason

    # ---- the verdict, written down

    async def _write(self, doubt: Doubt, verdict: Verdict) -> Judgement:
        match verdict:
            case Verdict.NOT_TAKEN:
                return await self._not_taken(doubt)
            case Verdict.TAKEN:
                return await self._taken(doubt)
            case Verdict.UNKNOWN:
                return await self._unknown(doubt)

    async def _not_taken(self, doubt: Doubt) -> Judgement:
        index = doubt.row.index
        self._desk.budget.release(index)
        self._desk.account.not_taken(doubt.cost)
        state = await take_back(self._desk, doubt.row)
        misses = self._misses.setdefault(index, _Misses(self._desk.account.taken))
        misses.number += 1
        if misses.number < MAX_MISSES:
            return Judgement(state, "not taken, so it is sent again", again=True)
        reason = f"the service dropped it {misses.number} times without taking it: {doubt.reason}"
        if misses.taken_before == self._desk.account.taken:  # nor any other, so it is not the row's fault
            self._desk.brake.pull(BatchError(f"the service takes nothing ({doubt.reason}); run it again later"))
            return Judgement(state, reason, again=True)
        await self._desk.journal.ended(index, JobState.FAILED, reason)
        return Judgement(JobState.FAILED, reason)

    async def _taken(self, doubt: Doubt) -> Judgement:
        index = doubt.row.index
        await self._desk.journal.ended(index, JobState.LOST, _LOST, credits=doubt.cost)
        self._desk.budget.settle(index, doubt.cost)
        return Judgement(JobState.LOST, _LOST)

    async def _unknown(self, doubt: Doubt) -> Judgement:
        index = doubt.row.index
        await self._desk.journal.ended(index, JobState.UNCERTAIN, UNCERTAIN)
        self._desk.budget.settle(index, doubt.cost)
        if not self._retries or doubt.row.attempts + 1 >= self._max_attempts:
            return Judgement(JobState.UNCERTAIN, UNCERTAIN)
        return Judgement(JobState.UNCERTAIN, "may be charged; sent again as --uncertain retry says", again=True)
