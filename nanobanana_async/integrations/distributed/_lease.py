"""A worker's lease: who it is, and until when it may submit.

Redis ends a lease by its own clock; here it ends earlier, counted from before the renewal was asked for. So a worker
that was stopped in the middle, or can't reach Redis, knows by itself that it may not submit any more, and a lease that
ended is never revived: the worker takes a new one, under a new name.

A name tells where the process lives. Whoever shares that place can see that the process is gone, and need not wait.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from redis.exceptions import RedisError

from ._book import Book

_LOGGER = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
_PROC = Path("/proc")


def clock() -> float:
    """Seconds that go on while the machine is suspended, where the system has such a clock."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


class Lease:
    """`await lease.begin()`, then `lease.keep()` in a task for as long as it is wanted."""

    def __init__(self, book: Book, *, seconds: float = LEASE_SECONDS, now: Callable[[], float] = clock) -> None:
        self.name = _new_name()
        self._book = book
        self._seconds = seconds
        self._now = now
        self._until = 0.0
        self._on_loss: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Lease {self.name} [{'good' if self.good else 'over'}]>"

    @property
    def good(self) -> bool:
        """Whether this worker may submit."""
        return self._now() < self._until

    async def begin(self) -> None:
        """Make it known. Raises: BookError."""
        begun = self._now()
        await self._book.join(self.name, self._seconds)
        self._until = begun + self._seconds

    async def keep(self) -> None:
        """Renew it until it is lost; returns then."""
        while self.good:
            await anyio.sleep(self._seconds / 3)
            begun = self._now()
            try:
                renewed = await self._book.renew(self.name, self._seconds)
            except (RedisError, OSError) as error:
                _LOGGER.warning("the lease can't be renewed (%s)", error)
            else:
                self._until = begun + self._seconds if renewed else 0.0
        _LOGGER.warning("the lease is lost: nothing is submitted until there is a new one")
        for callback in list(self._on_loss):
            callback()

    def on_loss(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call this when it is lost; returns what takes that back."""
        self._on_loss.append(callback)
        return lambda: self._on_loss.remove(callback)

    async def end(self) -> bool:
        """Give it back; False when Redis has forgotten it. Raises: BookError."""
        self._until = 0.0
        return await self._book.leave(self.name)


def is_gone(name: str) -> bool:
    """Whether the process of this lease is gone for certain. False where that can't be seen from here."""
    place, pid, born, _ = (*name.split("|"), "", "", "")[:4]
    if not place or place != _place():
        return False
    return not pid.isdigit() or _born(pid) != born


def _new_name() -> str:
    pid = str(os.getpid())
    return "|".join((_place(), pid, _born(pid), secrets.token_hex(4)))


def _place() -> str:
    """The running system and its numbering of processes; empty where that is not told."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat(_PROC / 'self/ns/pid').st_ino}"  # noqa: PTH116  # follows a link that is no path
    except OSError:
        return ""


def _born(pid: str) -> str:
    """When a process began, in the kernel's ticks; empty for one that has ended, and may only wait for its parent."""
    try:
        fields = (_PROC / pid / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
