"""One account shared by many hosts: `RedisLimiter` keeps its slots in Redis or Valkey. Needs the extra `redis`.

    async with RedisLimiter("redis://localhost") as limiter, Client(limiter=limiter) as client: ...

Redis holds hashes of accounts, ids of generations and numbers; no key and no prompt.
"""

from __future__ import annotations

from .._scope import Scope
from ._account import account_id
from ._entries import Terms
from ._redis_store import RedisStore
from ._shared import SharedLimiter

__all__ = ["RedisLimiter", "account_id"]


class RedisLimiter(SharedLimiter):
    """The account's slots, shared by all processes that name the same Redis and the same account.

    `url` is as redis-py's `from_url` takes it. `account` names the account, by default by its key and base URL, see
    `account_id`; keys of one account share a limit, so give them one name. `max_concurrency` is a ceiling of this
    process alone. `scope` says what holds a slot, where you know it. A process that wasn't heard of for `lease_seconds`
    counts as dead; a submission whose answer may never come counts for `submit_seconds`.

    While Redis is away nothing is submitted; polls and downloads go on. It may come back empty: the processes that
    live write down what they hold before anything is submitted again.

    Raises: ConfigurationError for a URL that can't be read.
    """

    def __init__(
        self,
        url: str,
        *,
        account: str | None = None,
        max_concurrency: int | None = None,
        scope: Scope | None = None,
        lease_seconds: float = 30.0,
        submit_seconds: float = 120.0,
    ) -> None:
        store = RedisStore(url, account or account_id())
        terms = Terms(lease_seconds=lease_seconds, submit_seconds=submit_seconds)
        super().__init__(store, max_concurrency=max_concurrency, scope=scope, terms=terms)
