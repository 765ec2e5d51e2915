"""The names of an input's columns: ours, the wire's, and those too near to one of them to be a row's own. Pure.

A `Model` taken for a column of one's own would be drawn, and paid, with the default model.
"""

from __future__ import annotations

from functools import lru_cache

FIELDS = {name: name for name in ("key", "prompt", "model", "aspect_ratio", "quantity", "reference_images")} | {
    "selectedModel": "model",  # the wire's names, so that recorded requests can be used as they are
    "aspectRatio": "aspect_ratio",
    "referenceImageUrls": "reference_images",
}
_LONGEST = 40  # characters of a name that may be near to one of ours


@lru_cache(maxsize=256)  # the rows of a file all have the same few
def meant(name: str) -> str | None:
    """The name that is probably meant by one that is not ours; None where it is a column of the row's own."""
    return None if name in FIELDS or len(name) > _LONGEST else _NEAR.get(_bare(name))


def _bare(name: str) -> str:
    """Without what is easily got wrong: case, spaces, hyphens, underscores, the plural's s."""
    letters = "".join(character for character in name.casefold() if not (character.isspace() or character in "-_"))
    return letters.removesuffix("s")


_NEAR = {_bare(name): field for name, field in FIELDS.items()}
