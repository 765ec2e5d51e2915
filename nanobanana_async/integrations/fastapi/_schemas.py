"""What goes over the wire between a caller and the router, as pydantic models that make up its OpenAPI page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..._engine import ClientStatistics
from ._errors import Problem
from ._states import JobState

MAX_PROMPT = 8000  # characters; live callers cut there
MAX_REFERENCES = 9
_LINK = re.compile(r"https://[^\s]{1,2000}|data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=]{1,2100000}")
_EXAMPLE_ID = "5f1c0e4b8a7d49e2b3c6"


def _is_link(reference: str) -> str:
    # A path, which the client itself would read, must never come from a caller.
    if not _LINK.fullmatch(reference):
        raise ValueError("a reference image is an https URL, or a data:image/…;base64 URI of at most 1.5 MB")
    return reference


Reference = Annotated[str, AfterValidator(_is_link)]


class Order(BaseModel):
    """What to draw."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"prompt": "an orange cat on a red sofa", "aspect_ratio": "16:9"}]},
    )

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, pattern=r"\S", description="What the images show.")
    model: str | None = Field(None, min_length=1, max_length=100, description="The service's default unless given.")
    aspect_ratio: str | None = Field(None, pattern=r"^(default|auto|[1-9]\d{0,2}:[1-9]\d{0,2})$", examples=["16:9"])
    quantity: int = Field(1, ge=1, le=100, description="How many images.")
    reference_images: list[Reference] = Field(
        default_factory=list, max_length=MAX_REFERENCES, description="https URLs or `data:image/…;base64,` URIs."
    )

    def fields(self) -> dict[str, Any]:
        """Those that were given."""
        return {name: value for name, value in self.model_dump().items() if value not in (None, [])}


class Links(BaseModel):
    """Where to go on from here."""

    status: str = Field(examples=[f"/generations/{_EXAMPLE_ID}"])
    events: str = Field(examples=[f"/generations/{_EXAMPLE_ID}/events"])
    receipt: str | None = Field(None, description="The same, lasting: it works when the job itself is forgotten.")


class JobView(BaseModel):
    """A job, as its owner sees it."""

    id: str = Field(examples=[_EXAMPLE_ID])
    status: str = Field(
        description="`queued`, `submitting`, `running`; `completed` (there are images); `failed`, "
        "`rejected` (by the safety check), `uncertain` (the answer was lost: it may be paid) or `cancelled`.",
        examples=["running"],
    )
    ended: bool = Field(description="Whether nothing changes any more.")
    prompt: str = Field(examples=["an orange cat on a red sofa"])
    model: str | None = None
    aspect_ratio: str | None = None
    quantity: int = 1
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    position: int | None = Field(None, description="Jobs ahead of it in the queue.")
    expected_wait: float | None = Field(None, description="Seconds until it is expected to begin.")
    progress: float = Field(0, ge=0, le=100, description="Percent; estimated, unless the router streams.")
    generation_id: str | None = Field(None, description="Its name at the image service, once it has one.")
    credits_used: int | None = None
    expires_at: datetime | None = Field(None, description="When the image service forgets the images.")
    images: list[str] = Field(default_factory=list, description="Links to the images on this server.")
    error: Problem | None = None
    links: Links


class JobList(BaseModel):
    """A caller's newest jobs, the newest first."""

    jobs: list[JobView]


class Health(BaseModel):
    """The server answers."""

    status: str = "ok"


class Statistics(BaseModel):
    """This worker's queue and slots at this moment, and what it has done so far."""

    queued: int
    submitting: int
    running: int
    downloading: int
    abandoned: int = Field(description="Nobody waits for these any more, but they still hold a slot.")
    limit: int | None = Field(description="The account's slots; null while they are being found out.")
    refusals: int
    completed: int
    failed: int
    typical_seconds: float = Field(description="What a generation took lately, as a median.")

    @classmethod
    def of(cls, now: ClientStatistics, typical_seconds: float) -> Statistics:
        """From the client's, without the account's money."""
        told = {name: getattr(now, name) for name in cls.model_fields if hasattr(now, name)}
        return cls(**told, typical_seconds=round(typical_seconds, 3))


def view(state: JobState, base: str) -> JobView:
    """A job for its owner; `base` is the path that the router's routes stand on."""
    record = state.record
    here = f"{base}/{record.id}"
    asked = record.request
    return JobView(
        id=record.id,
        status=record.status,
        ended=record.ended,
        prompt=asked.get("prompt", ""),
        model=asked.get("model"),
        aspect_ratio=asked.get("aspect_ratio"),
        quantity=asked.get("quantity", 1),
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        started_at=_moment(record.started_at),
        ended_at=_moment(record.ended_at),
        position=state.position,
        expected_wait=None if state.expected_wait is None else round(state.expected_wait, 1),
        progress=round(state.progress, 1),
        generation_id=record.generation_id,
        credits_used=record.credits_used,
        expires_at=_moment(record.expires_at),
        images=[f"{here}/images/{place}" for place in range(1, record.images + 1)],
        error=Problem(**record.problem) if record.problem else None,
        links=Links(status=here, events=f"{here}/events", receipt=state.receipt and f"{base}/{state.receipt}"),
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
