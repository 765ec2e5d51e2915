"""One account shared by the processes of one host: `SQLiteLimiter` keeps its slots in a file, without any server.

    async with SQLiteLimiter() as limiter, Client(limiter=limiter) as client: ...

The file holds hashes of accounts, ids of generations and numbers; no key and no prompt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .._scope import Scope
from ._account import account_id
from ._alone import AloneAfter
from ._entries import Terms
from ._shared import SharedLimiter
from ._sqlite_store import SQLiteStore
from ._store import Store

__all__ = ["SQLiteLimiter", "account_id", "default_path"]


class SQLiteLimiter(SharedLimiter):
    """The account's slots, shared by all processes of this host that name the same file and the same account.

    `path` is a file on a local disk, by default `default_path()`. `account` names the account, by default by its key
    and base URL, see `account_id`; keys of one account share a limit, so give them one name. `max_concurrency` is a
    ceiling of this process alone. `scope` says what holds a slot, where you know it. A process that wasn't heard of for
    `lease_seconds` counts as dead; a submission whose answer may never come counts for `submit_seconds`.

    While the file can't be written to (its disk is full, say) nothing is submitted; with `alone_after`, a process that
    waited for so many seconds goes on as if it were alone.

    Raises: ConfigurationError on entering, for a file that can't be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        account: str | None = None,
        max_concurrency: int | None = None,
        scope: Scope | None = None,
        lease_seconds: float = 30.0,
        submit_seconds: float = 120.0,
        alone_after: float | None = None,
    ) -> None:
        store: Store = SQLiteStore(Path(path) if path is not None else default_path(), account or account_id())
        if alone_after is not None:
            store = AloneAfter(store, alone_after)
        terms = Terms(lease_seconds=lease_seconds, submit_seconds=submit_seconds)
        super().__init__(store, max_concurrency=max_concurrency, scope=scope, terms=terms)


def default_path() -> Path:
    """The file that commands use: in the user's folder for what programs remember."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "nanobanana" / "slots.db"
