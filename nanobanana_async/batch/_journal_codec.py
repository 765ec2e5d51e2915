"""How rows stand in the journal's columns: encoded on the way in, decoded on the way out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._exceptions import InputError, InvalidRequestError
from .._images import SNIFF_BYTES, data_uri, sniff
from .._models import GenerateRequest
from .._references import check_references
from ._inputs import Row
from ._journal_rows import JobState, JournalRow
from ._manifest import ManifestRow, ManifestStatus

LEFT_OVER = "the process ended before the answer to the submission was read"
_PENDING = frozenset({JobState.READY, JobState.INTENT, JobState.RUNNING})


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as the `input` and `job` tables hold it."""

    index: int
    line: int
    fingerprint: bytes
    extra: str | None
    input: tuple[Any, ...]
    job: tuple[Any, ...]
    size: int  # characters, about


def to_stored(row: Row) -> StoredRow:
    """Encode a row. Raises: InputError for what can't be stored and found the same again."""
    request = row.request
    refs = _encode_references(row)
    extra = json.dumps(row.extra, default=str) if row.extra else None
    asked = (row.key, request.prompt, request.model, request.aspect_ratio, request.quantity, refs)
    fingerprint = hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).digest()
    surcharge = request.quantity * max(0, len(request.reference_images) - 1)
    return StoredRow(
        row.index,
        row.line,
        fingerprint,
        extra,
        (row.index, row.line, fingerprint, row.key, request.prompt, request.aspect_ratio, extra, refs),
        (row.index, request.model, request.quantity, surcharge),
        len(request.prompt) + len(extra or "") + len(refs or ""),
    )


def _encode_references(row: Row) -> str | None:
    images = row.request.reference_images
    return json.dumps([_reference(image, row) for image in images]) if images else None


def _reference(image: Any, row: Row) -> str:
    """Links and paths by their text, bytes as a data URI.

    A picture in memory is refused: as a PNG it might come out otherwise with the next release of Pillow, and the row
    would no longer be the one that the batch was started with.
    """
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)
    if not isinstance(image, bytes | bytearray):
        kind = type(image).__name__
        reason = f"row {row.index}: a {kind} can't be kept in a journal; save it and give its path, or give bytes"
        raise InputError(reason, line=row.line, column="reference_images")
    try:
        check_references([bytes(image)])
    except InvalidRequestError as error:
        raise InputError(f"row {row.index}: {error}", line=row.line, column="reference_images") from error
    found = sniff(bytes(image[:SNIFF_BYTES]))
    return data_uri(bytes(image), found.mime if found else "image/gif")


def plain(text: str | None) -> str | None:
    """A text of the service's as SQLite takes it: a lone surrogate must not keep a paid id from being recorded."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def encode_list(items: Iterable[str]) -> str:
    """A list of texts as a column."""
    return json.dumps(list(items))


# ---- out of columns -----------------------------------------------------------------------------------------

ROW_COLUMNS = """
    input.idx, line, key, prompt, model, aspect_ratio, quantity, refs, extra, state, attempts, generation_id, cost,
    credits, urls, expires_at, created_at, files, error
"""
MANIFEST_COLUMNS = """
    input.idx, key, prompt, model, state, generation_id, credits, prior, files, urls, expires_at, error, extra
"""


def to_row(columns: tuple[Any, ...]) -> JournalRow:
    """Decode `ROW_COLUMNS`. The request was checked when it came in, and is not checked again."""
    (index, line, key, prompt, model, ratio, quantity, refs, extra, state, attempts, *rest) = columns
    generation_id, cost, price, urls, expires_at, created_at, files, error = rest
    request = GenerateRequest.model_construct(
        prompt=prompt, model=model, reference_images=_texts(refs), aspect_ratio=ratio, quantity=quantity
    )
    return JournalRow(
        index,
        line,
        key,
        request,
        json.loads(extra) if extra else {},
        JobState(state),
        attempts,
        generation_id,
        cost,
        price,
        _texts(urls),
        _time(expires_at),
        _time(created_at),
        _texts(files),
        error,
    )


def to_manifest(columns: tuple[Any, ...], *, running: bool) -> ManifestRow:
    """Decode `MANIFEST_COLUMNS`. An intent with no process behind it is a doubt."""
    index, key, prompt, model, state, generation_id, price, prior, files, urls, expires_at, error, extra = columns
    left_over = state == JobState.INTENT and not running
    status = ManifestStatus.UNCERTAIN if left_over else _status(state)
    named = {"model": model} if model else {}
    return ManifestRow(
        index=index,
        key=key,
        prompt=prompt,
        status=status,
        generation_id=generation_id,
        credits=(price or 0) + prior if price is not None or prior else None,
        files=_texts(files),
        urls=_texts(urls),
        expires_at=_time(expires_at),
        error=LEFT_OVER if left_over else error,
        extra=json.loads(extra) if extra else {},
        **named,
    )


def _status(state: str) -> ManifestStatus:
    return ManifestStatus.PENDING if state in _PENDING else ManifestStatus(state)


def _texts(column: str | None) -> tuple[str, ...]:
    return tuple(json.loads(column)) if column else ()


def _time(column: str | None) -> datetime | None:
    return datetime.fromisoformat(column) if column else None
