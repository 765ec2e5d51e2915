"""Reference images as the API takes them: links as they are, everything else as data URIs."""

from __future__ import annotations

import asyncio
import io
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._exceptions import InvalidRequestError
from ._images import SNIFF_BYTES, data_uri, sniff

MAX_REFERENCES = 9  # what live callers send at most
MAX_REFERENCE_BYTES = 1_500_000  # each, before base64; what the live service was seen to take
_PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})  # what PNG can hold of Pillow's modes
_NEAREST_MODE = {"I": "I;16", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}  # any other becomes RGB
_MAX_HEADER = 200  # characters; what stands before the comma of a data URI
_DATA_URI = re.compile(r"data:image/[^,]+;base64,", re.IGNORECASE)


async def encode_references(images: Sequence[Any]) -> list[str]:
    """Make `referenceImageUrls` of URLs, data URIs, paths, bytes and PIL images.

    Files are read and pictures encoded off the loop.
    Raises: InvalidRequestError naming the image that can't be sent.
    """
    _check_count(images)
    return [await _encode(image, _name(image, place)) for place, image in enumerate(images, 1)]


def check_references(images: Sequence[Any]) -> None:
    """Find missing files and non-images before anything is spent; reads a few bytes of each file at most.

    Raises: InvalidRequestError naming the image that can't be sent.
    """
    _check_count(images)
    for place, image in enumerate(images, 1):
        _check(image, _name(image, place))


def _check(image: Any, name: str) -> None:
    if _is_link(image):
        _check_link(image, name)
    elif isinstance(image, str | os.PathLike):
        size, head = _read(image, name, SNIFF_BYTES)
        _check_bytes(size, head, name)
    elif isinstance(image, bytes | bytearray | memoryview):
        _check_bytes(memoryview(image).nbytes, bytes(image[:SNIFF_BYTES]), name)
    elif not _is_picture(image):
        raise InvalidRequestError(
            f"{name} is a {type(image).__name__}; give a URL, a data URI, a path, bytes or a PIL image"
        )


async def _encode(image: Any, name: str) -> str:
    if _is_link(image):
        _check_link(image, name)
        return str(image)
    return await asyncio.to_thread(_encode_blocking, image, name)


def _encode_blocking(image: Any, name: str) -> str:
    _check(image, name)
    data = _bytes_of(image, name)
    _check_bytes(len(data), data[:SNIFF_BYTES], name)
    return data_uri(data, _mime(data) or "")


def _bytes_of(image: Any, name: str) -> bytes:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _read(image, name, MAX_REFERENCE_BYTES + 1)[1]
    return _png(image, name)


def _png(picture: Any, name: str) -> bytes:
    buffer = io.BytesIO()
    try:
        fitting = picture if picture.mode in _PNG_MODES else picture.convert(_NEAREST_MODE.get(picture.mode, "RGB"))
        fitting.save(buffer, format="PNG")
    except (OSError, ValueError) as error:  # a picture is decoded on use: a broken one shows up here
        raise InvalidRequestError(f"{name} can't be encoded as PNG: {error}") from error
    return buffer.getvalue()


def _read(image: str | os.PathLike[Any], name: str, max_bytes: int) -> tuple[int, bytes]:
    """The file's size and its first bytes. Pipes and devices are refused: reading them may never end."""
    try:
        path = Path(os.fsdecode(image))
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequestError(f"{name} is a {'folder' if path.is_dir() else 'device'}, not a file")
        with path.open("rb") as file:
            return status.st_size, file.read(max_bytes)
    except FileNotFoundError as error:
        raise InvalidRequestError(f"{name} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequestError(f"{name} can't be read: {reason}") from error


def _check_count(images: Sequence[Any]) -> None:
    if len(images) > MAX_REFERENCES:
        raise InvalidRequestError(f"{len(images)} reference images are too many: the API takes {MAX_REFERENCES}")


def _check_bytes(size: int, head: bytes, name: str) -> None:
    if _mime(head) is None:
        raise InvalidRequestError(f"{name} is no image: its first bytes are not those of a PNG, JPEG, WebP or GIF")
    _check_size(size, name)


def _check_size(size: int, name: str) -> None:
    if size > MAX_REFERENCE_BYTES:
        raise InvalidRequestError(
            f"{name} has {size / 1e6:.1f} MB; the API takes about {MAX_REFERENCE_BYTES / 1e6} MB: "
            "shrink it, or give an https URL"
        )


def _check_link(link: str, name: str) -> None:
    if link[:5].lower() != "data:":
        return
    header = _DATA_URI.match(link[:_MAX_HEADER])
    if header is None:
        raise InvalidRequestError(f"{name} is no data URI of an image; write it like data:image/png;base64,…")
    _check_size((len(link) - header.end()) * 3 // 4, name)


def _mime(head: bytes) -> str | None:
    """References may be GIFs, which the service never makes."""
    found = sniff(head)
    if found is not None:
        return found.mime
    return "image/gif" if head[:6] in (b"GIF87a", b"GIF89a") else None


def _is_link(image: Any) -> bool:
    return isinstance(image, str) and image[:8].lower().startswith(("https://", "http://", "data:"))


def _is_picture(image: Any) -> bool:
    """A PIL image by its looks: Pillow itself is never imported."""
    return hasattr(image, "save") and hasattr(image, "mode")


def _name(image: Any, place: int) -> str:
    """How a message calls it: by its place, and by its path where it has one."""
    if isinstance(image, str | os.PathLike) and not _is_link(image):
        return f"reference image {place} ({os.fsdecode(image)!r})"
    return f"reference image {place}"
