"""Accounts: keys, credits and slots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import _refusals
from ._ledger import Ledger
from ._settings import Scope, Settings

MAX_KEYS = 5
KEY_PREFIX = "nb_"


class Account:
    """One customer. `credits`, `limit`, `scope` and `access` may be set at any time."""

    def __init__(self, key: str, settings: Settings, register: dict[str, Account]) -> None:
        self.name = key
        self.keys = [key]
        self.credits = settings.credits
        self.limit = settings.limit
        self.scope: Scope = settings.scope
        self.access = settings.access
        self.running = 0
        self.open_requests = 0
        self._register = register
        register[key] = self

    @property
    def active(self) -> int:
        """How many slots are held, in this account's scope."""
        return self.running if self.scope == "generation" else self.open_requests

    @property
    def full(self) -> bool:
        """Whether the next one would be refused."""
        return self.limit is not None and self.active >= self.limit

    def add_key(self, key: str) -> None:
        """Give the account another key. ValueError for a sixth key, or one already in use."""
        if len(self.keys) >= MAX_KEYS:
            raise ValueError(f"account {self.name!r} already has {MAX_KEYS} keys; revoke one first")
        if key in self._register:
            raise ValueError(f"key {key!r} is in use already")
        self.keys.append(key)
        self._register[key] = self

    def __repr__(self) -> str:
        limit = "unlimited" if self.limit is None else self.limit
        return f"<Account {self.name!r} [{self.credits} credits | {self.scope} slots: {self.active}/{limit}]>"


class Accounts:
    """Finds the account behind a key. With no keys given, each `nb_...` key is an account of its own."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._by_key: dict[str, Account] = {}
        self._closed_circle = settings.keys is not None
        for key in settings.keys or ():
            Account(key, settings, self._by_key)

    def __iter__(self) -> Iterator[Account]:
        return iter(dict.fromkeys(self._by_key.values()))

    def get(self, key: str) -> Account | None:
        """The account of this key, made at first sight where any key will do."""
        account = self._by_key.get(key)
        if account is None and not self._closed_circle and key.startswith(KEY_PREFIX):
            account = Account(key, self._settings, self._by_key)
        return account

    def authenticate(self, authorization: str | None) -> Account:
        """The account of an `Authorization` header. Refuses with 401 or 403."""
        scheme, _, key = (authorization or "").partition(" ")
        account = self.get(key.strip()) if scheme.lower() == "bearer" else None
        if account is None:
            raise _refusals.bad_key()
        if not account.access:
            raise _refusals.no_access()
        return account

    @contextmanager
    def open_request(self, account: Account) -> Iterator[None]:
        """Count a request to `/generate` while it is open; in request scope it holds a slot, or gets the 429."""
        if account.scope == "request" and account.full:
            raise _refusals.too_many(account.limit, account.active)
        account.open_requests += 1
        self._ledger.opened()
        try:
            yield
        finally:
            account.open_requests -= 1
            self._ledger.closed()
