"""What an image's first bytes, its name and its link tell. Pure: nothing here touches a disk or a network."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import unicodedata
from enum import StrEnum
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from ._exceptions import DownloadError, NotAnImageError

SNIFF_BYTES = 12  # enough to know every format below; no image is shorter
TAIL_BYTES = 1024  # from the end, where an image's last mark stands; some tools append a few bytes of their own
MAX_STEM_BYTES = 100  # with hash, index, suffix and temporary name it stays under the 143 of the strictest file system
MAX_SLUG_BYTES = 60
HASH_DIGITS = 8
MAX_SHOWN = 200  # characters of a link that a message repeats


class ImageFormat(StrEnum):
    """What the service sends, whatever the link's suffix says. The value is the file's suffix."""

    PNG = ".png"
    JPEG = ".jpg"
    WEBP = ".webp"

    @property
    def mime(self) -> str:
        """`image/png` and the like."""
        return f"image/{self.name.lower()}"


def sniff(head: bytes) -> ImageFormat | None:
    """The format that begins with these bytes; `SNIFF_BYTES` of them are enough. None: not an image we know."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if head.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ImageFormat.WEBP
    return None


def seems_whole(head: bytes, tail: bytes, size: int) -> bool:
    """Whether an image of `size` bytes ends as its format does, by its first `SNIFF_BYTES` and last `TAIL_BYTES`.

    A PNG ends with its IEND chunk, a JPEG with the marker EOI, and a WebP tells its length in front.
    """
    kind = sniff(head)
    if kind is ImageFormat.WEBP:
        return size >= 8 + int.from_bytes(head[4:8], "little")
    return (b"IEND\xaeB`\x82" if kind is ImageFormat.PNG else b"\xff\xd9") in tail


# ---- file names ---------------------------------------------------------------------------------------------

_PUNCTUATION = frozenset("-_. ")  # beside letters, marks and digits of any script
# Most prompts are ASCII, where this takes a twentieth of the time.
_ASCII_WORDS = "".join(char if char.isalnum() else " " for char in map(chr, range(128)))
_NOT_KEPT_ASCII = re.compile(r"[^0-9A-Za-z\-_. ]")
_DEVICES = frozenset({"con", "prn", "aux", "nul", "conin$", "conout$"})  # names that Windows keeps, with any suffix
_PLAIN_STEM = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,99}").fullmatch  # longer than any device's name
_NUMBERED_DEVICE = re.compile(r"(com|lpt)[0-9¹²³]")


def safe_stem(text: str) -> str:
    """A file name without suffix that stays in its folder on any system.

    A text that is such a name already is returned as it is. Any other is cleaned and gets `~` and a short hash of
    the original: `~` is never kept, so two texts can't meet in one name. Letter case is kept: two names that differ
    only in case are one file where the file system says so.
    """
    if _PLAIN_STEM(text):
        return text
    stem = _clean(text)
    return stem if stem == text else f"{stem}~{short_hash(text)}"


def slug(prompt: str) -> str:
    """A prompt as a readable piece of a file name: `an-orange-cat`. It may repeat; the caller makes it unique."""
    whole = "-".join(_worded(unicodedata.normalize("NFC", prompt.lower())).split())
    cut = _cut(whole, MAX_SLUG_BYTES)
    if cut != whole and not whole.startswith(cut + "-") and "-" in cut:
        cut = cut.rpartition("-")[0]  # end with a whole word
    return cut.strip("-") or "image"


def short_hash(text: str) -> str:
    """Eight hex digits of the text's SHA-256; lone surrogates, as in undecodable file names, are hashed as well."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]


def _clean(text: str) -> str:
    """Leading dots hide a file, a leading dash looks like an option, and Windows drops dots and blanks at the end."""
    stem = _cut(_kept(unicodedata.normalize("NFC", text)).lstrip(". -"), MAX_STEM_BYTES).rstrip(". ") or "image"
    return f"_{stem}" if _is_device(stem) else stem


def _worded(text: str) -> str:
    """Blanks in place of what belongs to no word."""
    if text.isascii():
        return text.translate(_ASCII_WORDS)
    return "".join(char if _is_wordly(char) else " " for char in text)


def _kept(text: str) -> str:
    if text.isascii():
        return _NOT_KEPT_ASCII.sub("_", text)
    return "".join(char if _is_wordly(char) or char in _PUNCTUATION else "_" for char in text)


def _is_wordly(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"


def _is_device(stem: str) -> bool:
    first = stem.split(".", 1)[0].rstrip().lower()
    return first in _DEVICES or _NUMBERED_DEVICE.fullmatch(first) is not None


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")


# ---- links --------------------------------------------------------------------------------------------------


_PLAIN_LINK = re.compile(r"https?://[0-9A-Za-z][0-9A-Za-z.-]*(?::[0-9]+)?/").match


def resolve_url(url: str, base_url: str) -> str:
    """The absolute http(s) URL, or the data URI, that an image link means; relative ones belong to the API's host.

    Absolute links are returned untouched, because signed ones break when they are rebuilt.
    Raises: DownloadError when it is anything else.
    """
    link = url.strip()
    if _PLAIN_LINK(link):
        return link
    if link[:5].lower() == "data:":
        return link
    try:
        absolute = link if _is_http(link) else urljoin(f"{base_url}/", link)
        usable = _is_http(absolute) and bool(urlsplit(absolute).hostname)
    except ValueError:  # such as an unclosed [ of an IPv6 address
        usable = False
    if not link or not usable:
        raise DownloadError(f"{show_url(url)!r} is no image link: only http, https and data are", url=show_url(url))
    return absolute


def show_url(url: str) -> str:
    """A link fit for a message or an error: without query and user, which may be secrets, and not a whole image."""
    if url[:5].lower() == "data:":
        return f"{url.split(',', 1)[0][:MAX_SHOWN]},…"
    shown = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"^([^/]*//)[^/]*@", r"\1", shown)[:MAX_SHOWN]


def data_uri(data: bytes, mime: str) -> str:
    """The bytes as `data:image/png;base64,…`."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def decode_data_uri(uri: str) -> bytes:
    """The bytes of a `data:image/…;base64,` URI; percent signs, blanks and missing padding are forgiven.

    Raises: NotAnImageError.
    """
    header, comma, payload = uri.partition(",")
    kind = header.lower()
    if not (comma and kind.startswith("data:image/") and kind.endswith(";base64")):
        raise NotAnImageError(f"{show_url(uri)} is no base64 image", url=show_url(uri))
    text = b"".join(unquote_to_bytes(payload).split()).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise NotAnImageError(f"{show_url(uri)} can't be decoded: {error}", url=show_url(uri)) from error


def _is_http(url: str) -> bool:
    return url[:7].lower() == "http://" or url[:8].lower() == "https://"
