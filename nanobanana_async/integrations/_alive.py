"""Which processes of this host live: each holds a lock on a file of its own, which the kernel drops when it dies.

So a death is noticed at once and with certainty, however it came. Where files can't be locked so, nobody is ever said
to be dead, and whoever asks waits until a process was not heard of for too long.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # then nobody can tell


class Living:
    """This process among those of `folder`, for the length of a `with`. Files of the dead are removed when found."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._handle: int | None = None

    def __enter__(self) -> Self:
        """Raises: OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path(self._name), os.O_RDWR | os.O_CREAT, 0o600)
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._path(self._name).unlink(missing_ok=True)
            os.close(handle)

    def dead(self, names: Iterable[str]) -> set[str]:
        """Those of the others that have certainly died."""
        return {name for name in names if name != self._name and fcntl is not None and self._has_died(name)}

    def _has_died(self, name: str) -> bool:
        path = self._path(name)
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False  # it may be of another host, or of another folder
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.alive"
