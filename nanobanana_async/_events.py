"""What a generation stream tells, read event by event. Pure.

The service's heartbeats carry progress 0, so raw progress goes backwards; here it never does. Lines that are not
JSON are heartbeats too. The generation's id may be told, but is not promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from ._answers import Submission
from ._exceptions import GenerationFailedError
from ._lenient import LenientStr
from ._models import DEFAULT_MODEL, GenerateRequest, Generation
from ._sse import ServerSentEvent
from ._wire import check_submission, failure_of, read_json


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One step of a streamed generation. `progress` is 0 to 100 and never falls; the last event is "complete"."""

    type: Literal["status", "complete"]
    message: str
    progress: float
    generation: Generation | None = None


def _percent(value: Any) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(min(value, 100)) if usable else 0.0


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", defer_build=True)

    type: LenientStr = None
    message: LenientStr = None
    progress: Annotated[float, BeforeValidator(_percent)] = 0.0


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
            fields = read_json(raw.data)
            payload = _Payload.model_validate(fields)
            said = {**fields, "message": None, "id": None}  # the event's own, while `data` has the generation's
            told = Submission.model_validate({"success": payload.type != "error", **said})
        except ValueError:  # pydantic's errors are ValueErrors as well
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
        self.generation_id = told.generation_id or self.generation_id
        self.credits_used = told.credits_used if told.credits_used is not None else self.credits_used
        self.progress = max(self.progress, payload.progress)

    def _complete(self, payload: _Payload, told: Submission) -> StreamEvent:
        """The end; one that tells no images is none yet, they can be looked up."""
        check_submission(told.model_copy(update={"message": told.message or payload.message}))
        if not told.image_urls:
            return StreamEvent("status", payload.message or "", self.progress)
        self.progress = 100.0
        return StreamEvent("complete", payload.message or "", 100.0, self._generation(told))

    def _generation(self, told: Submission, **known: Any) -> Generation:
        facts = {"id": self.generation_id or "", "credits_used": self.credits_used, **known}
        return submitted_generation(told, self._request, **facts)

    def _failure(self, payload: _Payload, told: Submission) -> Exception:
        reason = told.message or payload.message or "no reason given"
        if told.warning:
            reason = f"content safety: {reason}"
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
