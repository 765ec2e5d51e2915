"""The prompt, written on the ground of a picture in Pillow's own font. Needs Pillow."""

from __future__ import annotations

import textwrap
import unicodedata
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from ._scenery import ground_height

LONGEST = 400
"""Characters looked at; no more would fit."""

INK = 255
ELLIPSIS = " …"
LARGEST, SMALLEST = 0.042, 0.02
"""Font sizes, as shares of the longer side."""
LEADING = 1.3
LETTER_WIDTH = 0.52
"""Of a font's size, on average; lines that turn out wider get a smaller font."""


def write(picture: Image.Image, prompt: str) -> None:
    """Write the prompt at the largest size at which all of it fits, else what fits at the smallest."""
    width, height = picture.size
    margin, room = min(width, height) * 0.05, ground_height(width, height) * 0.86
    text = _legible(prompt)
    size, lines = _fit(text, width - 2 * margin, room, max(picture.size))
    pen, font = ImageDraw.Draw(picture), _font(size)
    top = height - ground_height(width, height) + max(0.0, room - len(lines) * size * LEADING) / 2
    for number, line in enumerate(lines):
        pen.text((margin, top + number * size * LEADING), line, fill=INK, font=font)


def _fit(text: str, width: float, room: float, longer: int) -> tuple[int, list[str]]:
    size, smallest = max(8, int(min(longer * LARGEST, room / LEADING))), max(8, round(longer * SMALLEST))
    while size > smallest:
        lines = _wrap(text, size, width, room)
        if lines and not lines[-1].endswith(ELLIPSIS) and all(_font(size).getlength(line) <= width for line in lines):
            return size, lines
        size = max(smallest, int(size * 0.84))
    return size, _wrap(text, size, width, room)


def _wrap(text: str, size: int, width: float, room: float) -> list[str]:
    """Lines of a guessed length. A text that cannot fit is cut first: wrapping is what costs."""
    most = max(1, int(room / (size * LEADING)))
    letters = max(4, int(width / (size * LETTER_WIDTH)))
    cut = text[: most * letters + 1]
    lines = textwrap.wrap(cut, letters, max_lines=most, placeholder=ELLIPSIS)
    if cut != text and lines and not lines[-1].endswith(ELLIPSIS):
        lines[-1] += ELLIPSIS
    return lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _legible(prompt: str) -> str:
    cut = prompt if len(prompt) <= LONGEST else prompt[:LONGEST] + ELLIPSIS
    text = unicodedata.normalize("NFC", cut.encode("utf-8", "replace").decode())
    return " ".join("".join(map(_glyph, text)).split())


@cache
def _glyph(letter: str) -> str:
    """The letter, or where the font lacks it: a symbol's name (`[fox face]`), else a dot."""
    if letter.isspace() or _shape(letter) != _shape("\uffff"):
        return letter
    if unicodedata.category(letter) == "So":
        return f" [{unicodedata.name(letter, 'symbol').lower()}] "
    return "" if unicodedata.category(letter)[0] in "CM" else "·"


def _shape(letter: str) -> bytes:
    return bytes(_font(16).getmask(letter))
