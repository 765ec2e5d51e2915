"""The manifest and the gallery, written anew at the end of a run and now and then while it goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import cast

import anyio

from .._exceptions import JournalError
from ._gallery import write_gallery
from ._journal import Journal
from ._manifest import ManifestRow, writing_manifest

_LOGGER = logging.getLogger(__name__)

FIRST_SECONDS = 1.0  # after the start: whoever looks into the folder, or kills the process, finds a manifest
REST_FACTOR = 50  # of the time that the last writing took: large batches must not spend their time on writing
BREATH_ROWS = (
    64  # after which the loop's thread may go on, instead of after the interpreter's 5 ms: rows take 10 us each
)


class GivenUpError(Exception):
    """There was no time to write everything; the files that were there still stand."""


class Outputs:
    """Writes in a thread, one writing at a time, and replaces a file only by a whole one."""

    def __init__(self, folder: Path, journal: Journal, *, title: str | None, interval: float) -> None:
        self._folder = folder
        self._journal = journal
        self._title = title
        self._interval = interval
        self._writing = threading.Lock()
        self._took = 0.0

    async def write(self, patience: float | None = None) -> None:
        """Bring both up to date; beyond `patience` seconds the old ones are left.

        Raises: OSError, JournalError.
        """
        deadline = None if patience is None else time.monotonic() + patience
        await self._journal.flush()
        try:
            await asyncio.to_thread(self._write, deadline)
        except GivenUpError:
            _LOGGER.info("no time to write the manifest; `nanobanana gallery` or the next run does")

    async def keep_fresh(self) -> None:
        """Write again and again until cancelled. A failure is logged: whether it matters, the end of the run tells."""
        await anyio.sleep(min(FIRST_SECONDS, self._interval))
        while True:
            try:
                await self.write()
            except (OSError, JournalError) as error:
                _LOGGER.warning("the manifest could not be written: %s", error)
            await anyio.sleep(max(self._interval, REST_FACTOR * self._took))

    def _write(self, deadline: float | None) -> None:
        with self._writing:
            began = time.monotonic()
            # Closed here, and not whenever the error of a failed writing is forgotten: they hold files open.
            with closing(self._rows(deadline)) as rows, closing(writing_manifest(self._folder, rows)) as written:
                try:
                    write_gallery(self._folder, written, title=self._title)
                except OSError:
                    for _ in written:  # the manifest needs no page
                        pass
                    raise
            self._took = time.monotonic() - began

    def _rows(self, deadline: float | None) -> Generator[ManifestRow, None, None]:
        with closing(cast("Generator[ManifestRow, None, None]", self._journal.manifest_rows())) as rows:
            for number, row in enumerate(rows, 1):
                if deadline is not None and time.monotonic() > deadline:
                    raise GivenUpError
                yield row
                if number % BREATH_ROWS == 0:
                    time.sleep(0)
