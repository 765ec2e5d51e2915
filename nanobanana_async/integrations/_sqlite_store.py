"""Books in a SQLite file: a transaction a turn, in a thread of its own; a datagram on the loopback wakes a process."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .._exceptions import ConfigurationError
from ._alive import Living
from ._network_files import is_on_network
from ._sqlite_file import open_shared
from ._store import Change, StoreUnavailableError, TakeTurn
from ._turn import Turn
from ._wakes import Wakes

T = TypeVar("T")

BUSY_SECONDS = 2.0  # to wait for other processes' turns, which take well under a millisecond each

_SCHEMA = "CREATE TABLE IF NOT EXISTS books (account TEXT PRIMARY KEY, book TEXT NOT NULL) WITHOUT ROWID"
_READ = "SELECT book FROM books WHERE account = ?"
_WRITE = "INSERT INTO books VALUES (?, ?) ON CONFLICT DO UPDATE SET book = excluded.book"


class SQLiteStore:
    """One account's book in the file `path`.

    The clock is the monotonic one, which all processes of a host share (Python's documentation says so). The file is
    never synced for a turn: a book lost with the power tells of processes that are lost as well.
    """

    look_interval = 1.0

    def __init__(self, path: Path, account: str) -> None:
        self._path = path
        self._account = account
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nanobanana slots")
        self._wakes = Wakes()
        self._living: Living | None = None
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._closed = False

    @property
    def address(self) -> str:
        """Where this process is woken."""
        return self._wakes.address

    async def open(self, holder: str, wake: Callable[[], None]) -> None:
        """Open the file, make it if there is none. Raises: ConfigurationError."""
        try:
            await self._in_thread(lambda: self._open(holder))
            await self._wakes.open(wake)
        except (OSError, sqlite3.Error) as error:
            await self.aclose()
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            told = f"{self._path} can't hold the account's slots ({reason}); name a file on a local disk"
            raise ConfigurationError(told) from error

    async def transact(self, take_turn: TakeTurn) -> Turn:
        """One turn. Raises: StoreUnavailableError."""
        try:
            change = await self._in_thread(lambda: self._transact(take_turn))
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailableError(f"{self._path}: {error}") from error
        for address in change.wake:
            self._wakes.send(address)
        return change.turn

    async def aclose(self) -> None:
        """Close the file. Idempotent."""
        if not self._closed:
            self._closed = True
            self._wakes.close()
            await self._in_thread(self._close)
            self._thread.shutdown(wait=False)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # ---- in the thread

    def _open(self, holder: str) -> None:
        if is_on_network(self._path):
            raise OSError(None, "it would lie on a network")
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._living = Living(self._path.with_name(f"{self._path.name}.alive"), holder)
        self._living.__enter__()
        self._connect()

    def _connect(self) -> sqlite3.Connection:
        """The file as it is now: whoever removed it made room for another one."""
        if self._db is not None and self._inode == _inode(self._path):
            return self._db
        self._disconnect()
        self._db = open_shared(self._path, _SCHEMA, synchronous="NORMAL", busy_seconds=BUSY_SECONDS)
        self._inode = _inode(self._path)
        return self._db

    def _transact(self, take_turn: TakeTurn) -> Change:
        assert self._living is not None
        with _transaction(self._connect()) as db:
            row = db.execute(_READ, (self._account,)).fetchone()
            change = Change.of(row[0] if row else None, time.monotonic(), take_turn, self._living.dead)
            if change.text is not None:
                db.execute(_WRITE, (self._account, change.text))
            return change

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _close(self) -> None:
        self._disconnect()
        if self._living is not None:
            self._living.__exit__(None, None, None)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return (told.st_dev, told.st_ino)
