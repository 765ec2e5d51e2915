"""What a process writes into the book: what came of its slots, told to the admission in the same breath. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._admission import Admission, AdmissionStatistics
from .._wire import RateLimit
from ._book import NOBODY, Book, Lease, LeaseState


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long things count, in seconds: a process not heard of, a lost submission, an adopted generation."""

    lease_seconds: float = 30.0
    submit_seconds: float = 120.0
    adopted_seconds: float = 900.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 (got {getattr(self, name)})")


class Entries:
    """One holder's entries, all of one moment: `now` of the book's time."""

    def __init__(self, book: Book, me: str, clock: float, terms: Terms, new_admission: Callable[[], Admission]) -> None:
        self.book = book
        self.now = book.now(clock)
        self._clock = clock
        self._me = me
        self._terms = terms
        self._admission = new_admission()
        self._own_facts = self._admission.facts()
        self._restore_facts()

    def accepted(self, token: str, rate_limit: RateLimit) -> None:
        """The submission was taken: it runs."""
        lease = self._own(token, LeaseState.SUBMITTING)
        lease.state = LeaseState.RUNNING
        self._admission.accepted(rate_limit, self.now)
        lease.seen_at = self._admission.acceptances

    def named(self, token: str, generation_id: str) -> None:
        """By this id anybody can look at it."""
        self._own(token, LeaseState.RUNNING).generation_id = generation_id

    def refused(self, token: str, state: LeaseState, told: RateLimit, *, busy: bool, alone: bool) -> None:
        """The submission met 503 (`busy`) or 429; it was in `state`. `alone`: no other request of ours was open."""
        self._own(token, state)
        del self.book.leases[token]
        if state is LeaseState.RUNNING:
            self._admission.recalled()
        self._admission.refused(told, self.now, busy=busy, alone=alone and not self._foreign)

    def forsake(self, token: str, state: LeaseState, seconds: float) -> None:
        """Nobody watches it here any more: it counts for `seconds`, or where its id is known until its end is seen."""
        lease, until = self._own(token, state), self.now + seconds
        if state is LeaseState.RUNNING and lease.generation_id is not None:
            self._orphan(lease)
            return
        lease.until = until
        lease.state = LeaseState.FORSAKEN
        if state is LeaseState.SUBMITTING:
            self._admission.lost(until, self.now)
        else:
            self._admission.forsaken(until)

    def release(self, token: str, state: LeaseState) -> None:
        """It ended, or was never submitted."""
        lease = self.book.leases.get(token)
        if lease is None:
            return
        self._own(token, state)
        del self.book.leases[token]
        if state is LeaseState.SUBMITTING:
            self._admission.withdrawn()
        else:
            self._admission.finished()

    def ended(self, token: str, fence: int) -> None:
        """A look at an adopted generation saw its end. Another's word counts, once it has changed hands."""
        lease = self.book.leases.get(token)
        if lease is not None and lease.fence == fence:
            del self.book.leases[token]
            self._admission.finished()

    def observed(self, rate_limit: RateLimit) -> None:
        """A later answer's headers."""
        self._admission.observed(rate_limit, self.now)

    def looked(self, token: str, rate_limit: RateLimit, *, running: bool, open_requests: int) -> None:
        """A look was answered, with so many requests of ours open beside it."""
        lease = self.book.leases.get(token) or Lease(token, self._me, 0)
        self._admission.open_requests = open_requests + self._foreign  # each of them may have one open as well
        lease.seen_at = self._admission.looked(rate_limit, self.now, running=running, seen_at=lease.seen_at)

    def look_refused(self, rate_limit: RateLimit) -> None:
        """A look met 429."""
        self._admission.look_refused(rate_limit, self.now)

    # ---- what it looks like now

    def statistics(self) -> AdmissionStatistics:
        """The account's numbers, of all processes."""
        return self._admission.statistics(self.now)

    @property
    def open_limit(self) -> int | None:
        """How many requests all of them together may have open; None where they hold no slot."""
        return self._admission.open_limit

    def telling_facts(self) -> dict[str, Any]:
        """What others should know when it changes."""
        return self._admission.telling_facts()

    # ---- inside

    def _restore_facts(self) -> None:
        facts = self.book.facts or self._own_facts
        if self._own_facts["judge"]["set_by_user"]:
            facts = {**facts, "judge": self._own_facts["judge"]}
        try:
            self._admission.restore(facts, **self.book.counts())
        except (KeyError, TypeError):  # another version's
            self._admission.restore(self._own_facts, **self.book.counts())

    def _recount(self) -> None:
        """The leases changed otherwise than by what the admission was told."""
        self._admission.recount(**self.book.counts())

    def _own(self, token: str, state: LeaseState) -> Lease:
        """This holder's lease as it knows it, whatever the book says: others may have taken it for dead."""
        lease = self.book.leases.get(token)
        if lease is None:
            lease = self.book.leases[token] = Lease(token, self._me, self.book.next_number(), state)
            self._recount()
        elif lease.holder != self._me or lease.state is not state:
            lease.holder, lease.fence = self._me, self.book.next_number()
            lease.state, lease.until = state, None
            self._recount()
        return lease

    def _orphan(self, lease: Lease) -> None:
        """To be looked at by whoever adopts it, or else to be counted for a while."""
        lease.holder, lease.fence = NOBODY, self.book.next_number()
        if lease.state is LeaseState.RUNNING and lease.generation_id is not None:
            lease.until = self.now + self._terms.adopted_seconds
        elif lease.state is not LeaseState.FORSAKEN:
            lease.state, lease.until = LeaseState.FORSAKEN, self.now + self._terms.submit_seconds

    @property
    def _foreign(self) -> int:
        """How many leases others hold."""
        return sum(lease.holder != self._me for lease in self.book.leases.values())
