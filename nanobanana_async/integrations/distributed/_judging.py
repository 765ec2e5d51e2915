"""What became of submissions whose answers were lost, told from the balance while nobody of us submits.

The book adds up what every answer of every worker says was taken. So once nothing is on its way, the balance that is
expected is known, and what is missing is the doubts' (or somebody else's, who also uses the account: then the balance
tells nothing). Whoever has a doubt holds all submissions, waits until none is on its way, reads the balance, and
writes the verdict on all doubts of the account in one step, which the book refuses if the hold was lost meanwhile.

A dead worker's intents become doubts when no answer can come any more (`sort_intents` in _prelude.lua); nobody holds
submissions for that long, so a judgement waits for it beforehand.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from ..._client import Client
from ..._exceptions import BatchError, JobCancelledError, NanoBananaError
from ...batch._brake import Brake
from ...batch._journal_rows import JobState
from ...batch._judging import MAX_MISSES, MAX_QUESTIONS, Doubt, Judgement
from ...batch._patience import Patience
from ...batch._submitting import UNCERTAIN
from ...batch._turnstile import Turn
from ._book import Book
from ._ledger import ShardLedger
from ._shard import Shard
from ._stops import stop_reason

HOLD_SECONDS = 30.0  # after which a hold whose holder is stuck ends by itself
LOOK_INTERVAL = 0.05  # seconds between looks whether anything is on its way
WAIT_INTERVAL = 0.5  # between looks whether a dead worker's intents are due
_LOST = "charged, but the answer with its id was lost; --retry-failed pays for it again"
_DROPPED = "the service dropped it again and again without taking it"
_TAKES_NOTHING = stop_reason(BatchError("the service takes nothing; run it again later"))


class Settler:
    """Judges an account's doubts, one judgement at a time."""

    def __init__(self, book: Book, client: Client, patience: Patience) -> None:
        self._book = book
        self._client = client
        self._patience = patience
        self._judging = asyncio.Lock()

    async def settle(self, brake: Brake, *, wait: bool = True) -> None:
        """Until there is no doubt; without `wait`, only if that can be now.

        Raises: JobCancelledError when the brake is pulled before; BatchError, APIStatusError, BookError.
        """
        async with self._judging:
            while not brake.pulled:
                _, pending, doubts = await self._book.quiet()
                if not doubts or (not wait and pending):
                    return
                if pending or not await self._judged(brake):
                    await brake.rest(WAIT_INTERVAL if pending else LOOK_INTERVAL)
        raise JobCancelledError("stopped before the balance could be read; the next slice judges")

    async def witness(self, brake: Brake, spent: Callable[[], Awaitable[int]]) -> tuple[int, int] | None:
        """Read the balance while nothing is on its way, so that it is known from where our spending counts.

        Returns it, and what was spent at that moment. None when that is not to be had now.
        """
        async with self._judging, self._hold() as token:
            if not await self._is_quiet(token, brake):
                return None
            sum_now, balance = await spent(), await self._balance(token, brake)
            return (balance, sum_now) if await self._book.witness(token, balance) else None

    async def _judged(self, brake: Brake) -> bool:
        """Whether the doubts are judged now."""
        async with self._hold() as token:
            if not await self._is_quiet(token, brake):
                return False
            balance = await self._balance(token, brake)
            if await self._verdict(token, balance, apply=False) == "not taken":
                await anyio.sleep(self._patience.confirm_delay)
                balance = await self._balance(token, brake)
            return await self._verdict(token, balance, apply=True) != "again"

    @asynccontextmanager
    async def _hold(self) -> AsyncIterator[str]:
        """A token to hold submissions with; they go on afterwards, whatever happens."""
        token = secrets.token_hex(8)
        try:
            yield token
        finally:
            with anyio.CancelScope(shield=True):
                await self._book.unhold(token)

    async def _is_quiet(self, token: str, brake: Brake) -> bool:
        """Hold submissions, and wait until none is on its way; False when that is not to be had now."""
        while not brake.pulled:
            live, pending, _ = await self._book.quiet(token, HOLD_SECONDS)
            if live <= 0:
                return live == 0 and pending == 0
            await anyio.sleep(LOOK_INTERVAL)
        return False

    async def _verdict(self, token: str, balance: int, *, apply: bool) -> str:
        memory = round(self._patience.shared_memory * 1000)
        words = (_LOST, UNCERTAIN, _DROPPED, _TAKES_NOTHING)
        return await self._book.judge(token, balance, memory, MAX_MISSES, int(apply), *words)

    async def _balance(self, token: str, brake: Brake) -> int:
        """The balance; the hold goes on meanwhile. A service that can't tell it is not asked for ever."""
        for _ in range(MAX_QUESTIONS):
            await self._book.quiet(token, HOLD_SECONDS)
            try:
                return await self._client.credits()
            except NanoBananaError as error:
                if not error.retryable:
                    raise
                reason = error
            await brake.rest(self._patience.network_interval)
            if brake.pulled:
                raise JobCancelledError("stopped before the balance could be read; the next slice judges") from reason
        raise BatchError(f"the balance can't be read ({reason}), so a lost answer can't be judged") from reason


class ShardJudge:
    """What becomes of one row's lost answer."""

    def __init__(self, settler: Settler, shard: Shard, brake: Brake, *, retries: bool) -> None:
        self._settler = settler
        self._shard = shard
        self._brake = brake
        self._retries = retries
        self.ledgers: dict[int, ShardLedger] = {}

    async def settle(self, doubt: Doubt, turn: Turn) -> Judgement:
        """Judge it with all others. Raises: what `Settler.settle` raises."""
        index = doubt.row.index
        ledger = self.ledgers[index]
        await self._shard.doubt(index, ledger.nonce)
        ledger.leave()
        await self._settler.settle(self._brake)
        await self._shard.refresh()
        row = self._shard.rows[index]
        if row.state is JobState.UNCERTAIN:
            again = self._retries and row.attempts < self._shard.max_attempts
        else:
            again = row.state not in (JobState.LOST, JobState.FAILED)
        return Judgement(row.state, row.error or "not taken, so it is sent again", again=again)
