"""Pictures drawn from a prompt: the same prompt, the same bytes."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from ._settings import ImageFormat

FORMATS = ("png", "jpeg", "webp")


def choose_format(wanted: ImageFormat, prompt: str, index: int) -> str:
    """The format of the nth image; `mixed` goes by the prompt, as little to be guessed as on the live service."""
    return wanted if wanted != "mixed" else FORMATS[_digest(prompt, index)[0] % len(FORMATS)]


def draw(prompt: str, index: int, aspect_ratio: str, size: int, image_format: str) -> bytes:
    """Draw and encode one picture; `size` is the longer side in pixels."""
    Image = _pillow()  # noqa: N806
    digest = _digest(prompt, index)
    picture = Image.new("RGB", dimensions(aspect_ratio, size), tuple(digest[:3]))
    out = io.BytesIO()
    picture.save(out, image_format)
    return out.getvalue()


def dimensions(aspect_ratio: str, size: int) -> tuple[int, int]:
    """Width and height of an aspect ratio: `default` and `auto` are square."""
    if ":" not in aspect_ratio:
        return size, size
    width, height = (int(part) for part in aspect_ratio.split(":"))
    longer = max(width, height)
    return max(1, round(size * width / longer)), max(1, round(size * height / longer))


def _digest(prompt: str, index: int) -> bytes:
    return hashlib.sha256(f"{index}/{prompt}".encode("utf-8", "surrogatepass")).digest()


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as exc:
        raise RuntimeError("pictures need Pillow: pip install 'nanobanana_async[emulator]'") from exc
    return Image
