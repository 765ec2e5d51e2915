"""`batch.db` as a connection: opened, checked, its schema laid down, and SQLite's errors in plain words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from .._exceptions import JournalError
from ._lock import FolderLock

DB_FILE = "batch.db"
SCHEMA_VERSION = 1

_APPLICATION_ID = 0x4E42414A  # as in schema.sql
_BUSY_TIMEOUT = 30.0  # seconds; only a reader that repairs the WAL after a crash ever keeps us waiting
_MAX_WAL_BYTES = 4 << 20  # what a large import may leave of its log; ordinary work stays below, at 1000 pages
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; free space, then run the same command again: nothing committed is lost",
    sqlite3.SQLITE_IOERR: "the disk fails, or is full or over quota; see to that, then run the same command again: "
    "nothing committed is lost",
    sqlite3.SQLITE_READONLY: "it is read-only; make the folder and the file writable, or use another folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; check that it is a file, and that its folder is writable",
    sqlite3.SQLITE_PERM: "access is denied; make the folder and the file readable and writable",
    sqlite3.SQLITE_BUSY: "another program keeps it busy; close that, then run the same command again",
    sqlite3.SQLITE_NOTADB: "it is no batch's journal or is broken; move it away, or use another folder",
    sqlite3.SQLITE_CORRUPT: "it is broken; restore a copy, or use another folder: the images that were stored and "
    "the ids in manifest.jsonl are not affected",
}


@contextmanager
def session(folder: Path, synchronous: str) -> Iterator[sqlite3.Connection]:
    """Lock the folder and hold its journal open for writing. Raises: JournalError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"{folder} can't be made ({error.strerror}); choose a folder that can") from error
    with FolderLock(folder), closing(connect(folder, synchronous)) as connection:
        yield connection


def connect(folder: Path, synchronous: str) -> sqlite3.Connection:
    """Open the journal, and create it in a folder that has none. Raises: JournalError."""
    if synchronous not in _SYNCHRONOUS:
        raise ValueError(f"synchronous is one of {', '.join(_SYNCHRONOUS)} (got {synchronous!r})")
    path = folder / DB_FILE
    with told(path):
        connection = _opened(str(path))
        try:
            _prepare(connection, path, synchronous)
        except BaseException:
            connection.close()
            raise
        return connection


def connect_read_only(folder: Path) -> sqlite3.Connection:
    """Open the journal for reading, whether or not a batch runs, also in a folder that can't be written to.

    Raises: JournalError, also when there is none.
    """
    path = folder / DB_FILE
    if not path.is_file():
        raise JournalError(f"{folder} has no {DB_FILE}; name the folder of a batch")
    with told(path):
        try:
            return _readable(path, f"{path.absolute().as_uri()}?mode=ro")
        except sqlite3.OperationalError:
            if _has_log(path):  # its newest commits stand there; to leave them out would be a lie
                raise
            # No log and no way to make one: nobody writes here, so SQLite may do without its locks.
            return _readable(path, f"{path.absolute().as_uri()}?mode=ro&immutable=1")


def copy_journal(folder: Path, target: Path) -> None:
    """Copy a batch's journal as it is now into another folder, whether or not the batch runs.

    Raises: JournalError.
    """
    path = folder / DB_FILE
    with (
        told(path),
        closing(_opened(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(_opened(str(target / DB_FILE))) as copy,
    ):
        _check_version(source, path)
        source.backup(copy)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into JournalErrors."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error


def explain(error: sqlite3.Error, path: Path) -> JournalError:
    """What happened to the journal, and what to do."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    advice = _ADVICE.get(code & 0xFF)  # the higher bits say in which call
    if advice is None:
        return JournalError(f"{path} can't be used ({error}); look at the folder, then run the same command again")
    return JournalError(f"{path}: {advice} ({error.sqlite_errorname})")


def _opened(name: str, *, uri: bool = False) -> sqlite3.Connection:
    # Used in one thread at a time, but made and closed in different ones.
    return sqlite3.connect(name, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=uri)


def _readable(path: Path, uri: str) -> sqlite3.Connection:
    connection = _opened(uri, uri=True)
    try:
        if not _check_version(connection, path):
            raise JournalError(f"{path} is empty; start the batch first")
    except BaseException:
        connection.close()
        raise
    return connection


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    fresh = not _check_version(connection, path)  # before anything is changed: it may not be ours
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(f"{path}: this file system can't hold a journal; use a folder on a local disk")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA fullfsync = ON")  # macOS only: there a plain fsync does not reach the disk
    connection.execute(f"PRAGMA journal_size_limit = {_MAX_WAL_BYTES}")
    if fresh:
        _create(connection)
    # A write, if an idle one: a read-only file or a full disk is told here, not after the first POST.
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _create(connection: sqlite3.Connection) -> None:
    try:
        connection.executescript(resources.files(__package__).joinpath("schema.sql").read_text("utf-8"))
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema's version, 0 for an empty file. Raises: JournalError for a newer one, or another program's file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != _APPLICATION_ID and (objects or version or application):
        raise JournalError(f"{path} is another program's database; use another folder")
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{path} was written by a newer version of nanobanana_async (journal {version}, this one knows "
            f"{SCHEMA_VERSION}); upgrade with pip install -U nanobanana_async, or use another folder"
        )
    return int(version)
