"""The witness's book: every generation, what it cost, and how many ran at once.

Totals are counters, so that they stay exact when `max_entries` lets old entries go.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["processing", "completed", "failed", "rejected", "refused"]


@dataclass(slots=True, eq=False)
class Entry:
    """One accepted (or refunded) submission. Moments are seconds since the epoch on the emulator's clock."""

    generation_id: str
    account: str
    prompt: str
    mode: str
    model: str
    quantity: int
    references: int
    aspect_ratio: str
    credits: int
    created_at: float
    duration: float = 0.0
    status: Literal["charged", "refunded"] = "charged"
    state: State = "processing"
    error: str | None = None
    finished_at: float | None = None
    polls: int = 0
    downloads: int = 0


class Ledger:
    """What happened, for tests to read. `refusals` counts by status: 429 and 503."""

    def __init__(self, max_entries: int | None = None) -> None:
        self.entries: deque[Entry] = deque()
        self.requests: Counter[str] = Counter()
        self.refusals: Counter[int] = Counter()
        self.states: Counter[State] = Counter()
        self.charges = 0
        self.credits_charged = 0
        self.credits_refunded = 0
        self.active = 0
        self.peak_active = 0
        self.peak_active_by_account: Counter[str] = Counter()
        self.open_requests = 0
        self.peak_open_requests = 0
        self.image_authorization_seen = False
        self._max_entries = max_entries
        self._by_id: dict[str, Entry] = {}
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def find(self, generation_id: str) -> Entry | None:
        """The entry of this id, refunded ones included; None when unknown or let go."""
        return self._by_id.get(generation_id)

    def charged(self) -> list[Entry]:
        """The kept entries that were paid, oldest first."""
        return [entry for entry in list(self.entries) if entry.status == "charged"]

    def charged_prompts(self) -> list[str]:
        """The prompt of each paid entry, oldest first: a prompt paid twice stands there twice."""
        return [entry.prompt for entry in self.charged()]

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait, without polling, until `predicate()` holds; it is asked again whenever the ledger changes."""
        if predicate():
            return
        watcher = (predicate, asyncio.get_running_loop().create_future())
        self._watchers.append(watcher)
        try:
            await watcher[1]
        finally:
            self._watchers.remove(watcher)

    def charge(self, entry: Entry) -> None:
        """Write down a paid submission."""
        self.entries.append(entry)
        self._by_id[entry.generation_id] = entry
        self.charges += 1
        self.credits_charged += entry.credits
        self._let_go()

    def refund(self, entry: Entry, now: float) -> None:
        """Take a charge back: the server was busy."""
        entry.status = "refunded"
        self.charges -= 1
        self.credits_charged -= entry.credits
        self.credits_refunded += entry.credits
        self.settle(entry, "refused", now)

    def started(self, account: str, active: int) -> None:
        """One more generation runs; `active` of them are the account's."""
        self.active += 1
        self.peak_active = max(self.peak_active, self.active)
        self.peak_active_by_account[account] = max(self.peak_active_by_account[account], active)
        self.changed()

    def settle(self, entry: Entry, state: State, now: float) -> None:
        """Write down how an entry ended."""
        entry.state = state
        entry.finished_at = now
        self.states[state] += 1
        self.changed()

    def opened(self) -> None:
        """A request to `/generate` came in."""
        self.open_requests += 1
        self.peak_open_requests = max(self.peak_open_requests, self.open_requests)
        self.changed()

    def closed(self) -> None:
        """A request to `/generate` was answered, or its client left."""
        self.open_requests -= 1
        self.changed()

    def changed(self) -> None:
        """Wake those in `until` whose time has come."""
        for predicate, future in self._watchers:
            if not future.done() and predicate():
                future.set_result(None)

    def _let_go(self) -> None:
        while self._max_entries is not None and len(self.entries) > self._max_entries:
            if self.entries[0].finished_at is None:
                return
            del self._by_id[self.entries.popleft().generation_id]

    def __repr__(self) -> str:
        return (
            f"<Ledger [{self.charges} charged, {self.credits_charged} credits | "
            f"active: {self.active}, peak {self.peak_active} | refusals: {dict(self.refusals)}]>"
        )
