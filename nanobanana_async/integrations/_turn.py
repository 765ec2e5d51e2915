"""One process's turn at the book: what it has to tell, what others left undone, and the slots it may take. Pure.

Theory of operation
-------------------
A turn is one transaction of a store, at one moment of the book's time. The policy is `Admission`'s: it is restored
from the facts and the leases, told what happened, and its facts are written back. In a turn, in this order:

1. Whoever was not heard of in time is *dead*: its waiters are struck out. Its leases are not given back, because what
   it started runs on: one whose generation id is known waits to be *adopted* by somebody who can look at it; any other
   counts for as long as a submission's answer may take. So no slot is freed by a death, only by an end or by time.
2. The holder makes itself known. One that was taken for dead, or speaks in a new epoch, asserts its leases again: they
   are what it says, whoever had adopted them meanwhile.
3. What it has to tell is told, in order.
4. It adopts what nobody holds, if it can look at generations.
5. Slots are handed out by priority, then age; whoever is passed over for a more urgent one rises a little, so that
   nobody waits for ever. One for another process is *offered*: that process is woken, and should
   it not come within `PATIENCE`, it is passed over until it does.

A book that was lost is written anew from the latest copy a holder has. Holders in it that haven't spoken yet are not
confirmed, and no slot is handed out before every one of them has spoken or expired: what it holds is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from .._admission import Admission
from ._book import NOBODY, Book, Holder, Lease, LeaseState, Waiter
from ._entries import Entries, Terms

AGEING = 0.1  # points for each slot that went to something more urgent; a queue within a process ages as fast
PATIENCE = 1.0  # seconds for a process to take the slot it was offered, before others may


class Turn(Entries):
    """Made for one transaction; `close` ends it and tells who is to be woken."""

    def __init__(self, book: Book, me: str, clock: float, terms: Terms, new_admission: Callable[[], Admission]) -> None:
        super().__init__(book, me, clock, terms, new_admission)
        self._wake: set[str] = set()

    # ---- 1. the dead, 2. the living

    def begin(self, address: str, known: Book | None, dead: Iterable[str] = ()) -> None:
        """Make the holder known, after whoever has died was struck out. `known` is its last sight of the book."""
        lost = known is not None and (known.epoch != self.book.epoch or known.version > self.book.version)
        if known is not None and lost:
            self._restore(known)
        me = self.book.holders.get(self._me)
        if me is not None and me.expires <= self.now:  # perhaps nobody could be heard: nobody is dead for that
            self._pardon()
        self._expire(set(dead) - {self._me})
        if lost or me is None or not me.confirmed:
            self._assert(list(known.held_by(self._me)) if known is not None else [])
            if me is not None:
                me.batch = 0  # what it told in a turn that it did not hear of is undone by that: it is told again
        self._be_heard(address)

    def batch(self, number: int) -> bool:
        """Whether this batch of news still has to be told: its answer may have been lost, not the batch."""
        me = self.book.holders[self._me]
        if me.batch == number:
            return False
        me.batch = number
        return True

    def depart(self) -> None:
        """The holder ends: what it leaves behind is left as by one that died."""
        self._bury(self._me)

    def _restore(self, known: Book) -> None:
        """Write down what was known before the book was lost, as far as those concerned haven't spoken yet."""
        book, confirmed = self.book, {name for name, holder in self.book.holders.items() if holder.confirmed}
        if known.version > book.version:
            book.facts, book.version, book.at, book.offset = known.facts, known.version, known.at, known.offset
            self.now = book.now(self._clock)
            self._restore_facts()
        if known.epoch == book.epoch:  # the store fell back to an earlier state
            book.epoch, confirmed = Book().epoch, set()
            for holder in book.holders.values():
                holder.confirmed = False
        book.counter = max(book.counter, known.counter)
        expires = self.now + 2 * self._terms.lease_seconds
        for name, holder in known.holders.items():
            if name not in confirmed:
                book.holders[name] = replace(holder, expires=expires, confirmed=False)
                self._wake.add(holder.address)
        for lease in known.leases.values():
            if lease.holder not in confirmed:
                book.leases.setdefault(lease.token, replace(lease))
        self._recount()

    def _pardon(self) -> None:
        least = self.now + self._terms.lease_seconds
        for holder in self.book.holders.values():
            holder.expires = max(holder.expires, least)

    def _expire(self, dead: set[str]) -> None:
        for name, holder in list(self.book.holders.items()):
            if name in dead or holder.expires <= self.now:
                self._bury(name)
        over = [
            lease.token for lease in self.book.leases.values() if lease.until is not None and lease.until <= self.now
        ]
        for token in over:
            del self.book.leases[token]
        if over:
            self._recount()

    def _bury(self, name: str) -> None:
        """Strike a holder out; its leases go on counting."""
        del self.book.holders[name]
        for waiter in list(self.book.waiters.values()):
            if waiter.holder == name:
                del self.book.waiters[waiter.token]
        for lease in list(self.book.held_by(name)):
            self._orphan(lease)
        self._recount()

    def _assert(self, leases: list[Lease]) -> None:
        """The holder's own word on what it holds."""
        for lease in list(self.book.held_by(self._me)):
            del self.book.leases[lease.token]
        for lease in leases:
            self.book.leases[lease.token] = replace(lease, fence=self.book.next_number())
        self._recount()

    def _be_heard(self, address: str) -> None:
        """Extend the holder's time, but not with every turn."""
        holder = self.book.holders.setdefault(self._me, Holder(self.now))
        holder.address, holder.confirmed = address, True
        if holder.expires < self.now + self._terms.lease_seconds * 5 / 6:
            holder.expires = self.now + self._terms.lease_seconds

    # ---- 3. what there is to tell: the entries, and

    def queue_up(self, waiting: Mapping[str, float]) -> None:
        """Who waits here, each with a priority; those who don't any more leave the queue."""
        for waiter in list(self.book.waiters.values()):
            if waiter.holder == self._me and waiter.token not in waiting:
                del self.book.waiters[waiter.token]
        for token, priority in waiting.items():
            if token in self.book.leases:  # handed out before, in a turn whose end was not heard of
                self._own(token, LeaseState.SUBMITTING)
            elif token not in self.book.waiters:
                self.book.waiters[token] = Waiter(token, self._me, priority, self.book.next_number())

    # ---- 4. adopting, 5. handing out

    def adopt(self) -> None:
        """Take over what nobody holds and can be looked at."""
        for lease in self.book.held_by(NOBODY):
            if lease.state is LeaseState.RUNNING:
                lease.holder, lease.fence = self._me, self.book.next_number()

    def hand_out(self) -> None:
        """Turn this holder's waiters into leases as far as slots go, and offer others theirs."""
        offered, room = 0, self._room()
        for waiter in self.book.queue():
            passed_over = waiter.offered is not None and self.now >= waiter.offered + PATIENCE
            if waiter.holder == self._me and offered < room:
                self._take(waiter)
                room = self._room()
            elif waiter.holder == self._me or (offered >= room and not passed_over):
                waiter.offered = None
            elif not passed_over:
                offered += 1
                if waiter.offered is None:
                    waiter.offered = self.now
                    self._wake.add(self.book.holders[waiter.holder].address)

    def _room(self) -> int:
        return self._admission.available(self.now) if self._all_confirmed else 0

    @property
    def _all_confirmed(self) -> bool:
        return all(holder.confirmed for holder in self.book.holders.values())

    def _take(self, waiter: Waiter) -> None:
        admitted = self._admission.admit(self.now)
        assert admitted  # there was room
        del self.book.waiters[waiter.token]
        for other in self.book.waiters.values():
            if other.priority < waiter.priority:
                other.priority += AGEING
        self.book.leases[waiter.token] = Lease(waiter.token, self._me, self.book.next_number())

    # ---- the end

    def close(self) -> set[str]:
        """Write the facts down. The addresses of those to be woken."""
        self.book.facts = self._admission.facts()
        self.book.facts["judge"]["set_by_user"] = False  # that is each process's own matter
        self._tell_when()
        me = self.book.holders.get(self._me)
        return self._wake - {"", me.address if me is not None else ""}

    def _tell_when(self) -> None:
        """Whoever is next sets its clock by when time alone may make room: wake it when that is sooner than it knew."""
        before, change, queue = self.book.change, self._admission.next_change(self.now), self.book.queue()
        self.book.change = change if change is not None and change > self.now else None
        if queue and self.book.change is not None and self.book.change < (before or math.inf):
            self._wake.add(self.book.holders[queue[0].holder].address)

    def next_turn(self) -> float:
        """When this holder should have its next one, whatever happens until then."""
        moments = [self.book.holders[self._me].expires - self._terms.lease_seconds * 2 / 3]
        moments += [lease.until for lease in self.book.leases.values() if lease.until is not None]
        queue = self.book.queue()
        if any(waiter.holder == self._me for waiter in queue):
            change = self._admission.next_change(self.now) if self._all_confirmed else None
            patience = 0.0 if queue[0].holder == self._me else PATIENCE
            moments += [] if change is None else [change + patience]
            moments += [holder.expires for holder in self.book.holders.values() if not holder.confirmed]
            moments += [
                waiter.offered + PATIENCE
                for waiter in queue
                if waiter.offered is not None and waiter.offered + PATIENCE > self.now
            ]
        return max(min(moments), self.now)
