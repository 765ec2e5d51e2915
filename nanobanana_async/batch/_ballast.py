"""A few kilobytes set aside for the moment when the disk is full.

An answer that is under way then brings a paid id, which must not be forgotten: the ballast is thrown off to make room
for it in the journal. Images need megabytes and the journal's last words hardly any.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

BALLAST_FILE = ".batch.ballast"
BALLAST_BYTES = 256 * 1024

_LOGGER = logging.getLogger(__name__)


class Ballast:
    """A file that takes up room: `with Ballast(folder) as ballast`. Raises: OSError on entry, for a full disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BALLAST_FILE

    def throw_off(self) -> bool:
        """Make room; False when that was done before."""
        try:
            self._path.unlink()
        except OSError:
            return False
        _LOGGER.warning("the disk of %s is full", self._path.parent)
        return True

    def __enter__(self) -> Ballast:
        try:
            # Random, for some file systems store zeros in no room at all.
            self._path.write_bytes(os.urandom(BALLAST_BYTES))
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._path.unlink()
