"""A slot of a shared limiter: where it stands is known here at once, the book is told in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from .._exceptions import RateLimitError, ServerBusyError
from .._gate import Gate, Passage
from .._limiter import told
from .._wire import RateLimit
from ._book import LeaseState
from ._keeper import News


class SlotOwner(Protocol):
    """What a slot needs of its limiter."""

    gate: Gate
    refusals: int

    def tell(self, news: News) -> None: ...
    def observe(self, news: News) -> None: ...
    def given_back(self, token: str) -> None: ...


class SharedSlot:
    """One slot; giving it back twice does nothing."""

    __slots__ = ("_owner", "_post", "_state", "_token")

    def __init__(self, owner: SlotOwner, token: str) -> None:
        self._owner = owner
        self._token = token
        self._state: LeaseState | None = LeaseState.SUBMITTING  # None: given back
        self._post: Passage | None = None

    @property
    def running(self) -> bool:
        """Whether the server has taken a generation for this slot that has not ended."""
        return self._state is LeaseState.RUNNING

    def accepted(self, rate_limit: RateLimit) -> None:
        """The server took the generation. Told twice, the second time counts for its headers only."""
        if self._state is not LeaseState.SUBMITTING:
            self.observed(rate_limit)
            return
        self._state = LeaseState.RUNNING
        self._owner.tell(lambda turn: turn.accepted(self._token, rate_limit))

    def named(self, generation_id: str) -> None:
        """The generation's id: should this process die, another one looks for the end by it."""
        if self.running:
            self._owner.tell(lambda turn: turn.named(self._token, generation_id))

    def observed(self, rate_limit: RateLimit) -> None:
        """A later answer's headers."""
        if rate_limit.limit is not None or rate_limit.active is not None:
            self._owner.observe(lambda turn: turn.observed(rate_limit))

    def refused(self, error: RateLimitError | ServerBusyError) -> None:
        """The server refused the submission: 429, or 503 busy."""
        self._owner.refusals += self._state is not None
        busy, alone = isinstance(error, ServerBusyError), self._post is not None and self._post.alone
        self._give_back(lambda turn, state: turn.refused(self._token, state, told(error), busy=busy, alone=alone))

    def looked(self, rate_limit: RateLimit, *, running: bool) -> None:
        """A look at this generation was answered, and whether it still runs."""
        open_requests = self._owner.gate.open
        self._owner.observe(
            lambda turn: turn.looked(self._token, rate_limit, running=running, open_requests=open_requests)
        )

    def look_refused(self, error: RateLimitError) -> None:
        """A look met 429: it holds no slot and loses none."""
        self._owner.observe(lambda turn: turn.look_refused(told(error)))

    def request(self, *, submission: bool = False) -> AbstractAsyncContextManager[object]:
        """Open one request, once the account has room for it. Submissions go first."""
        request = self._owner.gate.request(submission=submission)
        self._post = request if submission else self._post
        return request

    def forsake(self, seconds: float) -> None:
        """Nobody will see this generation's end: count it for `seconds` more."""
        self._give_back(lambda turn, state: turn.forsake(self._token, state, seconds))

    def release(self) -> None:
        """The generation ended, or was never submitted."""
        self._give_back(lambda turn, state: turn.release(self._token, state))

    def _give_back(self, news: Callable[..., None]) -> None:
        state, self._state = self._state, None
        if state is not None:
            self._owner.tell(lambda turn: news(turn, state))
            self._owner.given_back(self._token)
