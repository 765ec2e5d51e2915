"""Pictures drawn from a prompt: the same prompt, the same bytes. Pillow is loaded with the first of them.

A picture is drawn in grey at double height, pressed together (which smooths its edges), and coloured by a palette that
runs from a dark tone to a light one. One channel instead of three is what makes it cheap, and what makes its colours
agree: a palette PNG or a JPEG of 1024 px takes 5 to 8 ms, of which 2 are the encoding. WebP's encoder alone takes 10.
"""

from __future__ import annotations

import hashlib
import io
import random
from typing import Any

from ._settings import ImageFormat

MIXED_FORMATS = ("png", "jpeg", "png", "jpeg", "png", "jpeg", "png", "webp")
"""What `mixed` picks from: every format turns up, the slow one seldom."""

_SAVE: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 1},
    "jpeg": {"quality": 85},
    "webp": {"quality": 50, "method": 0},
}
"""The fastest settings that look well at 1024 px."""


def choose_format(wanted: ImageFormat, prompt: str, index: int) -> str:
    """The format of the nth image; `mixed` goes by the prompt, as little to be guessed as on the live service."""
    return wanted if wanted != "mixed" else MIXED_FORMATS[_digest(prompt, index)[0] % len(MIXED_FORMATS)]


def draw(prompt: str, index: int, aspect_ratio: str, size: int, image_format: str) -> bytes:
    """Draw and encode one picture; `size` is the longer side in pixels. RuntimeError without Pillow."""
    try:
        from . import _lettering, _scenery
    except ImportError as exc:
        raise RuntimeError("pictures need Pillow: pip install 'nanobanana_async[emulator]'") from exc
    chance = random.Random(_digest(prompt, index))
    picture = _scenery.paint(chance, *dimensions(aspect_ratio, size))
    _lettering.write(picture, prompt)
    picture.putpalette(_scenery.palette(chance))
    out = io.BytesIO()
    encoded = picture if image_format == "png" else picture.convert("RGB")
    encoded.save(out, image_format, **_SAVE[image_format])
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
