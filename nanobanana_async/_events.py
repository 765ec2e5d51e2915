"""What a generation stream tells, read event by event. Pure.

The service's heartbeats carry progress 0, so raw progress goes backwards; here it never does. Lines that are not
JSON are heartbeats too. The generation's id may be told, but is not promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ._exceptions import GenerationFailedError
from ._models import DEFAULT_MODEL, GenerateRequest, Generation, LenientStr, Submission
from ._sse import ServerSentEvent
from ._wire import check_submission, failure_of


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One step of a streamed generation. `progress` is 0 to 100 and never falls; the last event is "complete"."""

    type: Literal["status", "complete"]
    message: str
    progress: float
    generation: Generation | None = None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _object(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: str = ""
    message: LenientStr = None
    progress: Annotated[float, BeforeValidator(_number)] = 0
    generation_id: LenientStr = Field(default=None, validation_alias="generationId")
    data: Annotated[dict[str, Any], BeforeValidator(_object)] = {}


class StreamReader:
    """Feed it a stream's events; it keeps the progress, the id and the credits, and knows the end."""

    def __init__(self, request: GenerateRequest) -> None:
        self._request = request
        self.progress = 0.0
        self.generation_id: str | None = None
        self.credits_used: int | None = None

    def read(self, raw: ServerSentEvent) -> StreamEvent | None:
        """What the event tells, or None: nothing for us.

        Raises: ContentRejectedError, GenerationFailedError when it tells of such an end.
        """
        try:
            payload = _Payload.model_validate_json(raw.data)
            told = Submission.model_validate({"success": payload.type != "error", **payload.data})
        except ValidationError:
            return None
        self._note(payload, told)
        if payload.type == "status":
            return StreamEvent("status", payload.message or "", self.progress)
        if payload.type == "complete":
            return self._complete(payload, told)
        if payload.type == "error":
            raise self._failure(payload, told)
        return None

    def _note(self, payload: _Payload, told: Submission) -> None:
        self.generation_id = told.generation_id or payload.generation_id or self.generation_id
        self.credits_used = told.credits_used if told.credits_used is not None else self.credits_used
        self.progress = max(self.progress, min(100.0, payload.progress))

    def _complete(self, payload: _Payload, told: Submission) -> StreamEvent:
        check_submission(told.model_copy(update={"message": told.message or payload.message}))
        self.progress = 100.0
        return StreamEvent("complete", payload.message or "", 100.0, self._generation(told))

    def _generation(self, told: Submission, **known: Any) -> Generation:
        facts = {"id": self.generation_id or "", "credits_used": self.credits_used, **known}
        return submitted_generation(told, self._request, **facts)

    def _failure(self, payload: _Payload, told: Submission) -> Exception:
        reason = told.message or payload.message or "no reason given"
        failed = self._generation(told, status="failed", error_message=reason, image_urls=())
        return failure_of(failed) or GenerationFailedError(reason)


def submitted_generation(told: Submission, request: GenerateRequest, **known: Any) -> Generation:
    """The generation that an answer with images tells of; it has just been made, so its links' life begins now."""
    facts = {
        "id": told.generation_id or "",
        "prompt": request.prompt,
        "model": request.model or DEFAULT_MODEL,
        "image_urls": told.image_urls,
        "credits_used": told.credits_used,
        "created_at": datetime.now(UTC),
    }
    return Generation(**{**facts, **known})
