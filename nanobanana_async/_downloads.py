"""Images from links to files: checked, resumed, renamed into place; nothing half-made stays behind.

Theory of operation. Every image has one `_Part`, which lives as long as its attempts. An attempt takes one of the
shared places, asks for the bytes the part has not got, and commits the part when it is whole. A part is on disk from
its first full chunk on, under a hidden name that no reader takes for an image; whoever ends in any other way than a
commit, be it by an error or by cancellation, discards it. Between attempts a part is kept and holds no place.
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import anyio
from aiofiles.threadpool import wrap

from ._exceptions import (
    DownloadError,
    DownloadExpiredError,
    DownloadIncompleteError,
    NotAnImageError,
    TransportError,
)
from ._images import SNIFF_BYTES, ImageFormat, decode_data_uri, resolve_url, safe_stem, short_hash, show_url, sniff
from ._models import Generation
from ._retry import RetryPolicy, parse_retry_after
from ._transport import OpenResponse, Transport

_LOGGER = logging.getLogger(__name__)

MAX_CONCURRENT = 16  # downloads at once: saturates a gigabit with 200 KB images, and stays polite to a CDN
MAX_BYTES = 200 * 1024 * 1024  # a file; the largest 4K PNGs have some 30 MB
CHUNK_SIZE = 1024 * 1024  # bytes a write: each is a thread's hop, and 16 KB ones cost four times the CPU
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
    place of the image, and a few 404s. `fsync` makes what `save` returned survive a power cut. `now` and `sleep` are
    the clock.
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
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._transport = transport
        self._retry = retry or RetryPolicy()
        self._limiter = anyio.CapacityLimiter(max_concurrent)
        self._fsync = fsync
        self._max_bytes = max_bytes
        self._chunk_size = chunk_size
        self._now = now
        self._sleep = sleep
        self._unfinished = 0
        self._stored = 0
        self._bytes = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Downloads [{now.active} active, {now.waiting} waiting | {now.stored} stored, {now.bytes:,} bytes]>"

    def statistics(self) -> DownloadStatistics:
        """The live numbers."""
        active = self._limiter.borrowed_tokens
        return DownloadStatistics(active, max(0, self._unfinished - active), self._stored, self._bytes)

    async def save(
        self, generation: Generation, folder: str | os.PathLike[str], *, stem: str | None = None
    ) -> list[Path]:
        """Store every image of a generation and return the paths in the order of its links.

        One image becomes `<stem>.png`, several `<stem>-1.png` and so on, with the suffix that the content asks for;
        `stem` is the generation's id unless given, made safe for any file system. A file of that name is replaced.
        The folder is made. When an image fails the others are still stored.
        Raises: DownloadError, the first by order.
        """
        images = _images_of(generation, Path(folder), stem)
        outcomes: dict[int, Path | Exception] = {}
        _make_folder(generation, Path(folder))
        async with anyio.create_task_group() as group:
            for image in images:
                group.start_soon(self._collect, image, outcomes)
        if self._fsync:
            await asyncio.to_thread(_sync_folder, Path(folder))
        return _paths_or_raise([outcomes[image.place] for image in images])

    async def _collect(self, image: _Image, outcomes: dict[int, Path | Exception]) -> None:
        """Keep what comes of an image: an error must not cancel its siblings, nor end in an ExceptionGroup."""
        self._unfinished += 1
        try:
            outcomes[image.place] = await self._store(image)
        except Exception as error:
            outcomes[image.place] = error
        finally:
            self._unfinished -= 1

    async def _store(self, image: _Image) -> Path:
        delays = self._retry.delays()
        part = _Part(image, self._max_bytes)
        try:
            while True:
                try:
                    return await self._attempt(image, part)
                except DownloadError as error:
                    delay = self._retry.next_delay(error, delays)
                    if delay is None:
                        raise
                    _LOGGER.info("trying again in %.1f s: %s", delay, error)
                await self._sleep(delay)
        except BaseException:
            part.discard()
            raise

    async def _attempt(self, image: _Image, part: _Part) -> Path:
        try:
            async with self._limiter:
                await self._receive(image, part)
                path = await part.commit(fsync=self._fsync)
        except TransportError as error:
            cls = DownloadIncompleteError if part.received else DownloadError
            raise image.error(cls, str(error), retryable=error.retryable, retry_after=error.retry_after) from error
        except OSError as error:  # after TransportError, some of which are TimeoutErrors and so OSErrors
            raise image.error(DownloadError, _describe(error)) from error
        self._stored += 1
        self._bytes += part.received
        return path

    async def _receive(self, image: _Image, part: _Part) -> None:
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

    async def _fetch(self, link: str, image: _Image, part: _Part) -> None:
        # Images don't shrink by gzip, and a range of a gzipped body would be of no use.
        headers = {"Accept-Encoding": "identity", **part.range_headers()}
        async with self._transport.fetch(link, headers=headers) as response:
            self._check_status(response, image, part)
            part.begin(response.status, response.headers)
            # Closed here, not by the garbage collector, when the loop below ends early.
            async with aclosing(cast("AsyncGenerator[bytes, None]", response.chunks())) as chunks:
                async for chunk in chunks:
                    part.take(chunk)
                    if part.is_due(self._chunk_size):
                        await part.write()

    def _check_status(self, response: OpenResponse, image: _Image, part: _Part) -> None:
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


@dataclass(frozen=True, slots=True)
class _Image:
    """One image of a generation, and where it goes."""

    generation: Generation
    place: int
    url: str
    folder: Path
    stem: str

    def is_over(self, now: datetime) -> bool:
        ends = self.generation.expires_at
        if ends is None:
            return False
        return now >= (ends if ends.tzinfo else ends.replace(tzinfo=UTC))

    def error(
        self,
        cls: type[DownloadError],
        reason: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> DownloadError:
        generation_id = self.generation.id
        lost = cls is DownloadExpiredError or not generation_id
        advice = "" if lost else f"; it is paid, not lost: client.get({generation_id!r}) finds it again"
        return cls(
            f"image {self.place} of generation {generation_id or '(no id)'} is not stored: {reason}{advice}",
            url=show_url(self.url),
            path=str(self.folder / self.stem),
            retryable=retryable,
            retry_after=retry_after,
            generation_id=generation_id,
        )


class _Part:
    """An image on its way to disk, over any number of attempts.

    The file is opened, closed, unlinked and renamed in the loop, on purpose: each takes microseconds, and each is
    then done or not done. An awaited open that is cancelled loses the handle while its thread still creates the
    file, and an awaited cleanup may never run: a shield holds off an anyio scope, not a task.cancel(). A write or
    fsync that was cancelled may still run in its thread. BufferedWriter's lock makes `close` wait for the write (one
    chunk, into the page cache) and refuses a later one, so no thread writes to a descriptor that was given away; an
    fsync is not waited for, because it may take seconds and harms nobody.
    """

    def __init__(self, image: _Image, max_bytes: int) -> None:
        self.image = image
        self.max_bytes = max_bytes
        self.not_found = 0
        self.received = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._format: ImageFormat | None = None
        self._total: int | None = None
        self._validator: str | None = None
        self._content_type = ""
        self._path: Path | None = None
        self._file: io.BufferedWriter | None = None

    def range_headers(self) -> dict[str, str]:
        """Ask for the rest only where the server can tell that it is the rest of the same thing."""
        if not self.received or self._validator is None:
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self._validator}

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Go on where the answer goes on, or start anew."""
        if status == 206 and self._continues(headers):
            return
        self.restart()
        if status == 206:
            raise self._incomplete("the server sent another part than the one asked for")
        self._content_type = headers.get("Content-Type", "")
        if not _is_encoded(headers):  # else neither length nor ranges count the bytes that arrive here
            self._total = _content_length(headers)
            self._validator = _strong_validator(headers)
        if self._total is not None:
            self._check_size(self._total)

    def take(self, chunk: bytes) -> None:
        """Add what came, unless it is too much or no image."""
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        self.received += len(chunk)
        self._check_size(self.received)
        if self._format is None and self.received >= SNIFF_BYTES:
            self._identify()

    def is_due(self, chunk_size: int) -> bool:
        """Whether a write is worth its thread's hop; never before the first bytes were looked at."""
        return self._format is not None and self._pending_bytes >= chunk_size

    def check_whole(self) -> None:
        """Raise unless the bytes are a whole image."""
        if self._total is not None and self.received != self._total:
            received, total = self.received, self._total
            if received > total:
                self.restart()
            raise self._incomplete(f"{received} of {total} bytes came")
        if self._format is None:
            self._identify()

    async def write(self) -> None:
        """Bring what is pending to the file."""
        chunks, self._pending, self._pending_bytes = self._pending, [], 0
        await wrap(self._open()).writelines(chunks)

    async def commit(self, *, fsync: bool) -> Path:
        """Make it the image's file."""
        await self.write()
        file = self._open()
        if fsync:
            await asyncio.to_thread(_sync_file, file)
        file.close()
        target = self.image.folder / f"{self.image.stem}{self._format}"
        cast("Path", self._path).replace(target)
        self._path = self._file = None
        return target

    def restart(self) -> None:
        """Forget every byte."""
        self.discard()
        self._pending, self._pending_bytes, self.received = [], 0, 0
        self._format = self._total = self._validator = None

    def discard(self) -> None:
        """Leave nothing on disk. Idempotent."""
        file, self._file = self._file, None
        path, self._path = self._path, None
        if file is not None:
            with suppress(OSError):  # the last flush, on a full disk; the descriptor is closed all the same
                file.close()
        if path is not None:
            with suppress(OSError):
                path.unlink()

    def _open(self) -> io.BufferedWriter:
        if self._file is None:
            name = f".{self.image.stem}{self._format}.{secrets.token_hex(4)}.part"
            self._path = self.image.folder / name
            self._file = self._path.open("xb")
        return self._file

    def _continues(self, headers: Mapping[str, str]) -> bool:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != self.received or _is_encoded(headers):
            return False
        etag = headers.get("ETag")
        if etag and self._validator and self._validator.startswith('"') and etag != self._validator:
            return False
        total = None if match[2] == "*" else int(match[2])
        if self._total is None:
            self._total = total
        return total is None or total == self._total

    def _identify(self) -> None:
        self._format = sniff(b"".join(self._pending)[:SNIFF_BYTES])
        if self._format is None:
            what = self._content_type or f"{self.received} bytes"
            self.restart()
            temporary = self.image.url[:5].lower() != "data:"
            raise self.image.error(
                NotAnImageError, f"{show_url(self.image.url)} gave {what} instead of an image", retryable=temporary
            )

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise self.image.error(DownloadError, f"it is larger than {self.max_bytes:,} bytes; raise max_bytes")

    def _incomplete(self, reason: str) -> DownloadError:
        return self.image.error(DownloadIncompleteError, f"{show_url(self.image.url)}: {reason}", retryable=True)


def _images_of(generation: Generation, folder: Path, stem: str | None) -> list[_Image]:
    """Ids are empty when a stream never told one: then the links name the file, so that two don't meet."""
    urls = generation.image_urls
    base = safe_stem(stem or generation.id or f"image-{short_hash(' '.join(urls))}")
    stems = [base] if len(urls) == 1 else [f"{base}-{place}" for place in range(1, len(urls) + 1)]
    return [
        _Image(generation, place, url, folder, name)
        for place, (url, name) in enumerate(zip(urls, stems, strict=True), 1)
    ]


def _make_folder(generation: Generation, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"generation {generation.id} is not stored: {_describe(error)}; it is paid, not lost",
            path=str(folder),
            generation_id=generation.id,
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


def _sync_file(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    """Make renames durable, where the system has a way (Windows has none, some network disks neither)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", "")


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _strong_validator(headers: Mapping[str, str]) -> str | None:
    """What If-Range may carry (RFC 9110, 13.1.5): a strong ETag, or a Last-Modified before the answer's second."""
    etag = headers.get("ETag", "").strip()
    if etag:
        return None if etag.startswith("W/") else etag
    modified = headers.get("Last-Modified")
    return modified if modified and modified != headers.get("Date") else None
