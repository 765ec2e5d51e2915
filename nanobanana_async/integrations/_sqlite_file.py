"""A SQLite file that several processes open at the same moment, with a write-ahead log."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

MAX_PAUSE_SECONDS = 0.02  # between two tries to switch a new file to its log


def open_shared(
    path: Path,
    schema: str,
    *,
    synchronous: Literal["FULL", "NORMAL"],
    busy_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> sqlite3.Connection:
    """Open the file, readable by its owner alone; make it with `schema` if there is none.

    Raises: OSError, sqlite3.Error; locked for longer than `busy_seconds` included.
    """
    db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
    try:
        path.chmod(0o600)
        _keep_log(db, busy_seconds, sleep)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.executescript(schema)
    except BaseException:
        db.close()
        raise
    return db


def _keep_log(db: sqlite3.Connection, busy_seconds: float, sleep: Callable[[float], None]) -> None:
    """Switch to the log. SQLite waits for other openers everywhere but here, where it refuses at once."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        sleep(random.uniform(0, MAX_PAUSE_SECONDS))
