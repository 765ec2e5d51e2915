"""One image on its way to a file: its bytes over any number of attempts, and nothing left behind but the whole.

A part is on disk from its first full chunk on (`_partfile`); whoever ends in any other way than `commit`, be it by an
error or by cancellation, calls `discard`.

Where only the closed connection ends a body, the image's own end tells whether it is whole; one that has no such end is
believed once it comes again with as many bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ._exceptions import DownloadError, DownloadExpiredError, DownloadIncompleteError, NotAnImageError
from ._images import SNIFF_BYTES, TAIL_BYTES, ImageFormat, seems_whole, show_url, sniff
from ._models import Generation
from ._partfile import PartFile


@dataclass(frozen=True, slots=True)
class Image:
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
            credits_used=self.generation.credits_used,
        )


class Part:
    """An image on its way to disk, over any number of attempts: its bytes here, until its file takes them."""

    def __init__(self, image: Image, max_bytes: int) -> None:
        self.image = image
        self.max_bytes = max_bytes
        self.not_found = 0
        self.received = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._format: ImageFormat | None = None
        self._head = self._tail = b""
        self._framed = True  # the end of the body is told, so a cut is noticed by the transport
        self._ended_at: int | None = None  # where a body that was not framed broke off, or ended, before
        self._total: int | None = None
        self._validator: str | None = None
        self._content_type = ""
        self._file: PartFile | None = None

    def range_headers(self) -> dict[str, str]:
        """Ask for the rest only where the server can tell that it is the rest of the same thing."""
        if not self.received or self._validator is None:
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self._validator}

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Go on where the answer goes on, or start anew."""
        self._framed = "Content-Length" in headers or "Transfer-Encoding" in headers
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
        if not self._framed:
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
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
        if not self._framed:
            self._check_end()

    async def write(self) -> None:
        """Bring what is pending to the file."""
        await self._open().write(self._taken())

    async def commit(self, *, fsync: bool, folder_too: bool = False) -> Path:
        """Make it the image's file."""
        file = self._open()
        await file.commit(self._taken(), fsync=fsync, folder_too=folder_too)
        return Path(file.target)

    def restart(self) -> None:
        """Forget every byte."""
        self.discard()
        self._pending, self._pending_bytes, self.received = [], 0, 0
        self._format = self._total = self._validator = None
        self._tail = b""

    def discard(self) -> None:
        """Leave nothing on disk. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.discard()

    def _taken(self) -> list[bytes]:
        chunks, self._pending, self._pending_bytes = self._pending, [], 0
        return chunks

    def _open(self) -> PartFile:
        if self._file is None:
            self._file = PartFile(str(self.image.folder), f"{self.image.stem}{self._format}")
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
        self._head = b"".join(self._pending)[:SNIFF_BYTES]
        self._format = sniff(self._head)
        if self._format is None:
            what = (self._content_type or f"{self.received} bytes") if self.received else "an empty body"
            self.restart()
            temporary = self.image.url[:5].lower() != "data:"
            raise self.image.error(
                NotAnImageError, f"{show_url(self.image.url)} gave {what} instead of an image", retryable=temporary
            )

    def _check_end(self) -> None:
        received, before = self.received, self._ended_at
        if self._total is None and received != before and not seems_whole(self._head, self._tail, received):
            self.restart()
            self._ended_at = received
            raise self._incomplete(f"it ends after {received} bytes, in the middle of the image")

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise self.image.error(
                DownloadError, f"it is larger than {self.max_bytes:,} bytes, the most that is taken from a link"
            )

    def _incomplete(self, reason: str) -> DownloadError:
        return self.image.error(DownloadIncompleteError, f"{show_url(self.image.url)}: {reason}", retryable=True)


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
