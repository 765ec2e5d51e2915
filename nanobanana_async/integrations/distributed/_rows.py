"""A shard's rows: what was asked, as the shard's file has it, and how far each is, as the book has it. Pure.

The file is written once, before anybody can work on the shard, and never changed. Pictures that the input names by
their paths stand in it as data URIs, for the worker may be on another machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from ..._exceptions import InputError
from ..._models import GenerateRequest
from ...batch._journal_mirror import Snapshot
from ...batch._journal_rows import JobState, JournalRow

_SHORT = {
    "state": "s",
    "attempts": "n",
    "cost": "c",
    "reserved": "h",
    "booked": "b",
    "credits": "k",
    "generation_id": "g",
    "urls": "u",
    "expires_at": "x",
    "created_at": "y",
    "files": "p",
    "error": "e",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRecord:
    """How far a row is; `reserved` and `booked` are its parts of the batch's sums."""

    state: JobState = JobState.READY
    attempts: int = 0
    cost: int | None = None
    reserved: int | None = None
    booked: int | None = None
    credits: int | None = None
    generation_id: str | None = None
    urls: tuple[str, ...] = ()
    expires_at: datetime | None = None
    created_at: datetime | None = None
    files: tuple[str, ...] = ()
    error: str | None = None

    @classmethod
    def of(cls, row: JournalRow) -> RowRecord:
        """As a journal has it: what it cost so far is counted there."""
        return cls(
            state=row.state,
            attempts=row.attempts,
            cost=row.cost,
            reserved=row.cost if row.credits is None else None,
            booked=row.credits,
            credits=row.credits,
            generation_id=row.generation_id,
            urls=row.urls,
            expires_at=row.expires_at,
            created_at=row.created_at,
            files=row.files,
            error=row.error,
        )

    def to_dict(self) -> dict[str, Any]:
        """By the short names of the scripts. Lists are texts, for Lua can't tell an empty list from an empty table."""
        told = {_SHORT[one.name]: _encoded(getattr(self, one.name)) for one in fields(self)}
        return {name: value for name, value in told.items() if value is not None}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> RowRecord:
        """Read a record of the scripts."""
        told = json.loads(text)
        return cls(
            state=JobState(told["s"]),
            attempts=int(told.get("n", 0)),
            **{name: _whole(told.get(_SHORT[name])) for name in ("cost", "reserved", "booked", "credits")},
            generation_id=told.get("g"),
            urls=tuple(json.loads(told.get("u", "[]"))),
            files=tuple(json.loads(told.get("p", "[]"))),
            expires_at=_time(told.get("x")),
            created_at=_time(told.get("y")),
            error=told.get("e"),
        )

    def snapshot(self, index: int) -> Snapshot:
        """For the journal of the coordinator."""
        return Snapshot(
            index=index,
            state=self.state,
            attempts=self.attempts,
            cost=self.cost,
            credits=self.credits,
            generation_id=self.generation_id,
            urls=self.urls,
            created_at=self.created_at,
            expires_at=self.expires_at,
            files=self.files,
            error=self.error,
        )

    def upon(self, row: JournalRow) -> JournalRow:
        """A row of the shard's file, as far as it is."""
        return replace(
            row,
            state=self.state,
            attempts=self.attempts,
            generation_id=self.generation_id,
            cost=self.cost,
            credits=self.credits,
            urls=self.urls,
            expires_at=self.expires_at,
            created_at=self.created_at,
            files=self.files,
            error=self.error,
        )


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One line of a shard's file."""

    index: int
    prompt: str
    model: str | None = None
    aspect_ratio: str | None = None
    quantity: int = 1
    reference_images: tuple[str, ...] = field(default=())

    def to_line(self) -> bytes:
        """As it stands in the file."""
        return json.dumps({one.name: getattr(self, one.name) for one in fields(self)}).encode() + b"\n"

    def to_row(self) -> JournalRow:
        """Untouched. The request was checked when the batch took it."""
        request = GenerateRequest.model_construct(
            prompt=self.prompt,
            model=self.model,
            reference_images=tuple(self.reference_images),
            aspect_ratio=self.aspect_ratio,
            quantity=self.quantity,
        )
        return JournalRow(
            index=self.index,
            line=0,
            key=None,
            request=request,
            extra={},
            state=JobState.READY,
            attempts=0,
            generation_id=None,
            cost=None,
            credits=None,
            urls=(),
            expires_at=None,
            created_at=None,
            files=(),
            error=None,
        )


def encode_shard(rows: Iterable[ShardRow]) -> bytes:
    """A shard's file."""
    return b"".join(row.to_line() for row in rows)


def decode_shard(data: bytes, name: str) -> Iterator[JournalRow]:
    """The rows of a shard's file. Raises: InputError for one that is not whole."""
    try:
        for line in data.splitlines():
            yield ShardRow(**json.loads(line)).to_row()
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} can't be read ({error}); start the batch again in its folder", source=name) from error


def _encoded(value: Any) -> Any:
    if isinstance(value, tuple):
        return json.dumps(list(value)) if value else None
    if isinstance(value, JobState):
        return value.value
    return value.isoformat() if isinstance(value, datetime) else value


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
