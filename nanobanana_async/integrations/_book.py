"""The book that processes sharing an account keep in common: who holds which slot, and who waits. Pure values.

A *holder* is a process; it must be heard of before its `expires`. A *lease* is one slot: its token is made by its
first holder and never used again, its fence grows whenever it changes hands. A *waiter* wants a slot; more urgent
ones come first, then older ones. `facts` are what `Admission` knows of the limit.

The book has its own time, which never goes back: a store whose clock does (a reboot, another server) goes on from
where the book was. The *epoch* names one life of the book: one that was lost and is restored gets a new name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

TOLERANCE = 1.0  # seconds that clocks of several processes may differ without having been set back
NOBODY = ""  # holds the leases of those who died


class LeaseState(StrEnum):
    """Where a slot stands. What is forsaken is watched by nobody and counts until a time."""

    SUBMITTING = "s"
    RUNNING = "r"
    FORSAKEN = "f"


@dataclass(slots=True)
class Lease:
    """One slot. It counts until it is given back, or until the time `until`."""

    token: str
    holder: str
    fence: int
    state: LeaseState = LeaseState.SUBMITTING
    until: float | None = None
    generation_id: str | None = None
    seen_at: int = 0  # what Admission.looked returned for it

    def __post_init__(self) -> None:
        self.state = LeaseState(self.state)


@dataclass(slots=True)
class Holder:
    """A process. One that is not `confirmed` was written down by another, and has not spoken since."""

    expires: float
    address: str = ""
    batch: int = 0  # the number of its last change: one that is tried again was perhaps written already
    confirmed: bool = True


@dataclass(slots=True)
class Waiter:
    """Somebody who waits for a slot, and since when there has been one for them."""

    token: str
    holder: str
    priority: float
    age: int
    offered: float | None = None


@dataclass(slots=True)
class Book:
    """What is known of one account."""

    epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    version: int = 0
    at: float = float("-inf")
    offset: float = 0.0  # from the store's clock to the book's time
    counter: int = 0  # of fences and ages
    change: float | None = None  # when time alone may make room
    facts: dict[str, Any] = field(default_factory=dict)
    holders: dict[str, Holder] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    waiters: dict[str, Waiter] = field(default_factory=dict)

    def now(self, clock: float) -> float:
        """The book's time when the store's clock says `clock`."""
        if clock + self.offset < self.at - TOLERANCE:
            self.offset = self.at - clock
        return max(self.at, clock + self.offset)

    def next_number(self) -> int:
        """A number higher than all before."""
        self.counter += 1
        return self.counter

    def held_by(self, holder: str) -> Iterator[Lease]:
        """A holder's leases."""
        return (lease for lease in self.leases.values() if lease.holder == holder)

    def queue(self) -> list[Waiter]:
        """Those who wait, the most urgent first."""
        return sorted(self.waiters.values(), key=lambda waiter: (-waiter.priority, waiter.age))

    def counts(self) -> dict[str, Any]:
        """What `Admission.restore` wants to know of the leases."""
        states = [lease.state for lease in self.leases.values()]
        return {
            "running": states.count(LeaseState.RUNNING),
            "submitting": states.count(LeaseState.SUBMITTING),
            "forsaken": [lease.until for lease in self.leases.values() if lease.state is LeaseState.FORSAKEN],
        }

    # ---- as text

    def body(self) -> str:
        """All that a turn may change, as JSON in one line."""
        return json.dumps(
            {
                "epoch": self.epoch,
                "offset": self.offset,
                "counter": self.counter,
                "change": self.change,
                "facts": self.facts,
                "holders": {name: _fields(holder) for name, holder in self.holders.items()},
                "leases": [_fields(lease) for lease in self.leases.values()],
                "waiters": [_fields(waiter) for waiter in self.waiters.values()],
            },
            separators=(",", ":"),
        )

    def dumps(self, body: str | None = None) -> str:
        """The book as text: which version of when, in a line of its own, and the body."""
        return f"{json.dumps([self.version, self.at])}\n{body or self.body()}"

    @classmethod
    def loads(cls, text: str) -> Self:
        """The book that `dumps` wrote. Raises: ValueError, TypeError, KeyError for anything else."""
        head, _, body = text.partition("\n")
        version, at = json.loads(head)
        told = json.loads(body)
        leases = (Lease(*fields) for fields in told["leases"])
        waiters = (Waiter(*fields) for fields in told["waiters"])
        return cls(
            version=version,
            at=at,
            **{name: told[name] for name in ("epoch", "offset", "counter", "change", "facts")},
            holders={name: Holder(*fields) for name, fields in told["holders"].items()},
            leases={lease.token: lease for lease in leases},
            waiters={waiter.token: waiter for waiter in waiters},
        )


def _fields(value: Lease | Holder | Waiter) -> list[Any]:
    """A value's fields in their order; a tenth of the time that `astuple` takes, which copies."""
    return [getattr(value, name) for name in value.__slots__]
