"""Rows that are paid: watched to their end by id, and their images brought home. Never costs a credit.

What can't be had now is left for the next run; only what is gone for good ends a row.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .._client import Client
from .._exceptions import (
    BatchError,
    DownloadError,
    DownloadExpiredError,
    GenerationError,
    GenerationTimeoutError,
    NanoBananaError,
)
from .._images import slug
from .._models import Generation
from ._journal_rows import JobState, JournalRow
from ._manifest import relative_files
from ._network import Network
from ._seams import RowJournal
from ._telling import Teller

IMAGES = "images"


class Fetcher:
    """Brings accepted rows as far as they go. Raises what the service says of a generation that has failed."""

    def __init__(self, client: Client, journal: RowJournal, folder: Path, network: Network, teller: Teller) -> None:
        self._client = client
        self._journal = journal
        self._folder = folder
        self._network = network
        self._teller = teller

    async def pick_up(self, row: JournalRow) -> None:
        """A row that an earlier run left running, or made and not stored."""
        try:
            await self._bring(row)
        except (GenerationTimeoutError, DownloadError) as error:
            await self.go_on(row, error)

    async def go_on(self, row: JournalRow, error: NanoBananaError) -> None:
        """A row stopped on its way, by this error: try once more when the network is there, else leave it.

        Raises: BatchError when no image at all can be stored.
        """
        self._check_disk(error)
        if _is_worth_another_look(error) and await self._network.back():
            try:
                await self._bring(await self._known(row.index), anew=True)
                return
            except (GenerationTimeoutError, DownloadError) as second:
                self._check_disk(second)
                error = second
        await self._leave_behind(row, error)

    async def _bring(self, row: JournalRow, *, anew: bool = False) -> None:
        """Watch it to its end, and store its images. `anew` asks for its links once more."""
        generation = _known_generation(row)
        if row.generation_id is not None and (anew or row.state is JobState.RUNNING):
            generation = await self._client.wait(row.generation_id)
            await self._journal.completed(row.index, generation)
            self._teller.moved(row.index, JobState.COMPLETED)
        files = await self._client.download(generation, self._folder / IMAGES, stem=stem(row))
        await self._journal.stored(row.index, relative_files(self._folder, files))
        self._teller.ended(row.index, JobState.STORED)

    async def _known(self, index: int) -> JournalRow:
        """What the journal has of a row that was accepted."""
        [row] = await self._journal.unfinished(JobState.RUNNING, JobState.COMPLETED, limit=1, after=index - 1)
        return row

    async def _leave_behind(self, row: JournalRow, error: NanoBananaError) -> None:
        if isinstance(error, DownloadExpiredError):
            await self._journal.ended(row.index, JobState.EXPIRED, str(error))
            self._teller.ended(row.index, JobState.EXPIRED, str(error))
        else:
            state = JobState.COMPLETED if isinstance(error, DownloadError) else JobState.RUNNING
            self._teller.ended(row.index, state, str(error))

    def _check_disk(self, error: NanoBananaError) -> None:
        """Raise what concerns every row: a full disk, a folder without access."""
        cause = error.__cause__
        if isinstance(error, DownloadError) and isinstance(cause, OSError) and not isinstance(cause, NanoBananaError):
            raise BatchError(
                f"no image can be stored in {self._folder / IMAGES} ({cause.strerror or cause}); free space or mend "
                "that, then run the same command again: what is paid is fetched for no further credit"
            ) from error


def stem(row: JournalRow) -> str:
    """A row's images by name: sorted as the input is, and readable. The index makes it unique."""
    return f"{row.index:06d}-{slug(row.request.prompt)}".rstrip("-")


def without_references(row: JournalRow) -> JournalRow:
    """The same row, for whoever needs no more: many are held at once, and references may be megabytes each."""
    if not row.request.reference_images:
        return row
    return replace(row, request=row.request.model_copy(update={"reference_images": ()}))


def _is_worth_another_look(error: NanoBananaError) -> bool:
    """Time may have mended it: the wait was too short, the answer was odd, or the download may be tried again."""
    return isinstance(error, GenerationError) or error.retryable


def _known_generation(row: JournalRow) -> Generation:
    return Generation(
        id=row.generation_id or "",
        prompt=row.request.prompt,
        model=row.request.model or "",
        image_urls=row.urls,
        credits_used=row.credits,
        created_at=row.created_at,
    )
