"""Builds request bodies and reads answers: any status, headers and body become a value or a typed error. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from ._answers import GenerationEnvelope, GenerationRecord, Submission
from ._exceptions import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BlockedError,
    ContentRejectedError,
    GenerationError,
    GenerationFailedError,
    InsufficientCreditsError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ResponseDecodingError,
    ServerBusyError,
    ServerError,
)
from ._models import GenerateRequest, Generation, GenerationStatus, Mode
from ._retry import parse_retry_after

M = TypeVar("M", bound=BaseModel)

_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps makes one each time
MAX_MESSAGE = 500  # characters of a server's message that an error repeats


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read whole. `headers` look up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What an answer tells of the account's slots; None where it doesn't."""

    limit: int | None = None
    active: int | None = None
    retry_after: float | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> RateLimit:
        """Read X-RateLimit-Limit, X-RateLimit-Active and Retry-After; nonsense counts as absent."""
        slots = _slots(headers.get("X-RateLimit-Limit"), headers.get("X-RateLimit-Active"))
        retry_after = headers.get("Retry-After")
        return slots if retry_after is None else replace(slots, retry_after=parse_retry_after(retry_after))


@lru_cache(256)  # every answer says one of a few things
def _slots(limit: str | None, active: str | None) -> RateLimit:
    return RateLimit(_count(limit, least=1), _count(active))


def _count(value: Any, *, least: int = 0) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):  # the last for JSON's 1e999
        return None
    return number if number >= least else None


# ---- requests -----------------------------------------------------------------------------------------------


def generate_body(request: GenerateRequest, references: Sequence[str], mode: Mode) -> bytes:
    """The JSON of POST /generate. Fields left at the service's defaults are not sent."""
    body: dict[str, Any] = {"prompt": request.prompt, "mode": mode}
    if request.model is not None:
        body["selectedModel"] = request.model
    if request.aspect_ratio is not None:
        body["aspectRatio"] = request.aspect_ratio
    if request.quantity != 1:
        body["quantity"] = request.quantity
    if references:
        body["referenceImageUrls"] = list(references)
    return _encode(body).encode()


# ---- answers ------------------------------------------------------------------------------------------------


def read_model(response: Response, model: type[M], *, what: str) -> M:
    """The body as `model`.

    Raises: APIStatusError for any status but 2xx, ResponseDecodingError for a body that can't be read.
    """
    if not 200 <= response.status < 300:
        raise error_from_response(response, what=what)
    if _is_html(response):
        raise ResponseDecodingError(f"{what} answered an HTML page instead of JSON; check the base URL")
    try:
        return model.model_validate(read_json(response.body))
    except (ValidationError, ValueError) as error:
        raise ResponseDecodingError(f"{what} answered something unreadable: {_snippet(response.body)}") from error


def read_ended(response: Response, *, what: str) -> GenerationRecord | None:
    """The record of a generation that has ended; None while it is processing, which needs no model to be told.

    Raises: as `read_model`.
    """
    if response.status == 200 and _tells_processing(response.body):
        return None
    record = read_model(response, GenerationEnvelope, what=what).data
    return None if record.status is GenerationStatus.PROCESSING else record


# As JavaScript writes it, and as Python does. Inside a JSON string the quotes would be escaped.
_PROCESSING, _PROCESSING_SPACED = b'"processingStatus":"processing"', b'"processingStatus": "processing"'
_DATA = (b'"data":', b'"data": ')


def _tells_processing(body: bytes) -> bool:
    """Whether a record surely says that its generation runs. To parse it takes seven times as long, and it is usual.

    Surely: it is a field of `data` itself, in which no other object begins. Any other answer has to be parsed.
    """
    told = body.find(_PROCESSING)
    if told < 0:
        told = body.find(_PROCESSING_SPACED)
    begins = body.rfind(b"{", 1)
    return 0 < begins < told < body.find(b"}") and body.endswith(_DATA, 0, begins) and body.find(b"{", 1) == begins


def read_json(text: bytes | str) -> Any:
    """JSON, read so that one bad byte or half a surrogate pair in a message does not cost the id beside it.

    Raises: ValueError.
    """
    try:
        return from_json(text)  # four times as fast, and strict
    except ValueError:
        pass
    try:
        value = json.loads(text.decode("utf-8-sig", "replace") if isinstance(text, bytes) else text)
        # Half of a surrogate pair, as a server leaves it that cuts a prompt short, can't be printed or stored.
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_submission(response: Response, *, what: str = "POST /generate") -> Submission:
    """The 200 of a submission; one that tells neither an id nor images nor a refusal is unreadable."""
    submission = read_model(response, Submission, what=what)
    if submission.generation_id or submission.image_urls or submission.rejected:
        return submission
    raise ResponseDecodingError(f"{what} answered without a generation id: {_snippet(response.body)}")


def check_submission(submission: Submission) -> None:
    """Raise what a submission tells of its own end: rejected, or failed at once."""
    facts: dict[str, Any] = {
        "generation_id": submission.generation_id,
        "credits_used": submission.credits_used,
    }
    message = submission.message or "no reason given"
    if submission.rejected:
        raise ContentRejectedError(f"the service rejected the content: {message}", **facts)
    if not submission.success and not submission.image_urls and not submission.answered_async:
        raise GenerationFailedError(f"{_name(submission.generation_id)} failed: {message}", **facts)


def raise_for_failure(generation: Generation) -> None:
    """Raise the error of a generation that ended without images."""
    error = failure_of(generation)
    if error is not None:
        raise error


def failure_of(generation: Generation) -> GenerationError | None:
    """The error of a failed generation, or of a completed one without images."""
    facts: dict[str, Any] = {"generation_id": generation.id, "credits_used": generation.credits_used}
    if generation.status == "completed" and not generation.image_urls:
        message = f"{_name(generation.id)} completed without any image; look again with client.get()"
        return GenerationFailedError(message, **facts)
    if generation.status != "failed":
        return None
    reason = generation.error_message or "no reason given"
    if _tells_of_rejection(reason):
        return ContentRejectedError(f"the service rejected the content of {_name(generation.id)}: {reason}", **facts)
    return GenerationFailedError(f"{_name(generation.id)} failed: {reason}", **facts)


def _tells_of_rejection(reason: str) -> bool:
    """A failed record has no flag for the safety check, only its text."""
    lowered = reason.lower()
    return any(sign in lowered for sign in ("safety", "content policy", "moderation", "prohibited"))


def _name(generation_id: str | None) -> str:
    return f"generation {generation_id}" if generation_id else "the generation"


# ---- errors -------------------------------------------------------------------------------------------------

_BY_STATUS: dict[int, tuple[type[APIStatusError], str]] = {
    400: (BadRequestError, "check the parameters"),
    401: (AuthenticationError, "check the API key (NANO_BANANA_API_KEY)"),
    402: (InsufficientCreditsError, "top up the account, then run again"),
    403: (PermissionDeniedError, "enable API access for this account"),
    404: (NotFoundError, "check the id and the base URL"),
    413: (PayloadTooLargeError, "send fewer or smaller reference images, or https URLs"),
}


_TITLE = re.compile(rb"<title[^<>]{0,100}>([^<]*)<", re.IGNORECASE).search
_WALL_SIGNS = (b"attention required", b"cf-error", b"cloudflare", b"just a moment")


def error_from_response(response: Response, *, what: str) -> APIStatusError:
    """The typed error of an answer that is no 2xx. `what` names the request, as in "POST /generate"."""
    status = response.status
    if _is_wall(response):
        return _blocked(response, what)
    detail = _ErrorDetail.read(response)
    message = f"{what} answered {status}: {detail.message}"
    rate_limit = RateLimit.from_headers(response.headers)
    retry_after = rate_limit.retry_after
    if status == 429:
        return RateLimitError(
            message,
            error_type=detail.type,
            retry_after=retry_after,
            limit=rate_limit.limit or _count(detail.fields.get("limit"), least=1),
            active=_first(rate_limit.active, _count(detail.fields.get("active"))),
        )
    if status == 503 and detail.tells_busy():
        return ServerBusyError(
            message,
            error_type=detail.type,
            retry_after=retry_after,
            active_tasks=_count(detail.fields.get("activeTasks")),
        )
    if 300 <= status < 400:
        place = _clip(response.headers.get("Location", "another address").split("?", 1)[0])
        return APIStatusError(f"{what} was redirected to {place}; set base_url to the final one", status_code=status)
    cls, hint = _BY_STATUS.get(status, (ServerError if status >= 500 or status == 408 else APIStatusError, ""))
    return cls(
        f"{message}; {hint}" if hint else message,
        status_code=status,
        error_type=detail.type,
        retry_after=retry_after,
        generation_id=_string(detail.fields.get("generationId")),  # told, a generation that was paid can be picked up
        credits_used=_count(detail.fields.get("creditsUsed")),
    )


def _blocked(response: Response, what: str) -> BlockedError:
    return BlockedError(
        f"{what} met an HTML page ({response.status}) instead of the API: a firewall turned the request away; "
        "try another user_agent or network address",
        status_code=response.status,
        retry_after=parse_retry_after(response.headers.get("Retry-After")),
    )


@dataclass(frozen=True, slots=True)
class _ErrorDetail:
    """An error body's message, wherever the server put it."""

    message: str
    type: str | None
    fields: Mapping[str, Any]

    @classmethod
    def read(cls, response: Response) -> _ErrorDetail:
        try:
            fields = read_json(response.body)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            return cls(_title(response.body) or _snippet(response.body), None, {})
        inner = fields.get("error")
        if isinstance(inner, dict):
            fields = {**fields, **inner}
        texts = [text for name in ("error", "message", "msg") if (text := _string(fields.get(name)))]
        message = _clip(": ".join(dict.fromkeys(texts))) or _snippet(response.body)
        return cls(message, _string(fields.get("type")), fields)

    def tells_busy(self) -> bool:
        """The one 503 that is refunded. Any other may come from something that lost the API's answer."""
        told = f"{self.type or ''} {self.message}".lower()
        return bool(self.fields) and ("activeTasks" in self.fields or "busy" in told or "too many" in told)


def _is_wall(response: Response) -> bool:
    """A firewall's page: it stands before the API, so the request never got there.

    A 503 page needs the firewall's own words, because a proxy that lost the API's answer shows a page as well.
    """
    if response.status not in (403, 503) or not _is_html(response):
        return False
    page = response.body.lower()
    return response.status == 403 or any(sign in page for sign in _WALL_SIGNS)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _is_html(response: Response) -> bool:
    """The body decides: a paid answer must not be lost because JSON came as text/html."""
    start = response.body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    says_html = "html" in response.headers.get("Content-Type", "").lower()
    return start.startswith(b"<") or (says_html and not start.startswith((b"{", b"[")))


def _title(page: bytes) -> str | None:
    """What an HTML page calls itself: nobody wants to read its tags."""
    from html import unescape  # half a thousandth of a second, for errors alone

    title = _TITLE(page)
    return f"an HTML page, {_clip(unescape(title[1].decode('utf-8', 'replace')))!r}" if title else None


def _snippet(body: bytes) -> str:
    return _clip(body[: MAX_MESSAGE * 4].decode("utf-8", "replace")) or "an empty body"


def _clip(text: str) -> str:
    """One line of bounded length, without anything that a terminal would obey."""
    shown = "".join(char if char.isprintable() else " " for char in text[: MAX_MESSAGE * 4])
    line = " ".join(shown.split())
    return line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]}…"
