"""What goes to stdout: data, for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import _exceptions
from .._answers import Model
from .._models import Generation
from ._terminal import out

_FACTS = ("retryable", "retry_after", "generation_id", "credits_used", "status_code")


def print_json(value: Any) -> None:
    """One JSON value, readable."""
    out(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def error_json(error: Exception, *, kind: str | None = None, message: str | None = None) -> dict[str, Any]:
    """A failure as JSON: always the same fields, null where the error does not tell. Types are those of the tree."""
    public = (cls.__name__ for cls in type(error).__mro__ if cls.__module__ == _exceptions.__name__)
    kind = kind or next(public, type(error).__name__)
    return {"type": kind, "message": message or str(error), **{fact: getattr(error, fact, None) for fact in _FACTS}}


def generation_json(generation: Generation, files: Sequence[Path] | None = None) -> dict[str, Any]:
    """A generation as JSON, with the paths of its files when they were saved."""
    fields = generation.model_dump(mode="json")
    return fields if files is None else {**fields, "files": [str(file) for file in files]}


def print_generation(generation: Generation) -> None:
    """A generation for people: a field a line."""
    for name, value in generation.model_dump(mode="json").items():
        lines = value if isinstance(value, list) else [value]
        for line in lines:
            if line is not None:
                out(f"{name.replace('_', ' ')}: {line}")


def print_models(models: Sequence[Model]) -> None:
    """The models as a table: what they cost and take."""
    rows = [("MODEL", "CREDITS", "REFERENCES", "RATIO", "PRO", "NAME")]
    rows += [
        (
            model.name,
            str(model.credits_cost),
            _mark(model.supports_image_input),
            _mark(model.supports_aspect_ratio),
            _mark(model.requires_pro),
            model.display_name,
        )
        for model in models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        out("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _mark(yes: bool) -> str:
    return "yes" if yes else "-"
