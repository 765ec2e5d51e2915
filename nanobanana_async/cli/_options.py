"""What the options of `batch` say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..batch import RowDefaults
from ..batch._inputs import STDIN


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """One field for each option."""

    source: str
    output: Path
    model: str | None = None
    aspect_ratio: str | None = None
    quantity: int | None = None
    max_credits: int | None = None
    max_concurrency: int | None = None
    dry_run: bool = False
    yes: bool = False
    partial: bool = False
    dedupe: bool = False
    retry_failed: bool = False
    uncertain: Literal["hold", "retry"] = "hold"
    title: str | None = None
    distributed: str | None = None
    store: str | None = None
    account: str | None = None

    def defaults(self) -> RowDefaults:
        """What rows get that name none of their own."""
        return RowDefaults(model=self.model, aspect_ratio=self.aspect_ratio, quantity=self.quantity)

    @property
    def source_name(self) -> str:
        """The input's name in messages."""
        return "standard input" if self.source == STDIN else self.source
