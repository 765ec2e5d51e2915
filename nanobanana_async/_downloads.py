"""Images from links to files: checked, resumed, renamed into place; nothing half-made stays behind.

Theory of operation. Every image has one `Part`, which lives as long as its attempts. An attempt takes one of the
shared places, asks for the bytes the part has not got, and commits the part when it is whole. Between attempts a part
is kept and holds no place; whatever else ends it discards it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import anyio

from ._exceptions import (
    DownloadError,
    DownloadExpiredError,
    DownloadIncompleteError,
    TransportError,
)
from ._gate import Gate
from ._images import decode_data_uri, resolve_url, safe_stem, short_hash, show_url
from ._leftovers import remove_leftovers
from ._models import Generation
from ._part import Image, Part
from ._partfile import sync_folder
from ._retry import RetryPolicy, parse_retry_after
from ._transport import OpenResponse, Transport

_LOGGER = logging.getLogger(__name__)

MAX_CONCURRENT = 16  # downloads at once: saturates a gigabit with 200 KB images, and stays polite to a CDN
MAX_BYTES = 200 * 1024 * 1024  # a file; the largest 4K PNGs have some 30 MB
CHUNK_SIZE = 1024 * 1024  # bytes a write: each is a thread's hop, and 16 KB ones cost four times the CPU
KEPT_BYTES = 4 * 1024 * 1024  # of freed memory, at least: see _keep_freed_memory
MAX_FOLDERS = 256  # that are remembered
LEAST_RATE = 1024  # bytes a second over `download_timeout`: so MAX_CONCURRENT of them get through a line of 16 KiB/s
NOT_FOUND_ATTEMPTS = 3  # a CDN may know an image a moment later than the API does
_TEMPORARY = frozenset({408, 416, 425, 429})  # and any 5xx; 416 because the part then begins anew
_HINTS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "the file is too large for this disk",
    errno.EACCES: "the folder can't be written to: change its permissions or choose another",
    errno.EPERM: "the folder can't be written to: change its permissions or choose another",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
}


@dataclass(frozen=True, slots=True)
class DownloadStatistics:
    """Downloads now, those that wait for a place or for their next attempt, and what was stored so far."""

    active: int
    waiting: int
    stored: int
    bytes: int


class Downloads:
    """Stores the images of generations, at most `max_concurrent` at once over all callers.

    `retry` is for everything that may pass: broken connections, 429 and 5xx, truncated bodies, an error page in
    place of the image, and a few 404s; what comes at less than LEAST_RATE counts as broken off. `fsync` makes what
    `save` returned survive a power cut. `now`, `clock` and `sleep` are the time.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        retry: RetryPolicy | None = None,
        max_concurrent: int = MAX_CONCURRENT,
        fsync: bool = True,
        max_bytes: int = MAX_BYTES,
        chunk_size: int = CHUNK_SIZE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._transport = transport
        self._retry = retry or RetryPolicy()
        self._places = Gate()
        self._places.width = max_concurrent
        self._fsync = fsync
        self._max_bytes = max_bytes
        self._chunk_size = chunk_size
        self._patience = transport.timeouts.download_timeout
        self._least = LEAST_RATE * self._patience  # bytes: fewer are no progress
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._folders: set[Path] = set()  # that were there, or were made: not looked at for every image
        self._unfinished = 0
        self._stored = 0
        self._bytes = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Downloads [{now.active} active, {now.waiting} waiting | {now.stored} stored, {now.bytes:,} bytes]>"

    def statistics(self) -> DownloadStatistics:
        """The live numbers."""
        active = self._places.open
        return DownloadStatistics(active, max(0, self._unfinished - active), self._stored, self._bytes)

    async def save(
        self, generation: Generation, folder: str | os.PathLike[str], *, stem: str | None = None
    ) -> list[Path]:
        """Store every image of a generation and return the paths in the order of its links.

        One image becomes `<stem>.png`, several `<stem>-1.png` and so on, with the suffix that the content asks for;
        `stem` is the generation's id unless given, made safe for any file system. A file of that name is replaced.
        The folder is made; parts that killed processes left in it are removed. When an image fails the others are
        still stored.
        Raises: DownloadError, the first by order.
        """
        _keep_freed_memory()
        folder = Path(folder)
        images = _images_of(generation, folder, stem)
        if folder not in self._folders:
            if len(self._folders) >= MAX_FOLDERS:
                self._folders.clear()
            await self._enter(generation, folder)
        if len(images) == 1:
            return _paths_or_raise([await self._collect(images[0], folder_too=self._fsync)])
        outcomes: dict[int, Path | Exception] = {}

        async def collect(image: Image) -> None:
            outcomes[image.place] = await self._collect(image, folder_too=False)

        async with anyio.create_task_group() as group:
            for image in images:
                group.start_soon(collect, image)
        if self._fsync:
            await asyncio.to_thread(sync_folder, str(folder))
        return _paths_or_raise([outcomes[image.place] for image in images])

    async def _enter(self, generation: Generation, folder: Path) -> None:
        """A folder for the first time: make it, or rid it of what a process that was killed has left in it."""
        is_new = _make_folder(generation, folder)
        self._folders.add(folder)
        if not is_new:
            await asyncio.to_thread(remove_leftovers, folder)

    async def _collect(self, image: Image, *, folder_too: bool) -> Path | Exception:
        """What comes of an image: an error must not cancel its siblings, nor end in an ExceptionGroup."""
        self._unfinished += 1
        try:
            return await self._store(image, folder_too=folder_too)
        except Exception as error:
            return error
        finally:
            self._unfinished -= 1

    async def _store(self, image: Image, *, folder_too: bool) -> Path:
        delays, furthest = self._retry.delays(), 0
        part = Part(image, self._max_bytes)
        try:
            while True:
                try:
                    return await self._attempt(image, part, folder_too=folder_too)
                except DownloadError as error:
                    if part.received - furthest >= self._least:  # it gets there, however often it breaks off
                        delays, furthest = self._retry.delays(), part.received
                    delay = self._retry.next_delay(error, delays)
                    if delay is None:
                        raise
                    _LOGGER.info("trying again in %.1f s: %s", delay, error)
                await self._sleep(delay)
        except BaseException:
            part.discard()
            raise

    async def _attempt(self, image: Image, part: Part, *, folder_too: bool) -> Path:
        try:
            async with self._places.request():
                await self._receive(image, part)
                path = await part.commit(fsync=self._fsync, folder_too=folder_too)
        except TransportError as error:
            cls = DownloadIncompleteError if part.received else DownloadError
            raise image.error(cls, str(error), retryable=error.retryable, retry_after=error.retry_after) from error
        except OSError as error:  # after TransportError, some of which are TimeoutErrors and so OSErrors
            raise image.error(DownloadError, _describe(error)) from error
        self._stored += 1
        self._bytes += part.received
        return path

    async def _receive(self, image: Image, part: Part) -> None:
        try:
            link = resolve_url(image.url, self._transport.base_url)
            if link[:5].lower() == "data:":
                part.take(await asyncio.to_thread(decode_data_uri, link))
            else:
                await self._fetch(link, image, part)
        except DownloadError as error:
            if error.generation_id is not None:
                raise
            raise image.error(type(error), str(error)) from error
        part.check_whole()

    async def _fetch(self, link: str, image: Image, part: Part) -> None:
        # Images don't shrink by gzip, and a range of a gzipped body would be of no use.
        headers = {"Accept-Encoding": "identity", **part.range_headers()}
        async with await self._open(link, headers) as response:
            self._check_status(response, image, part)
            part.begin(response.status, response.headers)
            due, enough = self._clock() + self._patience, part.received + self._least
            while chunk := await response.chunk():
                part.take(chunk)
                if part.is_due(self._chunk_size):
                    await part.write()
                if self._clock() >= due:
                    self._check_progress(image, part, enough)
                    due, enough = self._clock() + self._patience, part.received + self._least

    async def _open(self, link: str, headers: dict[str, str]) -> OpenResponse:
        try:
            return await self._transport.fetch(link, headers=headers)
        except ValueError as error:  # a port or a host name that can't be, here or where it was redirected to
            raise DownloadError(f"{show_url(link)!r} is no image link: {error}", url=show_url(link)) from error

    def _check_progress(self, image: Image, part: Part, enough: float) -> None:
        """Raise when so little came of it that it would hold its place for hours."""
        if part.received < enough:
            slow = f"{show_url(image.url)} gave less than {LEAST_RATE:,} bytes a second for {self._patience:g} s"
            raise image.error(DownloadIncompleteError, slow, retryable=True)

    def _check_status(self, response: OpenResponse, image: Image, part: Part) -> None:
        status = response.status
        if 200 <= status < 300:
            return
        answered = f"{show_url(image.url)} answered {status}"
        if status == 410 or (status in (403, 404) and image.is_over(self._now())):
            raise image.error(DownloadExpiredError, f"{answered}: the link has ended")
        if status == 416:
            part.restart()
        part.not_found += status == 404
        patient = status == 404 and part.not_found < NOT_FOUND_ATTEMPTS
        raise image.error(
            DownloadError,
            answered,
            retryable=patient or status in _TEMPORARY or status >= 500,
            retry_after=parse_retry_after(response.headers.get("Retry-After"), now=self._now()),
        )


@cache
def _keep_freed_memory() -> None:
    """Spare chunks the page faults, once for the process.

    glibc hands freed memory back to the system beyond twice the largest block that was ever mapped and freed, and has
    to ask for it again, page by page, with the next chunk: nearly a third of a large one. Elsewhere it is harmless.
    """
    bytes(KEPT_BYTES)


def _images_of(generation: Generation, folder: Path, stem: str | None) -> list[Image]:
    """Ids are empty when a stream never told one: then the links name the file, so that two don't meet."""
    urls = generation.image_urls
    base = safe_stem(stem or generation.id or f"image-{short_hash(' '.join(urls))}")
    stems = [base] if len(urls) == 1 else [f"{base}-{place}" for place in range(1, len(urls) + 1)]
    return [
        Image(generation, place, url, folder, name)
        for place, (url, name) in enumerate(zip(urls, stems, strict=True), 1)
    ]


def _make_folder(generation: Generation, folder: Path) -> bool:
    """Whether it was not there."""
    try:
        if folder.is_dir():
            return False
        folder.mkdir(parents=True, exist_ok=True)
        return True
    except OSError as error:
        raise DownloadError(
            f"generation {generation.id} is not stored: {_describe(error)}; it is paid, not lost",
            path=str(folder),
            generation_id=generation.id,
            credits_used=generation.credits_used,
        ) from error


def _paths_or_raise(outcomes: Sequence[Path | Exception]) -> list[Path]:
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if not errors:
        return [outcome for outcome in outcomes if isinstance(outcome, Path)]
    if len(errors) > 1:
        errors[0].add_note(f"{len(errors) - 1} more of its {len(outcomes)} images failed")
    raise errors[0]


def _describe(error: OSError) -> str:
    reason = _HINTS.get(error.errno or 0) or error.strerror or str(error)
    return f"{reason} ({error.filename})" if error.filename else reason
