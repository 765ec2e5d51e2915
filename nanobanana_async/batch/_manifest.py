"""A batch's result as a file: `manifest.jsonl`, a row per prompt, in input order.

The names in `MANIFEST_NAMES` are a promise to other programs; a row's own columns stand after them. The file is
replaced as a whole, so a reader never meets half of one. Reading is lenient all the same: a manifest may have been
copied from a disk that was full.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from .._exceptions import InputError
from .._models import DEFAULT_MODEL

MANIFEST_FILE = "manifest.jsonl"
MANIFEST_NAMES = (
    "index",
    "key",
    "prompt",
    "model",
    "status",
    "generation_id",
    "credits",
    "files",
    "urls",
    "expires_at",
    "error",
)

_STALE_SECONDS = 3600.0  # a temporary file this old belongs to a process that was killed
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str)  # json.dumps makes a new one each time
_log = logging.getLogger(__name__)


class ManifestStatus(StrEnum):
    """How a row ended, or that it has not."""

    STORED = "stored"  # every image is on disk
    COMPLETED = "completed"  # made and paid, not downloaded
    FAILED = "failed"
    REJECTED = "rejected"  # by the safety check
    UNCERTAIN = "uncertain"  # may be paid and running
    LOST = "lost"  # paid, its id unknown
    EXPIRED = "expired"  # its links ended before it was stored
    PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One row. `index` counts from 0; `files` are relative to the batch's folder, with forward slashes."""

    index: int
    prompt: str
    status: ManifestStatus
    key: str | None = None
    model: str = DEFAULT_MODEL
    generation_id: str | None = None
    credits: int | None = None
    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    expires_at: datetime | None = None
    error: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in the file: the fixed names in their order, then its own columns."""
        own = {name: value for name, value in self.extra.items() if name not in MANIFEST_NAMES}
        return {
            "index": self.index,
            "key": self.key,
            "prompt": self.prompt,
            "model": self.model,
            "status": self.status.value,
            "generation_id": self.generation_id,
            "credits": self.credits,
            "files": list(self.files),
            "urls": list(self.urls),
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
            "error": self.error,
            **own,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ManifestRow:
        """Read a row back; what is odd but not needed becomes None.

        Raises: KeyError, TypeError or ValueError without an index, a prompt and a known status.
        """
        return cls(
            index=int(fields["index"]),
            key=_text(fields.get("key")),
            prompt=str(fields["prompt"]),
            model=_text(fields.get("model")) or DEFAULT_MODEL,
            status=ManifestStatus(fields["status"]),
            generation_id=_text(fields.get("generation_id")),
            credits=_whole(fields.get("credits")),
            files=_texts(fields.get("files")),
            urls=_texts(fields.get("urls")),
            expires_at=_date(fields.get("expires_at")),
            error=_text(fields.get("error")),
            extra={name: value for name, value in fields.items() if name not in MANIFEST_NAMES},
        )


def relative_files(folder: Path, paths: Iterable[Path]) -> tuple[str, ...]:
    """Paths as a manifest names them. Raises: ValueError for one outside the folder."""
    return tuple(_relative(f"{folder}{os.sep}", folder, path) for path in paths)


def write_manifest(folder: Path, rows: Iterable[ManifestRow]) -> Path:
    """Replace the folder's manifest by these rows, taken one at a time.

    Raises: OSError (a full disk, a read-only folder); the old manifest then still stands.
    """
    for _ in writing_manifest(folder, rows):
        pass
    return folder / MANIFEST_FILE


def writing_manifest(folder: Path, rows: Iterable[ManifestRow]) -> Generator[ManifestRow, None, None]:
    """The same rows, each written when it is taken; the manifest is replaced when the last one was. Raises: OSError."""
    with replacing(folder / MANIFEST_FILE) as file:
        for row in rows:
            file.write(encode_json(row.to_json()) + b"\n")
            yield row


def read_manifest(folder: Path) -> Iterator[ManifestRow]:
    """The folder's rows, one at a time. A line that can't be read (a torn last one) is logged and left out.

    Raises: InputError when there is no manifest to read.
    """
    path = folder / MANIFEST_FILE
    try:
        with path.open("rb") as lines:
            yield from _parsed(path, lines)
    except OSError as error:
        reason = f"no manifest can be read here ({error.strerror}); name the folder of a batch"
        raise InputError(f"{path}: {reason}", source=str(path)) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes `path`'s place only when it is whole and on disk.

    The temporary file stands in the same folder (a rename can't cross file systems) under a name of its own, so
    that two writers don't mix. Its mode follows the umask, which `tempfile` would not.
    """
    _remove_stale(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def encode_json(value: Any) -> bytes:
    """JSON that every reader takes: UTF-8 as people read it, NaN as null, lone surrogates escaped."""
    try:
        return _ENCODER.encode(value).encode()
    except ValueError:  # UnicodeEncodeError is one
        plain = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
        return json.dumps(plain).encode()


def _remove_stale(path: Path) -> None:
    before = time.time() - _STALE_SECONDS
    for part in path.parent.glob(f".{path.name}.*.part"):
        with suppress(FileNotFoundError):  # renamed by another writer, whose it is
            if part.stat().st_mtime < before:
                part.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # only there can a folder be opened, and its renames be synced
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parsed(path: Path, lines: Iterable[bytes]) -> Iterator[ManifestRow]:
    for number, line in enumerate(lines, 1):
        try:
            row = ManifestRow.from_json(json.loads(line))
        except (KeyError, TypeError, ValueError, AttributeError):
            _log.warning("%s, line %d can't be read and is left out", path, number)
            continue
        yield row


def _relative(prefix: str, folder: Path, path: Path) -> str:
    text = str(path)
    if text.startswith(prefix):  # nearly always, and much faster
        return text[len(prefix) :].replace(os.sep, "/")
    return path.relative_to(folder).as_posix()


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _date(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
