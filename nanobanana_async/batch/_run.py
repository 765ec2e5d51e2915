"""One run over a batch: what was left in doubt is judged, what runs is picked up, what is ready is submitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio

from .._client import BATCH_PRIORITY, Client
from .._exceptions import BatchError, NanoBananaError
from ._ballast import Ballast
from ._brake import Brake
from ._budget import Budget, Prices
from ._feeding import EARLIER_WIDTH, Feed
from ._journal import Journal
from ._journal_rows import Counts, JobState
from ._judging import Judge
from ._memory import Memory
from ._network import Network
from ._outputs import Outputs
from ._patience import Patience
from ._rows import Rows
from ._second_look import RETRIED, SecondLook
from ._settling import Account
from ._submitting import SHARED_AT, Desk, RowLedger, written_off
from ._telling import Teller
from ._turnstile import Turnstile

LEAST_WIDTH = 32  # rows under way at once, or twice the slots if that is more


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run may spend, what it tries again, and how its jobs stand among the client's others."""

    max_credits: int | None = None
    retry_failed: bool = False
    uncertain: Literal["hold", "retry"] = "hold"
    max_attempts: int = 3
    priority: float = BATCH_PRIORITY
    group: str | None = None
    patience: Patience = field(default_factory=Patience)


class Run:
    """Goes through a batch once. `brake.reason` tells what ended it early, `spent_before` where its costs begin."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        folder: Path,
        options: RunOptions,
        *,
        brake: Brake,
        teller: Teller,
        outputs: Outputs,
    ) -> None:
        self.spent_before: int | None = None
        self._client = client
        self._journal = journal
        self._folder = folder
        self._options = options
        self._brake = brake
        self._teller = teller
        self._outputs = outputs
        self._network = Network(client, brake, teller, options.patience)
        self._memory = Memory(client, journal, interval=options.patience.memory_interval)

    async def through(self, prices: Prices) -> None:
        """Bring every row as far as it goes. Whatever ends it early but a cancellation pulls the brake."""
        try:
            with Ballast(self._folder) as ballast:
                desk = await self._desk(prices, ballast)
                judge = self._judge(desk)
                await self._begin(desk, judge)
                await self._drive(desk, judge)
        except NanoBananaError as error:
            self._brake.pull(error)
        except OSError as error:
            told = f"{self._folder}: {error.strerror}; free space, then run the same command again"
            self._brake.pull(BatchError(told))
        await self._memory.write()

    async def settle(self, prices: Prices) -> None:
        """Judge what an earlier run left in doubt; submit nothing.

        Raises: NanoBananaError, OSError.
        """
        with Ballast(self._folder) as ballast:
            desk = await self._desk(prices, ballast)
            await self._settle(self._judge(desk))

    # ---- before

    async def _desk(self, prices: Prices, ballast: Ballast) -> Desk:
        patience = self._options.patience
        shared_at = await self._journal.get_setting(SHARED_AT)
        return Desk(
            journal=self._journal,
            folder=self._folder,
            budget=Budget(self._options.max_credits),
            prices=prices,
            turnstile=Turnstile(lambda: patience.hold_up(self._client.slot_interval)),
            account=Account(
                await self._journal.balance(),
                shared_memory=patience.shared_memory,
                shared_at=float(shared_at) if shared_at else None,
            ),
            brake=self._brake,
            ballast=ballast,
            moved=self._teller.moved,
        )

    def _judge(self, desk: Desk) -> Judge:
        options = self._options
        return Judge(
            self._client,
            desk,
            self._network,
            options.patience,
            uncertain=options.uncertain,
            max_attempts=options.max_attempts,
            say=self._teller.say,
        )

    async def _begin(self, desk: Desk, judge: Judge) -> None:
        """Judge what an earlier run left in doubt, queue what is to be tried again, and count what is spent."""
        await self._settle(judge)
        await self._count(desk)
        if self._options.retry_failed:
            await self._retry_failed()
            await self._count(desk)
        await self._memory.recall()

    async def _settle(self, judge: Judge) -> None:
        self.spent_before = (await self._journal.counts()).credits
        await judge.settle_old()
        await self._journal.doubt_intents()  # none is left, but what was accepted without an id is lost now

    async def _count(self, desk: Desk) -> None:
        counts = await self._journal.counts()
        desk.budget.spent = await committed(self._journal, counts)
        self._teller.start(counts, desk.budget)

    async def _retry_failed(self) -> None:
        """Queue what is to be tried again; where an id is known, not before a look has shown that it must be."""
        most = self._options.max_attempts
        await self._journal.requeue(*RETRIED, max_attempts=most, without_id=True)
        look = SecondLook(
            self._client,
            self._journal,
            self._folder,
            brake=self._brake,
            network=self._network,
            teller=self._teller,
            max_attempts=most,
        )
        await look.through()

    # ---- the work

    async def _drive(self, desk: Desk, judge: Judge) -> None:
        rows = Rows(
            self._client,
            self._journal,
            self._folder,
            new_ledger=lambda row: RowLedger(row, desk),
            judge=judge,
            brake=self._brake,
            network=self._network,
            teller=self._teller,
            leave_timeout=self._options.patience.answer_timeout,
            gives_up=self._options.retry_failed,
            priority=self._options.priority,
            group=self._options.group,
        )
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._outputs.keep_fresh)
            beside.start_soon(self._network.watch)
            beside.start_soon(self._memory.keep)
            paid = (JobState.RUNNING, JobState.COMPLETED)
            await rows.go_through(
                Feed(self._journal, self._brake, *paid, width=lambda: self._width(EARLIER_WIDTH), once=True),
                Feed(self._journal, self._brake, JobState.READY, *self._doubtful(), width=self._width),
            )
            beside.cancel_scope.cancel()

    def _doubtful(self) -> tuple[JobState, ...]:
        return (JobState.UNCERTAIN,) if self._options.uncertain == "retry" else ()

    def _width(self, least: int = LEAST_WIDTH) -> int:
        return 0 if self._network.away else max(least, 2 * self._client.slots)


async def committed(journal: Journal, counts: Counts) -> int:
    """What a budget has to count as spent: taken, reserved, and what uncertain attempts may have taken."""
    return counts.credits + counts.reserved + await written_off(journal)
