"""What a caller over HTTP learns of an error: one table for the whole tree, told as problem details (RFC 9457).

The caller's own mistakes and their own generation are told in full. What concerns the account, its key, the network
or this server's disk is told in words of our own: the caller is not at fault and learns nothing of it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ... import _exceptions as errors

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGGER = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
DEFAULT_RETRY = 5.0  # seconds, where a refusal that passes tells no time of its own
_UNAVAILABLE = "Images can't be made at the moment. It is nothing that you sent; the operator has been told."
_UNREACHABLE = "The image service can't be reached at the moment."
_ANSWER_LOST = "The image service's answer was lost or can't be read."
_MAYBE_PAID = "The answer to this submission was lost: it may be running and paid. It is not sent again by itself."
_NO_IMAGE = "The image can't be fetched at the moment. The generation is paid, not lost: ask again."
_BATCH = "The batch can't go on."


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `detail` None tells the error's own message; `paid` is what became of the money."""

    status: int
    slug: str
    title: str
    detail: str | None
    paid: str | None = None


# Sorted as the tree at the top of `_exceptions.py`; a test compares the two.
TABLE: Mapping[type[errors.NanoBananaError], Row] = {
    errors.NanoBananaError: Row(500, "error", "Something went wrong", _UNAVAILABLE),
    errors.ConfigurationError: Row(503, "unavailable", "Not available", _UNAVAILABLE, "no"),
    errors.InvalidRequestError: Row(422, "invalid-request", "This request can't be sent", None, "no"),
    errors.QueueFullError: Row(429, "queue-full", "Too many jobs wait already", None, "no"),
    errors.TransportError: Row(502, "no-answer", "No usable answer", _ANSWER_LOST),
    errors.ConnectError: Row(503, "unreachable", "Image service unreachable", _UNREACHABLE, "no"),
    errors.RequestTimeoutError: Row(504, "no-answer-in-time", "No answer in time", _ANSWER_LOST),
    errors.ResponseDecodingError: Row(502, "unreadable-answer", "Unreadable answer", _ANSWER_LOST),
    errors.StreamInterruptedError: Row(502, "uncertain", "It may be paid and running", _MAYBE_PAID, "maybe"),
    errors.APIStatusError: Row(502, "refused", "The image service refused", "The image service refused.", "no"),
    errors.BadRequestError: Row(400, "bad-request", "Not accepted", None, "no"),
    errors.AuthenticationError: Row(503, "unavailable", "Not available", _UNAVAILABLE, "no"),
    errors.InsufficientCreditsError: Row(402, "no-credits", "Too few credits", "Too few credits are left.", "no"),
    errors.PermissionDeniedError: Row(503, "unavailable", "Not available", _UNAVAILABLE, "no"),
    errors.NotFoundError: Row(404, "not-found", "No such generation", "The image service knows no such generation."),
    errors.PayloadTooLargeError: Row(413, "too-large", "Too large", "Send fewer or smaller reference images.", "no"),
    errors.RateLimitError: Row(429, "rate-limit", "Too many at once", "Every slot is taken. Try again later.", "no"),
    errors.ServerBusyError: Row(503, "busy", "The image service is busy", "It has no room. Try again later.", "no"),
    errors.ServerError: Row(502, "service-error", "The image service failed", "It answered with an error of its own."),
    errors.BlockedError: Row(503, "unavailable", "Not available", _UNAVAILABLE, "no"),
    errors.GenerationError: Row(502, "generation-error", "No images", "The generation did not end in images."),
    errors.GenerationFailedError: Row(502, "generation-failed", "The generation failed", None, "yes"),
    errors.ContentRejectedError: Row(422, "content-rejected", "Refused by the safety check", None, "yes"),
    errors.GenerationTimeoutError: Row(
        504, "generation-timeout", "Still running", "It runs on and is paid: ask for it again by its id.", "yes"
    ),
    errors.JobCancelledError: Row(409, "cancelled", "Cancelled", "The job was cancelled before it ended."),
    errors.SubmissionUncertainError: Row(502, "uncertain", "It may be paid and running", _MAYBE_PAID, "maybe"),
    errors.DownloadError: Row(502, "no-image", "No image", _NO_IMAGE, "yes"),
    errors.DownloadExpiredError: Row(410, "expired", "Expired", "The image's link has ended: it is gone.", "yes"),
    errors.DownloadIncompleteError: Row(502, "no-image", "No image", _NO_IMAGE, "yes"),
    errors.NotAnImageError: Row(502, "no-image", "No image", _NO_IMAGE, "yes"),
    errors.BatchError: Row(500, "batch", "Batch error", _BATCH),
    errors.JournalError: Row(500, "batch", "Batch error", _BATCH),
    errors.BudgetExceededError: Row(402, "budget", "Budget exceeded", "It would cost more than may be spent.", "no"),
    errors.InputError: Row(422, "invalid-input", "This input can't be used", _BATCH, "no"),
}


class Problem(BaseModel):
    """An error as problem details (RFC 9457)."""

    type: str = Field(examples=["urn:nanobanana:queue-full"], description="Which kind of problem: fixed per kind.")
    title: str = Field(examples=["Too many jobs wait already"])
    status: int = Field(examples=[429])
    detail: str = Field(examples=["Try again later."])
    generation_id: str | None = Field(None, description="The generation at the image service, once it has one.")
    credits_used: int | None = Field(None, description="What it took, where that is known.")
    paid: str | None = Field(None, description="Whether credits were taken: `yes`, `no`, or `maybe`.")
    retry_after: int | None = Field(None, description="Seconds after which to try again; also in `Retry-After`.")


class ProblemError(HTTPException):
    """A problem that this integration itself found; its routes answer with it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail)
        self.problem = problem


def problem(status: int, slug: str, title: str, detail: str, **more: Any) -> ProblemError:
    """A problem to raise."""
    return ProblemError(Problem(type=f"urn:nanobanana:{slug}", title=title, status=status, detail=detail, **more))


def problem_of(error: errors.NanoBananaError) -> Problem:
    """The table's answer to an error; the nearest class above it speaks for one that is not in the table."""
    row = next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)
    return Problem(
        type=f"urn:nanobanana:{row.slug}",
        title=row.title,
        status=row.status,
        detail=row.detail if row.detail is not None else str(error),
        generation_id=error.generation_id,
        credits_used=error.credits_used,
        paid="yes" if error.credits_used else row.paid,
        retry_after=_retry_after(error, row.status),
    )


def problem_response(told: Problem) -> JSONResponse:
    """A problem as an answer. Nobody may keep it."""
    headers = {"Cache-Control": "no-store"}
    if told.retry_after is not None:
        headers["Retry-After"] = str(told.retry_after)
    return JSONResponse(told.model_dump(exclude_none=True), told.status, headers, media_type=PROBLEM_JSON)


def answer_error(error: errors.NanoBananaError) -> JSONResponse:
    """An error as an answer; what is not the caller's doing is logged for whoever runs the server."""
    told = problem_of(error)
    if told.status >= 500 or told.status == 402:
        _LOGGER.warning("answered %d %s: %s", told.status, told.type, error)
    return problem_response(told)


def add_error_handlers(app: FastAPI) -> None:
    """Let every handler of `app` raise this library's errors: they are answered as problem details."""

    async def handle(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, errors.NanoBananaError)
        return answer_error(error)

    app.add_exception_handler(errors.NanoBananaError, handle)


def _retry_after(error: errors.NanoBananaError, status: int) -> int | None:
    """Whole seconds, at least 1, for refusals that pass."""
    seconds = error.retry_after
    if seconds is None and isinstance(error, errors.QueueFullError):
        seconds = error.expected_wait
    if seconds is None and status in (429, 503) and error.retryable:
        seconds = DEFAULT_RETRY
    return None if seconds is None else max(1, math.ceil(seconds))
