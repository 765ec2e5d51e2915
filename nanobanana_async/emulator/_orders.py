"""What a POST asks for, checked: pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._catalog import ASPECT_RATIOS, MAX_REFERENCES, Model
from ._refusals import bad_request
from ._settings import Settings

MODES = ("sync", "stream", "async")


@dataclass(frozen=True, slots=True)
class Order:
    """A valid request to generate, its quantity already clamped."""

    prompt: str
    mode: str
    model: Model
    quantity: int
    references: int
    aspect_ratio: str

    @property
    def cost(self) -> int:
        """Credits, taken at submission."""
        return self.model.cost(self.quantity, self.references)

    @classmethod
    def from_json(cls, body: object, settings: Settings) -> Order:
        """Read the body of a POST. Refuses with 400."""
        if not isinstance(body, dict):
            raise bad_request("Request body must be a JSON object")
        model = _model(_text(body, "selectedModel", "nano-banana"), settings)
        return cls(
            prompt=_prompt(body),
            mode=_one_of(_text(body, "mode", "sync"), "mode", MODES),
            model=model,
            quantity=_quantity(body, model, settings.max_quantity),
            references=_references(body, model),
            aspect_ratio=_one_of(_text(body, "aspectRatio", "default"), "aspectRatio", ASPECT_RATIOS),
        )


def _text(body: Mapping[str, Any], field: str, default: str) -> str:
    value = body.get(field, default)
    if not isinstance(value, str):
        raise bad_request(f"{field} must be a string")
    return value


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = _text(body, "prompt", "")
    if not prompt.strip():
        raise bad_request("Prompt is required")
    return prompt


def _one_of(value: str, field: str, known: tuple[str, ...] | frozenset[str]) -> str:
    if value not in known:
        raise bad_request(f"Invalid {field}: {value}")
    return sys.intern(value)  # the ledger may hold a million


def _model(name: str, settings: Settings) -> Model:
    for model in settings.models:
        if model.name == name:
            return model
    raise bad_request(f"Invalid model: {name}")


def _quantity(body: Mapping[str, Any], model: Model, most: int) -> int:
    quantity = body.get("quantity", 1)
    if isinstance(quantity, bool) or not isinstance(quantity, int | float):
        raise bad_request("quantity must be a number")
    return 1 if model.streaming else int(max(1, min(quantity, most)))


def _references(body: Mapping[str, Any], model: Model) -> int:
    urls = body.get("referenceImageUrls") or []
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise bad_request("referenceImageUrls must be a list of strings")
    if len(urls) > MAX_REFERENCES:
        raise bad_request(f"At most {MAX_REFERENCES} reference images are allowed")
    if urls and not model.supports_image_input:
        raise bad_request(f"Model {model.name} does not support image input")
    if not all(url.startswith(("https://", "http://", "data:image/")) for url in urls):
        raise bad_request("referenceImageUrls must be public URLs")
    return len(urls)
