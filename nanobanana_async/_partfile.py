"""A part's file: written and renamed in threads, given up in the loop.

The last steps (what is left to write, sync, rename) are one hop to a thread, so a small image takes one hop in all. A
cancelled hop may still run: a lock makes `discard` wait for a write (one chunk, into the page cache) or a rename, and
makes every step after `discard` do nothing. Nobody waits for an fsync, which may take seconds and harms nobody. So
whenever `discard` returns, there is either no file at all, or the whole image in its place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedWriter
from threading import Lock

from aiofiles.threadpool import wrap

from ._leftovers import claim, part_name

MOST_TRIES = 10  # to begin a file that others take away


class PartFile:
    """Appears with its first write, under a hidden name that no reader takes for an image."""

    def __init__(self, folder: str, name: str) -> None:
        self.target = os.path.join(folder, name)
        self._folder = folder
        self._name = name
        self._path = ""
        self._claim: int | None = None
        self._file: BufferedWriter | None = None
        self._over = False
        self._lock = Lock()

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append. Raises: OSError.

        Opened in the loop, on purpose: that takes microseconds, and an awaited open that is cancelled loses the handle
        while its thread still creates the file. BufferedWriter has a lock of its own.
        """
        await wrap(self._opened()).writelines(chunks)

    async def commit(self, chunks: Sequence[bytes], *, fsync: bool, folder_too: bool) -> None:
        """Append the rest and make it the target; `folder_too` syncs the rename as well. Raises: OSError."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._commit, chunks, fsync, folder_too)

    def discard(self) -> None:
        """Leave nothing on disk, unless it has become the target. Idempotent; a step under way comes to nothing."""
        with self._lock:
            if self._over:
                return
            self._over = True
            if self._file is not None:
                with suppress(OSError):  # the last flush, on a full disk; the descriptor is closed all the same
                    self._file.close()
                with suppress(OSError):
                    os.unlink(self._path)
                self._unclaim()

    def _opened(self) -> BufferedWriter:
        tries = 0
        while self._file is None:
            try:
                self._file = self._begin()
            except FileNotFoundError:  # the folder was taken away, or the file, as one that was left behind
                tries += 1
                if tries == MOST_TRIES:
                    raise
                os.makedirs(self._folder, exist_ok=True)
        return self._file

    def _begin(self) -> BufferedWriter:
        self._path = os.path.join(self._folder, part_name(self._name))
        file = open(self._path, "xb")  # noqa: SIM115  # closed by commit or discard
        try:
            self._claim = claim(file.fileno())
        except BaseException:
            file.close()
            with suppress(OSError):  # whoever took it for left behind may have been quicker
                os.unlink(self._path)
            raise
        return file

    def _unclaim(self) -> None:
        claimed, self._claim = self._claim, None
        if claimed is not None:
            os.close(claimed)

    # ---- in a thread

    def _commit(self, chunks: Sequence[bytes], fsync: bool, folder_too: bool) -> None:
        with self._lock:
            if self._over:
                return
            file = self._opened()
            file.writelines(chunks)
            file.flush()
        if fsync:
            with suppress(ValueError):  # closed meanwhile: it was given up
                os.fsync(file)
        with self._lock:
            if self._over:
                return
            file.close()
            os.replace(self._path, self.target)
            self._unclaim()
            self._over = True
        if folder_too:
            sync_folder(self._folder)


def sync_folder(folder: str) -> None:
    """Make renames durable, where the system has a way (Windows has none, some network disks neither)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
