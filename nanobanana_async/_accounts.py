"""Accounts and their keys: what a user gives, and what is told of each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ._exceptions import ConfigurationError
from ._limiter import Limiter

MAX_KEYS = 5  # of one account; they share its slots and its credits


class Account:
    """One of several accounts of a client: `Client(accounts=[Account("nb_…", name="studio"), Account("nb_…")])`.

    `keys` are up to 5 keys of the same account: they share its limit and its credits; one that the service rejects
    gives way to the next. `limiter` may be shared with other processes; `max_concurrency` is a ceiling of your own
    below the account's limit.

    Raises: ConfigurationError.
    """

    def __init__(
        self,
        *keys: str,
        name: str | None = None,
        limiter: Limiter | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        if not 1 <= len(keys) <= MAX_KEYS:
            raise ConfigurationError(f"an account has 1 to {MAX_KEYS} keys (got {len(keys)})")
        if limiter is not None and max_concurrency is not None:
            raise ConfigurationError("give max_concurrency to the limiter, not to the account that uses it")
        if max_concurrency is not None and max_concurrency < 1:
            raise ConfigurationError(f"max_concurrency must be at least 1 (got {max_concurrency})")
        self.name = name
        self.limiter = limiter
        self.max_concurrency = max_concurrency
        self._keys = tuple(find_api_key(key) for key in keys)

    @property
    def keys(self) -> tuple[str, ...]:
        """Secrets."""
        return self._keys

    def __repr__(self) -> str:
        return f"<Account {self.name or '?'} [keys: {len(self._keys)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an account holds API keys; it can't be pickled")


@dataclass(frozen=True, slots=True)
class AccountStatistics:
    """One of several accounts at this moment, and what it has done so far.

    `out_of_service` is why no job is given to it, None while it serves.
    """

    name: str
    limit: int | None
    running: int
    submitting: int
    refusals: int
    completed: int
    credits_used: int
    out_of_service: str | None


def accounts_of(accounts: Iterable[Account | str]) -> list[Account]:
    """Accounts with a name each; a key alone is an account. Raises: ConfigurationError when a key comes twice."""
    found = [Account(account) if isinstance(account, str) else account for account in accounts]
    keys = [key for account in found for key in account.keys]
    if not found:
        raise ConfigurationError("accounts is empty; give at least one")
    if len(set(keys)) < len(keys):
        raise ConfigurationError("the same API key stands in accounts twice; its slots would be counted twice")
    for number, account in enumerate(found, 1):
        account.name = account.name or f"account {number}"
    if len({account.name for account in found}) < len(found):
        raise ConfigurationError("two accounts have the same name")
    return found


def find_api_key(api_key: str | None = None) -> str:
    """The key given, else the environment's. Raises: ConfigurationError, without repeating the key."""
    key = api_key or os.environ.get("NANO_BANANA_API_KEY") or os.environ.get("NB_API_KEY") or ""
    key = key.strip()
    if not key:
        raise ConfigurationError("no API key: pass api_key, or set NANO_BANANA_API_KEY")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError("the API key has characters that no key has; copy it again")
    return key
