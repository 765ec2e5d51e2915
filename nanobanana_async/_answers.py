"""What the API's answers tell, as pydantic models. Its camelCase stops here.

Reading is lenient on purpose (`_lenient`): only what a decision rests on is required.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ._lenient import LEFT_FIRST, Flag, LenientCount, LenientInt, LenientStr, LenientTime, Urls, Whole
from ._models import DEFAULT_MODEL, Generation, GenerationStatus

_NOT_TOLD: tuple[Any, ...] = (None, "", [])
_STATUSES = {status.value: status for status in GenerationStatus}


def _known_status(value: Any) -> Any:
    text = value.lower() if isinstance(value, str) else ""
    return _STATUSES.get(text)


Status: TypeAlias = Annotated[
    GenerationStatus | Annotated[GenerationStatus | None, BeforeValidator(_known_status)], LEFT_FIRST
]


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


def _told(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value or value not in _NOT_TOLD}


class Submission(_WireModel):
    """The 200 of POST /generate, in any mode."""

    generation_id: LenientStr = Field(default=None, validation_alias=AliasChoices("generationId", "id"))
    image_urls: Urls = Field(default=(), validation_alias=AliasChoices("imageUrls", "outputImageUrls", "imageUrl"))
    success: Flag = True
    answered_async: Flag = Field(default=False, validation_alias="async")
    warning: Flag = False
    message: LenientStr = Field(default=None, validation_alias=AliasChoices("message", "error", "msg"))
    credits_used: LenientCount = Field(default=None, validation_alias="creditsUsed")
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
    credits_used: LenientCount = Field(default=None, validation_alias="creditsUsed")
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


def _aware(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class GenerationEnvelope(_Envelope):
    """GET /generate: `{"data": {…}}`."""

    data: GenerationRecord


class Model(_WireModel):
    """One row of GET /models. `credits_cost` is for one image; each further reference image costs one more."""

    name: str
    display_name: str = Field(default="", validation_alias=AliasChoices("displayName", "display_name"))
    credits_cost: Whole = Field(default=1, validation_alias=AliasChoices("creditsCost", "credits_cost"))
    supports_image_input: Flag = Field(
        default=True, validation_alias=AliasChoices("supportsImageInput", "supports_image_input")
    )
    supports_aspect_ratio: Flag = Field(
        default=True, validation_alias=AliasChoices("supportsAspectRatio", "supports_aspect_ratio")
    )
    requires_pro: Flag = Field(default=False, validation_alias=AliasChoices("requiresPro", "requires_pro"))


def _readable_models(rows: Any) -> Any:
    """One odd row must not hide all the others."""
    return [model for row in rows if (model := _model_or_none(row))] if isinstance(rows, list) else rows


def _model_or_none(row: Any) -> Model | None:
    try:
        return Model.model_validate(row)
    except ValidationError:
        return None


class ModelsEnvelope(BaseModel):
    """GET /models: `{"data": […]}`. Rows that can't be read are left out."""

    model_config = ConfigDict(defer_build=True)

    data: Annotated[tuple[Model, ...], BeforeValidator(_readable_models)]


class Credits(_WireModel):
    """The inside of GET /credits."""

    credits: Whole


class CreditsEnvelope(_Envelope):
    """GET /credits: `{"data": {"credits": 100}}`."""

    data: Credits
