"""Requests, generations and the wire's JSON as pydantic models. The API's camelCase stops here.

Reading is lenient on purpose: an answer to a paid request must not be lost to an odd date or a missing cost.
Only what a decision rests on is required.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    computed_field,
    field_validator,
    model_validator,
)

from ._exceptions import InvalidRequestError

DEFAULT_MODEL = "nano-banana"  # what the service takes when a request names none
URL_LIFETIME = timedelta(days=15)  # documented life of an image link
Mode: TypeAlias = Literal["async", "sync", "stream"]

_ASPECT_RATIO = re.compile(r"default|auto|[1-9]\d{0,2}:[1-9]\d{0,2}")


class GenerateRequest(BaseModel):
    """What to draw.

    `model` and `aspect_ratio` left at None are the service's own defaults. `quantity` is the number of images
    (the service clamps it to the account's maximum). `reference_images` takes https URLs, data URIs, paths,
    bytes and PIL images; with any of them the request is image-to-image.

    Raises: pydantic's ValidationError, which is a ValueError.
    Source: POST /generate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False, defer_build=True)

    prompt: str
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


_STATUSES = {status.value: status for status in GenerationStatus}


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


# ---- the wire -----------------------------------------------------------------------------------------------

_INTEGER = TypeAdapter[int | None](int | None, config=ConfigDict(defer_build=True))
_NO = frozenset({"", "false", "no", "0"})
_NOT_TOLD: tuple[Any, ...] = (None, "", [])


def _or_none(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _told(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value or value not in _NOT_TOLD}


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


def _truth(value: Any) -> bool:
    return value.strip().lower() not in _NO if isinstance(value, str) else bool(value)


def _text(value: Any) -> str | None:
    """Numbers as text; what else is no text was not told."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _int(value: Any) -> int | None:
    if type(value) is int:
        return value
    try:
        return _INTEGER.validate_python(_whole(value))
    except ValidationError:
        return None


def _aware(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def _urls(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    return tuple(url for url in value if isinstance(url, str) and url) if isinstance(value, list | tuple) else ()


def _nothing(_: Any) -> None:
    """What can't be read."""


def _known_status(value: Any) -> Any:
    text = value.lower() if isinstance(value, str) else ""
    return _STATUSES.get(text)


# The left is what is told as a rule, read without a call of ours; the right makes the best of anything else.
_LEFT_FIRST = Field(union_mode="left_to_right")
LenientInt: TypeAlias = Annotated[StrictInt | Annotated[int | None, PlainValidator(_int)], _LEFT_FIRST]
LenientStr: TypeAlias = Annotated[StrictStr | Annotated[str | None, PlainValidator(_text)], _LEFT_FIRST]
LenientTime: TypeAlias = Annotated[datetime | Annotated[None, PlainValidator(_nothing)], _LEFT_FIRST]
Status: TypeAlias = Annotated[
    GenerationStatus | Annotated[GenerationStatus | None, BeforeValidator(_known_status)], _LEFT_FIRST
]
Url: TypeAlias = Annotated[StrictStr, Field(min_length=1)]
Urls: TypeAlias = Annotated[tuple[Url, ...] | Annotated[tuple[str, ...], BeforeValidator(_urls)], _LEFT_FIRST]
Flag: TypeAlias = Annotated[StrictBool | Annotated[bool, BeforeValidator(_truth)], _LEFT_FIRST]


class _Envelope(BaseModel):
    """Around what an answer tells."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", coerce_numbers_to_str=True, populate_by_name=True, defer_build=True
    )


class _WireModel(_Envelope):
    """What holds nothing counts as not told: another name of the same field, or its default, speaks instead."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        return _told(value) if isinstance(value, dict) else value


class Submission(_WireModel):
    """The 200 of POST /generate, in any mode."""

    generation_id: LenientStr = Field(default=None, validation_alias=AliasChoices("generationId", "id"))
    image_urls: Urls = Field(default=(), validation_alias=AliasChoices("imageUrls", "outputImageUrls", "imageUrl"))
    success: Flag = True
    answered_async: Flag = Field(default=False, validation_alias="async")
    warning: Flag = False
    message: LenientStr = Field(default=None, validation_alias=AliasChoices("message", "error", "msg"))
    credits_used: LenientInt = Field(default=None, validation_alias="creditsUsed")
    remaining_credits: LenientInt = Field(default=None, validation_alias="remainingCredits")

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        inner = value.get("data") if isinstance(value, dict) else None
        return {**value, **_told(inner)} if isinstance(inner, dict) else value

    @property
    def rejected(self) -> bool:
        """The safety check said no; charged all the same."""
        return self.warning and not self.image_urls


class GenerationRecord(_WireModel):
    """What GET /generate tells of one generation."""

    id: LenientStr = None
    prompt: LenientStr = None
    image_urls: Urls = Field(
        default=(), validation_alias=AliasChoices("outputImageUrls", "outputImageUrl", "imageUrls")
    )
    model_used: LenientStr = Field(default=None, validation_alias=AliasChoices("modelUsed", "model"))
    processing_status: Status = Field(default=None, validation_alias="processingStatus")
    error_message: LenientStr = Field(default=None, validation_alias="errorMessage")
    credits_used: LenientInt = Field(default=None, validation_alias="creditsUsed")
    created_at: LenientTime = Field(default=None, validation_alias="createdAt")

    @property
    def status(self) -> GenerationStatus:
        """The status told; one we don't know, or none, means that it still runs unless images are there."""
        if self.processing_status is not None:
            return self.processing_status
        return GenerationStatus.COMPLETED if self.image_urls else GenerationStatus.PROCESSING

    def to_generation(
        self,
        generation_id: str,
        *,
        prompt: str = "",
        model: str | None = None,
        credits_used: int | None = None,
    ) -> Generation:
        """The public form; what the record does not tell is filled from what we asked for."""
        return Generation(
            id=self.id or generation_id,
            prompt=self.prompt or prompt,
            model=self.model_used or model or DEFAULT_MODEL,
            image_urls=self.image_urls,
            credits_used=self.credits_used if self.credits_used is not None else credits_used,
            created_at=_aware(self.created_at),
            status=self.status,
            error_message=self.error_message,
        )


class GenerationEnvelope(_Envelope):
    """GET /generate: `{"data": {…}}`."""

    data: GenerationRecord


class Model(_WireModel):
    """One row of GET /models. `credits_cost` is for one image; each further reference image costs one more."""

    name: str
    display_name: str = Field(default="", validation_alias=AliasChoices("displayName", "display_name"))
    credits_cost: Annotated[int, BeforeValidator(_whole)] = Field(
        default=1, validation_alias=AliasChoices("creditsCost", "credits_cost")
    )
    supports_image_input: Flag = Field(
        default=True, validation_alias=AliasChoices("supportsImageInput", "supports_image_input")
    )
    supports_aspect_ratio: Flag = Field(
        default=True, validation_alias=AliasChoices("supportsAspectRatio", "supports_aspect_ratio")
    )
    requires_pro: Flag = Field(default=False, validation_alias=AliasChoices("requiresPro", "requires_pro"))


def _readable_models(rows: Any) -> Any:
    """One odd row must not hide all the others."""
    return [model for row in rows if (model := _or_none(row, Model.model_validate))] if isinstance(rows, list) else rows


class ModelsEnvelope(BaseModel):
    """GET /models: `{"data": […]}`. Rows that can't be read are left out."""

    model_config = ConfigDict(defer_build=True)

    data: Annotated[tuple[Model, ...], BeforeValidator(_readable_models)]


class Credits(_WireModel):
    """The inside of GET /credits."""

    credits: Annotated[int, BeforeValidator(_whole)]


class CreditsEnvelope(_Envelope):
    """GET /credits: `{"data": {"credits": 100}}`."""

    data: Credits
