"""Temporary files of processes that were killed: told from those of live ones by a lock, which the kernel drops.

Whoever writes a part claims it: holds a lock on it until it is renamed or removed. A part whose lock is free was left
behind. One that is found between its making and its claim is taken away all the same; its writer sees that, and makes
another. Some network disks know locks of one host only, or none: there, parts of another host go when they are a day
old. Windows removes no file that somebody has open, and needs no lock.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from random import getrandbits
from zlib import crc32

DAY = 86_400.0  # seconds; a live part grows every few minutes at least, or its download is given up


def part_name(name: str) -> str:
    """A hidden name of its own, which no reader takes for an image, and which tells the host."""
    # No secrets.token_hex: os.urandom would let another thread take the interpreter. The process's number is there
    # because forked ones share their random numbers.
    return f".{name}.{_host()}{os.getpid():x}-{getrandbits(32):08x}.part"


_part = re.compile(r"\..+\.([0-9a-f]{4})[0-9a-f]+-[0-9a-f]{8}\.part").fullmatch


@cache
def _host() -> str:
    return f"{crc32(socket.gethostname().encode()) & 0xFFFF:04x}"


def remove_leftovers(folder: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
    """Remove the parts in a folder that nobody will finish. What can't be looked at or removed stays."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." and (match := _part(entry.name)):
                with suppress(OSError):
                    _remove_left(entry, match[1] == _host(), clock())


def _remove_left(part: os.DirEntry[str], ours: bool, now: float) -> None:
    if not part.is_file(follow_symlinks=False):
        return
    with _asked(part.path) as free:
        if (free and ours) or (free is not False and part.stat().st_mtime < now - DAY):
            Path(part.path).unlink()


if sys.platform == "win32":

    def claim(handle: int) -> int | None:
        """Nothing to do: an open file can't be removed."""
        return None

    def _asked(path: str) -> AbstractContextManager[bool | None]:
        return nullcontext(True)

else:
    import fcntl

    def claim(handle: int) -> int | None:
        """Hold the open part `handle` until the handle that this returns is closed. None: there are no locks here.

        Raises: FileNotFoundError when somebody took it for left behind.
        """
        free = _lock(handle)
        if free is False or not os.fstat(handle).st_nlink:
            raise FileNotFoundError
        return os.dup(handle) if free else None  # a handle of its own: a file is closed before it is renamed

    @contextmanager
    def _asked(path: str) -> Iterator[bool | None]:
        """Whether nobody claims it, nor will inside of the block; None where nobody can."""
        handle = os.open(path, os.O_RDWR)
        try:
            yield _lock(handle)
        finally:
            os.close(handle)

    def _lock(handle: int) -> bool | None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True
