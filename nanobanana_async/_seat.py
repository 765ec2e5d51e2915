"""One account at work in a client: everything that carries its key, and what it has done so far."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from ._accounts import Account, AccountStatistics
from ._answers import GenerationRecord
from ._api import Api, Reply
from ._downloads import Downloads
from ._exceptions import NanoBananaError
from ._limiter import AccountLimiter, Gated, Limiter, LooksAfterOthers
from ._pipeline import Pipeline
from ._polling import Plan
from ._retry import RetryPolicy
from ._transport import Transport
from ._watch import Watch

_LOGGER = logging.getLogger(__name__)

DOWNLOAD_RETRY = RetryPolicy(max_attempts=10)  # trying again costs nothing, and the images are paid


class Seat:
    """An account's transport, endpoints, watch, pipeline and slots."""

    def __init__(
        self,
        account: Account,
        transport: Transport,
        *,
        plan: Plan,
        retry: RetryPolicy,
        download_retry: RetryPolicy,
        alone: bool = True,
        fsync: bool = True,
    ) -> None:
        self.account = account
        self.name = account.name or "account"
        self.transport = transport
        self.api = Api(transport, tells_balance=alone)  # one of several balances would be taken for the whole
        self.watch = Watch(self.api, plan, backoff=retry.backoff, open_request=self.open_request)
        self.downloads = Downloads(transport, retry=download_retry, fsync=fsync)
        self.pipeline = Pipeline(
            self.api,
            self.watch,
            self.downloads,
            plan=plan,
            retry=retry,
            generation_timeout=transport.timeouts.generation_timeout,
        )
        self._take(self._new_limiter())
        self._stop_looking: Callable[[], None] = _nothing
        self.key_number = 0
        self.completed = self.credits_used = 0
        self.back_at: float | None = None  # out of service until then
        self.reason: str | None = None

    def __repr__(self) -> str:
        return f"<Seat {self.name}>"

    def begin(self) -> None:
        """Another event loop begins: slots of the last one are gone, unless a limiter of the user's keeps them."""
        self.end()
        self._take(self._new_limiter())
        if isinstance(self.limiter, LooksAfterOthers):
            self._stop_looking = self.limiter.look_with(self._has_ended)

    def end(self) -> None:
        """Look after nobody else's generations any more. Idempotent."""
        self._stop_looking()
        self._stop_looking = _nothing

    def open_request(self) -> AbstractAsyncContextManager[object]:
        """Wait for one request, where those are counted, which needs no slot."""
        return self._open_request()

    async def look(self, generation_id: str) -> Reply[GenerationRecord]:
        """One look at a generation. Raises: APIStatusError, TransportError."""
        async with self.open_request():
            return await self.api.get(generation_id)

    def serves(self, now: float) -> bool:
        """Whether jobs may be given to it."""
        return self.back_at is None or now >= self.back_at

    def take_out(self, error: NanoBananaError, until: float) -> None:
        """Give no job to it for a while: somebody may top it up, or let it in again."""
        _LOGGER.warning("%s is out of service: %s", self.name, error)
        self.back_at, self.reason = until, str(error)

    def put_back(self) -> None:
        """Give jobs to it again."""
        self.back_at = self.reason = None

    def next_key(self, rejected: int) -> bool:
        """Go on with another key than the one of that number, unless somebody did already; False when there is none."""
        if rejected < self.key_number:
            return True
        if rejected + 1 >= len(self.account.keys):
            return False
        self.key_number = rejected + 1
        _LOGGER.warning("%s: key %d was rejected, going on with the next", self.name, rejected + 1)
        self.transport.use_key(self.account.keys[self.key_number])
        return True

    def statistics(self, now: float) -> AccountStatistics:
        """The numbers of this moment."""
        slots = self.limiter.statistics()
        return AccountStatistics(
            name=self.name,
            limit=slots.limit,
            running=slots.running,
            submitting=slots.submitting,
            refusals=slots.refusals,
            completed=self.completed,
            credits_used=self.credits_used,
            out_of_service=None if self.serves(now) else self.reason,
        )

    async def _has_ended(self, generation_id: str) -> bool:
        """One look at what a process that died has left running."""
        return (await self.api.look(generation_id)).value is not None

    def _take(self, limiter: Limiter) -> None:
        self.limiter = limiter
        # Found out once: before Python 3.12, to ask a protocol takes 5 µs, which is a twentieth of a look.
        self._open_request = limiter.request if isinstance(limiter, Gated) else nullcontext

    def _new_limiter(self) -> Limiter:
        return self.account.limiter or AccountLimiter(max_concurrency=self.account.max_concurrency)


def seats_of(
    accounts: Sequence[Account],
    connect: Callable[[str], Transport],
    *,
    plan: Plan,
    retry: RetryPolicy | None,
    fsync: bool,
) -> list[Seat]:
    """One for each account. `connect` makes the transport of a key; `retry` is the user's, if there is one."""
    return [
        Seat(
            account,
            connect(account.keys[0]),
            plan=plan,
            retry=retry or RetryPolicy(),
            download_retry=retry or DOWNLOAD_RETRY,
            alone=len(accounts) == 1,
            fsync=fsync,
        )
        for account in accounts
    ]


def _nothing() -> None:
    """Nobody is looked after."""
