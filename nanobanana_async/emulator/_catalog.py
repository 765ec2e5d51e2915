"""The model table and what a generation costs: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ASPECT_RATIOS = frozenset(
    {"default", "auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:1", "5:4"}
    | {"8:1", "9:16", "16:9", "21:9"}
)
"""What the live server accepts; 2:1 is refused there and here."""

MAX_REFERENCES = 9
"""Reference images in one request, as observed on the live server."""


@dataclass(frozen=True, slots=True)
class Model:
    """One row of `GET /models`. A `streaming` model makes one image, whatever quantity was asked."""

    name: str
    display_name: str
    credits_cost: int = 1
    supports_image_input: bool = True
    supports_aspect_ratio: bool = True
    requires_pro: bool = False
    streaming: bool = False

    def as_json(self) -> dict[str, Any]:
        """The row as the API writes it."""
        return {
            "name": self.name,
            "displayName": self.display_name,
            "creditsCost": self.credits_cost,
            "supportsImageInput": self.supports_image_input,
            "supportsAspectRatio": self.supports_aspect_ratio,
            "requiresPro": self.requires_pro,
        }

    def cost(self, quantity: int, references: int) -> int:
        """`quantity x (model cost + additional references)`; the first reference is included."""
        return quantity * (self.credits_cost + max(0, references - 1))


DEFAULT_MODELS: Sequence[Model] = (
    Model("nano-banana", "Nano Banana", 1),
    Model("gemini-2.5-flash-image", "Gemini 2.5 Flash Image", 1),
    Model("nanobanan-2", "Nano Banana 2", 2),
    Model("nanobanan-2-2k", "Nano Banana 2 (2K)", 3),
    Model("nanobanan-2-4k", "Nano Banana 2 (4K)", 4),
    Model("nanobanan2&pro", "Nano Banana 2 Pro", 4, requires_pro=True),
    Model("nanobanan2&pro-2k", "Nano Banana 2 Pro (2K)", 5, requires_pro=True),
    Model("seedream-5.0-2k", "Seedream 5.0 (2K)", 2, supports_aspect_ratio=False),
    Model("gpt-image-2-2k", "GPT Image 2 (2K)", 4, streaming=True),
    Model("text-only", "Text Only", 1, supports_image_input=False),
)
"""Names seen live; the costs are the emulator's own, but for `nano-banana`'s single credit."""
