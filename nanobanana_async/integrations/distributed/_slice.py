"""One slice of a shard: as far as it goes in the time given. Redelivered, repeated or cut off, it does no harm."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from ..._client import Client
from ..._exceptions import JobCancelledError
from ...batch._brake import Brake
from ...batch._budget import Prices
from ...batch._feeding import EARLIER_WIDTH, Feed
from ...batch._journal_rows import JobState, JournalRow
from ...batch._network import Network
from ...batch._patience import Patience
from ...batch._rows import Rows
from ...batch._telling import Teller
from ...batch._turnstile import Turnstile
from ._book import ShardLostError
from ._judging import Settler, ShardJudge
from ._ledger import ShardLedger
from ._shard import Shard

LEAST_WIDTH = 16  # rows of a shard under way at once, or twice the slots if that is more
DUE_INTERVAL = 0.5  # seconds between looks whether what a dead worker left can be judged


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceOptions:
    """What the batch's coordinator wants."""

    retries_uncertain: bool = False
    gives_up: bool = False


class Slice:
    """`await Slice(…).run(seconds)` returns the shard's state: `open`, `done` or `parked`."""

    def __init__(
        self,
        client: Client,
        shard: Shard,
        settler: Settler,
        prices: Prices,
        turnstile: Turnstile,
        *,
        options: SliceOptions,
        patience: Patience,
    ) -> None:
        self.brake = Brake()
        self._client = client
        self._shard = shard
        self._settler = settler
        self._prices = prices
        self._turnstile = turnstile
        self._options = options
        self._teller = Teller(client, None)
        self._network = Network(client, self.brake, self._teller, patience)
        self._judge = ShardJudge(settler, shard, self.brake, retries=options.retries_uncertain)
        self._rows = Rows(
            client,
            shard,
            shard.storage.folder,
            new_ledger=self._new_ledger,
            judge=self._judge,
            brake=self.brake,
            network=self._network,
            teller=self._teller,
            leave_timeout=patience.answer_timeout,
            gives_up=options.gives_up,
            group=shard.claim.batch,
        )

    @property
    def stored(self) -> int:
        """Rows whose images were brought home in this slice."""
        return self._shard.stored_now

    async def run(self, seconds: float) -> str:
        """Work until the shard is done or the time is over; what runs then is still brought home.

        Never raises but for cancellation: `brake.reason` tells what ended it early.
        """
        forget = self._shard.claim.lease.on_loss(lambda: self.brake.pull(ShardLostError("the lease was lost")))
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._stop_after, seconds)
                beside.start_soon(self._network.watch)
                await self._work()
                beside.cancel_scope.cancel()
        finally:
            forget()
        if self._shard.over:
            return "done"
        return "open" if self.brake.pulled or self._shard.changes else "parked"

    # ---- inside

    async def _work(self) -> None:
        try:
            while not self.brake.pulled:
                await self._shard.refresh()
                if self._shard.count(*self._open(), JobState.RUNNING, JobState.COMPLETED):
                    await self._pass()
                elif self._shard.count(JobState.INTENT):
                    await self._settler.settle(self.brake, wait=False)
                    await self.brake.rest(DUE_INTERVAL)
                else:
                    return
        except Exception as error:
            self.brake.pull(error)

    async def _pass(self) -> None:
        """Every row that there is something to do for, once."""
        async with anyio.create_task_group() as beside:
            if self._shard.count(JobState.INTENT):
                beside.start_soon(self._settle_old)
            paid = (JobState.RUNNING, JobState.COMPLETED)
            await self._rows.go_through(
                Feed(self._shard, self.brake, *paid, width=lambda: self._width(EARLIER_WIDTH), once=True),
                Feed(self._shard, self.brake, *self._open(), width=self._width),
            )
        await self._shard.refresh()
        self._shard.leave_paid()

    async def _settle_old(self) -> None:
        """What an earlier owner left in doubt, if it can be judged by now."""
        try:
            await self._settler.settle(self.brake, wait=False)
        except JobCancelledError:
            return
        except Exception as error:
            self.brake.pull(error)

    def _new_ledger(self, row: JournalRow) -> ShardLedger:
        ledger = ShardLedger(row, self._shard, brake=self.brake, prices=self._prices, turnstile=self._turnstile)
        self._judge.ledgers[row.index] = ledger
        return ledger

    def _open(self) -> tuple[JobState, ...]:
        return (JobState.READY, JobState.UNCERTAIN) if self._options.retries_uncertain else (JobState.READY,)

    def _width(self, least: int = LEAST_WIDTH) -> int:
        return 0 if self._network.away else max(least, 2 * self._client.slots)

    async def _stop_after(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        self.brake.pull()
