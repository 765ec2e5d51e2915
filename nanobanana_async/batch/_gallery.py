"""A batch as something to look at: `index.html`, one page that needs nothing but the images beside it.

The page is a template with its data in it as JSON, a row a line, streamed in; its script builds the DOM from text
only. So a prompt can't become markup: `<`, `>` and `&` never stand in the data, and the page's Content-Security-
Policy runs no script but the template's own, by hash. Sizes are read from the images' first bytes, so that the page
knows its whole layout before it has loaded one of them.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from .._models import URL_LIFETIME
from ._manifest import ManifestRow, ManifestStatus, encode_json, read_manifest, replacing

GALLERY_FILE = "index.html"
MAX_ROWS = 20_000  # what a browser lays out and scrolls well; the rest is counted, and named in manifest.jsonl

_ESCAPES = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))
_LINE_ENDS = (("\u2028".encode(), b"\\u2028"), ("\u2029".encode(), b"\\u2029"))
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@dataclass(slots=True)
class Totals:
    """What the page's header tells, counted while the rows go by."""

    statuses: Counter[ManifestStatus] = field(default_factory=Counter)
    rows: int = 0
    images: int = 0
    credits: int = 0

    def add(self, row: ManifestRow) -> None:
        self.statuses[row.status] += 1
        self.rows += 1
        self.images += len(row.files)
        self.credits += row.credits or 0

    def counting(self, rows: Iterable[ManifestRow]) -> Iterator[ManifestRow]:
        """The same rows, each counted when it is taken."""
        for row in rows:
            self.add(row)
            yield row

    def to_json(self) -> dict[str, Any]:
        statuses = {status.value: self.statuses[status] for status in ManifestStatus if self.statuses[status]}
        return {"statuses": statuses, "rows": self.rows, "images": self.images, "credits": self.credits}


def write_gallery(
    folder: Path,
    rows: Iterable[ManifestRow],
    *,
    title: str | None = None,
    note: str = "",
    written_at: datetime | None = None,
    max_rows: int = MAX_ROWS,
) -> Path:
    """Replace the folder's `index.html` by a page of these rows, taken one at a time; pending ones are welcome.

    `title` defaults to the folder's name; `note` is a sentence under it.

    Raises: OSError (a full disk, a read-only folder); the old page then still stands.
    """
    path = folder / GALLERY_FILE
    totals = Totals()
    shown = _entries(folder, totals.counting(rows), max_rows)
    title = (title or folder.resolve().name).encode(errors="replace").decode()  # a folder's name may be any bytes
    head, middle, tail = _template()
    with replacing(path) as file:
        file.write(head.replace("{{title}}", html.escape(title)).encode())
        file.writelines(shown)
        summary = {"title": title, "note": note, "written_at": (written_at or datetime.now(UTC)).isoformat()}
        file.write(middle.encode())
        file.write(_script_data(summary | totals.to_json() | {"shown_rows": min(totals.rows, max_rows)}))
        file.write(tail.encode())
    return path


def rebuild_gallery(folder: Path, *, title: str | None = None, note: str = "") -> Path:
    """Write the page anew from the folder's manifest. Raises: InputError without one, OSError."""
    return write_gallery(folder, read_manifest(folder), title=title, note=note)


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG or WebP by its header, or None."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # unbuffered: some bytes of it are read once
            return _size(file)
    except (OSError, ValueError, struct.error):
        return None


def _entries(folder: Path, rows: Iterable[ManifestRow], max_rows: int) -> Iterator[bytes]:
    """The first rows as the page's script reads them; all are taken."""
    for number, row in enumerate(rows):
        if number < max_rows:
            yield b",\n" if number else b"\n"
            yield _script_data(_entry(folder, row))


def _entry(folder: Path, row: ManifestRow) -> dict[str, Any]:
    made_at = row.expires_at - URL_LIFETIME if row.expires_at else None
    return {
        "row": row.to_json(),
        "sizes": [image_size(f"{folder}/{name}") for name in row.files],
        "made_at": made_at.isoformat() if made_at else None,
    }


def _script_data(value: Any) -> bytes:
    """JSON that no HTML parser mistakes for the end of a script, or for anything but text."""
    data = encode_json(value)
    for plain, escaped in (*_ESCAPES, *_LINE_ENDS):
        data = data.replace(plain, escaped)
    return data


@cache
def _template() -> tuple[str, str, str]:
    """The page before its rows, between them and the summary, and after."""
    page = resources.files(__package__).joinpath("gallery.html").read_text("utf-8")
    sources = {kind: _hash_source(text) for kind, text in _INLINE.findall(page)}
    page = page.replace("{{style}}", sources["style"]).replace("{{script}}", sources["script"])
    head, _, rest = page.partition("{{rows}}")
    middle, _, tail = rest.partition("{{summary}}")
    return head, middle, tail


def _hash_source(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _size(file: BinaryIO) -> tuple[int, int] | None:
    head = file.read(30)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(file)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_size(head)
    return None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(2)
    while len(segment := file.read(4)) == 4 and segment[0] == 0xFF:
        kind, length = segment[1], int.from_bytes(segment[2:])
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a frame header, not a table
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        file.seek(length - 2, 1)
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None
