"""The life of a generation: slot, charge, timer, end.

A submission passes `accept` without an await: slot, then credits, then the server's capacity, so that a 429 never
charges and a 503 always refunds. A timer ends it; nobody needs to wait for it, and ten thousand are ten thousand
entries of the loop's heap, not tasks.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from dataclasses import dataclass, field

from . import _refusals
from ._accounts import Account
from ._clock import Clock
from ._ledger import Entry, Ledger
from ._orders import Order
from ._settings import FAIL_MARKER, UNSAFE_MARKER, Settings

UNSAFE_MESSAGE = "Content safety check failed"
FAILED_MESSAGE = "Image generation failed"


@dataclass(slots=True, eq=False)
class _Running:
    entry: Entry
    account: Account
    failing: bool
    timer: asyncio.TimerHandle | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class Generations:
    """Starts generations and ends them on time."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Clock) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._random = random.Random(settings.seed)
        self._running: dict[str, _Running] = {}

    def accept(self, account: Account, order: Order, *, busy: bool = False, failing: bool = False) -> Entry:
        """Take a submission, or refuse it with 402, 429 or 503 (`busy` forces the last)."""
        if account.scope == "generation" and account.full:
            raise _refusals.too_many(account.limit, account.active)
        if account.credits < order.cost:
            raise _refusals.no_credits()
        entry = self._charge(account, order)
        if busy or (order.mode == "async" and self._at_capacity):
            self._refund(account, entry)
            raise _refusals.server_busy(self._ledger.active)
        if UNSAFE_MARKER in order.prompt:
            self._reject(entry)
        else:
            self._start(_Running(entry, account, failing or FAIL_MARKER in order.prompt))
        return entry

    async def wait(self, entry: Entry, timeout: float | None = None) -> bool:
        """Wait for the end; False when `timeout` seconds passed first."""
        running = self._running.get(entry.generation_id)
        if running is None:
            return True
        ended = asyncio.get_running_loop().create_future()
        running.waiters.append(ended)
        try:
            await asyncio.wait((ended,), timeout=timeout)
        finally:
            running.waiters.remove(ended)
        return entry.state != "processing"

    def finish(self, generation_id: str) -> None:
        """End a running generation now; KeyError when it is not running."""
        self._end(self._running[generation_id])

    def finish_all(self) -> None:
        """End every running generation now."""
        for running in tuple(self._running.values()):
            self._end(running)

    def close(self) -> None:
        """Stop all timers; what ran stays `processing` forever."""
        for running in self._running.values():
            if running.timer is not None:
                running.timer.cancel()
        self._running.clear()

    @property
    def _at_capacity(self) -> bool:
        return self._settings.capacity is not None and self._ledger.active >= self._settings.capacity

    def _charge(self, account: Account, order: Order) -> Entry:
        account.credits -= order.cost
        entry = Entry(
            generation_id=f"clx{secrets.token_hex(11)}",  # never seeded: two emulators must not share ids
            account=account.name,
            prompt=order.prompt,
            mode=order.mode,
            model=order.model.name,
            quantity=order.quantity,
            references=order.references,
            aspect_ratio=order.aspect_ratio if order.model.supports_aspect_ratio else "default",
            credits=order.cost,
            created_at=self._clock.now(),
        )
        self._ledger.charge(entry)
        return entry

    def _refund(self, account: Account, entry: Entry) -> None:
        account.credits += entry.credits
        self._ledger.refund(entry, self._clock.now())

    def _reject(self, entry: Entry) -> None:
        entry.error = UNSAFE_MESSAGE
        self._ledger.settle(entry, "rejected", self._clock.now())

    def _start(self, running: _Running) -> None:
        entry, account = running.entry, running.account
        entry.duration = self._settings.duration * self._random.lognormvariate(0.0, self._settings.sigma)
        if math.isfinite(entry.duration):
            running.timer = asyncio.get_running_loop().call_later(entry.duration, self._end, running)
        self._running[entry.generation_id] = running
        account.running += 1
        self._ledger.started(account.name, account.running)

    def _end(self, running: _Running) -> None:
        del self._running[running.entry.generation_id]
        if running.timer is not None:
            running.timer.cancel()
        if running.failing:
            running.entry.error = FAILED_MESSAGE
        running.account.running -= 1
        self._ledger.active -= 1
        self._ledger.settle(running.entry, "failed" if running.failing else "completed", self._clock.now())
        for waiter in running.waiters:
            if not waiter.done():
                waiter.set_result(None)
