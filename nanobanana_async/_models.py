"""What users hold, as pydantic models: a request, and the generation that came of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, field_validator

from ._exceptions import InvalidRequestError

DEFAULT_MODEL = "nano-banana"  # what the service takes when a request names none
URL_LIFETIME = timedelta(days=15)  # documented life of an image link
Mode: TypeAlias = Literal["async", "sync", "stream"]

_ASPECT_RATIO = re.compile(r"default|auto|[1-9]\d{0,2}:[1-9]\d{0,2}")


class GenerateRequest(BaseModel):
    """What to draw.

    A prompt is sent as it is: the service documents no limit (others that call it cut at 8,000 characters).
    `model` and `aspect_ratio` left at None are the service's own defaults. `quantity` is the number of images
    (the service clamps it to the account's maximum). `reference_images` takes https URLs, data URIs, paths,
    bytes and PIL images; with any of them the request is image-to-image.

    Raises: pydantic's ValidationError, which is a ValueError.
    Source: POST /generate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False, defer_build=True)

    prompt: str = Field(strict=True)
    model: str | None = Field(default=None, min_length=1)
    reference_images: tuple[Any, ...] = Field(default=(), repr=False)
    aspect_ratio: str | None = None
    quantity: int = Field(default=1, ge=1)

    @classmethod
    def of(cls, prompt: str | GenerateRequest, **fields: Any) -> GenerateRequest:
        """Take a request as it is, or make one of a prompt and fields.

        Raises: InvalidRequestError, saying which field and why.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        if isinstance(prompt, GenerateRequest) and not given:
            return prompt
        try:
            if isinstance(prompt, GenerateRequest):
                return cls(**{**dict(prompt), **given})
            return cls(prompt=prompt, **given)
        except ValidationError as error:
            raise InvalidRequestError(f"this request can't be sent: {describe_invalid(error)}") from error

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("the prompt is blank")
        return prompt

    @field_validator("quantity", mode="before")
    @classmethod
    def _check_quantity(cls, quantity: Any) -> Any:
        if isinstance(quantity, bool):
            raise ValueError(f"{quantity} is no number of images")
        return quantity

    @field_validator("aspect_ratio")
    @classmethod
    def _check_aspect_ratio(cls, ratio: str | None) -> str | None:
        if ratio is not None and not _ASPECT_RATIO.fullmatch(ratio):
            raise ValueError(f"{ratio!r} is no aspect ratio; write it like 16:9, or default, or auto")
        return ratio

    @field_validator("reference_images", mode="before")
    @classmethod
    def _wrap_single_reference(cls, images: Any) -> Any:
        if images is None:
            return ()
        single = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike)
        single = single or not isinstance(images, Iterable)
        return (images,) if single else tuple(images)


def describe_invalid(error: ValidationError) -> str:
    """Pydantic's findings on one line: `quantity: Input should be greater than or equal to 1 (got 0)`."""
    return "; ".join(_describe_finding(finding) for finding in error.errors(include_url=False))


def _describe_finding(finding: Any) -> str:
    field = ".".join(str(part) for part in finding["loc"])
    message = finding["msg"].removeprefix("Value error, ")
    shown = finding.get("input")
    got = f" (got {shown!r})" if isinstance(shown, int | float) or shown is None else ""
    return f"{field}: {message}{got}" if field else f"{message}{got}"


class GenerationStatus(StrEnum):
    """Where a generation is, as the service tells it."""

    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Generation(BaseModel):
    """One generation. `image_urls` live until `expires_at`; `credits_used` was taken at submission.

    `id` is empty only when a stream completed without ever telling it.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    id: str
    prompt: str
    model: str
    image_urls: tuple[str, ...] = ()
    credits_used: int | None = None
    created_at: datetime | None = None
    status: GenerationStatus = GenerationStatus.COMPLETED
    error_message: str | None = None

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know decorated properties
    @property
    def expires_at(self) -> datetime | None:
        """When the image links end: 15 days after creation."""
        try:
            return self.created_at + URL_LIFETIME if self.created_at else None
        except OverflowError:  # a date at the end of all years
            return None
