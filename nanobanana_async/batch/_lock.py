"""One process a folder: two runs of one batch would pay for its prompts twice.

The kernel holds the lock, on an open file, and drops it when its process dies, however it dies. So a lock is never
stale: nobody has to guess from a pid (which may be another process by now) whether its owner still lives. What
stands in the file (pid, host, time) is for the message only. The file itself stays: were it removed, a process
that had opened the old one and a process that made a new one would each hold "the" lock.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from .._exceptions import JournalError

LOCK_FILE = "batch.lock"
_PATIENCE = 0.2  # seconds; `is_locked` holds the lock for some microseconds, which is no reason to refuse
_PAUSE = 0.01
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # Windows locks bytes and forbids reading them, so we lock one beyond the text

    def _try_lock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _unlock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


class FolderLock:
    """Holds a batch's folder for this process: `with FolderLock(folder): …`. Blocks for a moment at most."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = folder / LOCK_FILE
        self._clock = clock
        self._handle: int | None = None

    def __repr__(self) -> str:
        return f"<FolderLock {self._path} [{'held' if self._handle is not None else 'free'}]>"

    def __enter__(self) -> FolderLock:
        """Take the lock.

        Raises: JournalError when a process has it (this one included), or when the folder can't be locked.
        """
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _unusable(self._path, error) from error
        try:
            self._acquire(handle)
            _write_owner(handle, self._clock())
        except BaseException:
            os.close(handle)  # which gives up the lock as well
            raise
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            os.ftruncate(handle, 0)
            _unlock(handle)  # closing would not do while a forked child still has the file open
        finally:
            os.close(handle)

    def _acquire(self, handle: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not _locked(handle, self._path):
            if time.monotonic() > deadline:
                raise _taken(self._path)
            time.sleep(_PAUSE)


def is_locked(folder: Path) -> bool:
    """Whether a process works on this folder right now."""
    path = folder / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if not _locked(handle, path):
            return True
        _unlock(handle)
        return False
    except JournalError:  # a file system without locks: nobody could have taken one
        return False
    finally:
        os.close(handle)


def _locked(handle: int, path: Path) -> bool:
    try:
        _try_lock(handle)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise _unusable(path, error) from error
    return True


def _write_owner(handle: int, now: float) -> None:
    since = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps(owner).encode())
    except OSError:  # a full disk: the lock holds all the same, only the message will know less
        return


def _read_owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _taken(path: Path) -> JournalError:
    owner = _read_owner(path)
    known = f" (pid {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')})" if owner else ""
    who = "this process already works" if owner.get("pid") == os.getpid() else f"another process{known} works"
    return JournalError(f"{who} on {path.parent}; wait until it has ended, or stop it, or use another folder")


def _unusable(path: Path, error: OSError) -> JournalError:
    reason = error.strerror or error
    return JournalError(f"{path.parent} can't be locked ({reason}); a batch needs a local folder that it can write to")
