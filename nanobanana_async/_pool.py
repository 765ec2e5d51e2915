"""Several accounts as one: a slot of whichever has one free, and jobs that move on when an account can't take them.

401, 402 and 403 are refusals of the account, not of the job: nothing was charged. A rejected key gives way to the
account's next one; without a next, the account is out of service for `REST` seconds and its job goes back to the
queue. When no account is left, the error is raised, as a single account's would be, and the next job tries them all
again. A generation that was accepted stays with its account, whose key alone can see it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

import anyio

from ._accounts import AccountStatistics
from ._admission import AdmissionStatistics
from ._exceptions import (
    APIStatusError,
    AuthenticationError,
    InsufficientCreditsError,
    NanoBananaError,
    PermissionDeniedError,
)
from ._job import Job
from ._limiter import Slot
from ._pipeline import Refused
from ._seat import Seat

T = TypeVar("T")

REST = 600.0  # seconds before an account that was refused is tried again
ACCOUNT_ERRORS = (AuthenticationError, InsufficientCreditsError, PermissionDeniedError)


class PooledSlot:
    """A slot, and whose it is."""

    __slots__ = ("seat", "slot")

    def __init__(self, slot: Slot, seat: Seat) -> None:
        self.slot = slot
        self.seat = seat

    def release(self) -> None:
        """Give it back. Idempotent."""
        self.slot.release()


class Pool:
    """A limiter over all seats, and the way to run a job in the slot that it gave."""

    def __init__(self, seats: Sequence[Seat], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seats = seats
        self._clock = clock

    # ---- as a limiter

    async def acquire(self, *, priority: float = 0) -> Slot:
        """Wait for a slot of any account in service; of several free ones, of the one least used so far.

        Cancelled while waiting, it has taken none.
        """
        while True:
            slot = await self._first_slot(self._in_service(), priority)
            if slot.seat in self._in_service():
                return cast("Slot", slot)  # all that a scheduler asks of it is its release
            slot.release()

    def statistics(self) -> AdmissionStatistics:
        """The sums of all accounts in service; `limit` is None while one is still being found."""
        parts = [seat.limiter.statistics() for seat in self._in_service()]
        limits = [part.limit for part in parts if part.limit is not None]
        scopes = {part.scope for part in parts}
        return AdmissionStatistics(
            running=sum(part.running for part in parts),
            submitting=sum(part.submitting for part in parts),
            forsaken=sum(part.forsaken for part in parts),
            limit=sum(limits) if len(limits) == len(parts) else None,
            others=sum(part.others for part in parts),
            refusals=sum(part.refusals for part in parts),
            cool_down=min(part.cool_down for part in parts),
            scope=scopes.pop() if len(scopes) == 1 else None,
            open_requests=sum(part.open_requests for part in parts),
        )

    async def aclose(self) -> None:
        """The limiters are closed by whoever made them."""

    def accounts(self) -> tuple[AccountStatistics, ...]:
        """Each account's numbers."""
        now = self._clock()
        return tuple(seat.statistics(now) for seat in self._seats)

    # ---- as a pipeline

    async def run(self, job: Job, slot: Slot) -> None:
        """Take `job` to its end with the account whose slot it got.

        Raises: Refused, also when the job is to go on with another account; any NanoBananaError it ended with.
        """
        taken = cast("PooledSlot", slot)
        seat, key_number = taken.seat, taken.seat.key_number
        try:
            await seat.pipeline.run(job, taken.slot)
        except ACCOUNT_ERRORS as error:
            if job.generation_id is not None or not self._goes_on(seat, key_number, error):
                raise
            raise Refused from error
        finally:
            seat.completed += job.generation is not None  # with or without its images
            seat.credits_used += job.credits_used or 0

    # ---- by id

    async def find(self, look: Callable[[Seat], Awaitable[T]]) -> T:
        """The first answer that an account gives; each sees its own generations only.

        Raises: when none has an answer, what the first one said, or one that may have it and can't tell now.
        """
        errors: list[APIStatusError] = []
        for seat in self._seats:
            try:
                return await look(seat)
            except APIStatusError as error:
                errors.append(error)
        raise next((error for error in errors if error.retryable), errors[0])

    async def credits(self, ask: Callable[[Seat], Awaitable[int]]) -> int:
        """What all accounts have that tell. Raises: what the first one said, when none does."""
        errors, balances = list[NanoBananaError](), list[int]()
        for seat in self._seats:
            try:
                balances.append(await ask(seat))
            except ACCOUNT_ERRORS as error:
                errors.append(error)
        if not balances:
            raise errors[0]
        return sum(balances)

    # ---- inside

    def _in_service(self) -> list[Seat]:
        """Those that serve; all of them, where none does: the next job shall hear why, or find that one is back."""
        now = self._clock()
        return [seat for seat in self._seats if seat.serves(now)] or list(self._seats)

    def _goes_on(self, seat: Seat, key_number: int, error: NanoBananaError) -> bool:
        """Whether there is another key or account to go on with."""
        if isinstance(error, AuthenticationError) and seat.next_key(key_number):
            return True
        now = self._clock()
        seat.take_out(error, now + REST)
        if any(other.serves(now) for other in self._seats):
            return True
        for other in self._seats:
            other.put_back()
        return False

    async def _first_slot(self, seats: Sequence[Seat], priority: float) -> PooledSlot:
        waiting = {asyncio.create_task(seat.limiter.acquire(priority=priority)): seat for seat in seats}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            chosen = min(done, key=lambda task: waiting[task].completed)
            slot = PooledSlot(chosen.result(), waiting[chosen])
            await _give_up([task for task in waiting if task is not chosen])
        except BaseException:
            await _give_up(list(waiting))
            raise
        return slot


async def _give_up(waiting: list[asyncio.Task[Slot]]) -> None:
    """End those that still wait; slots that came all the same go back, also when this is cancelled."""
    if not waiting:
        return
    for task in waiting:
        task.add_done_callback(_give_back)
        task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait(waiting)


def _give_back(task: asyncio.Task[Slot]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().release()
