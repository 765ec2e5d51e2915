"""Bodies of good answers, as the API documents them: pure."""

from __future__ import annotations

from typing import Any

from ._clock import isoformat
from ._ledger import Entry

ASYNC_MESSAGE = "Generation started. Poll GET /api/v1/generate?id=<generationId> for the result."

_STATUS = {"processing": "processing", "completed": "completed", "failed": "failed", "rejected": "failed"}


def started(entry: Entry, remaining: int) -> dict[str, Any]:
    """An async submission's answer."""
    return {
        "success": True,
        "async": True,
        "generationId": entry.generation_id,
        "message": ASYNC_MESSAGE,
        **_credits(entry, remaining),
    }


def outcome(entry: Entry, urls: list[str], remaining: int) -> dict[str, Any]:
    """How a finished generation is told by a sync call and by the stream's last event."""
    told: dict[str, Any] = {"success": entry.state == "completed", "generationId": entry.generation_id}
    if entry.state == "completed":
        told["imageUrls"] = urls
    elif entry.state == "rejected":
        told |= {"warning": True, "message": entry.error}
    else:
        told["error"] = entry.error
    return told | _credits(entry, remaining)


def record(entry: Entry, urls: list[str], *, single_url: bool) -> dict[str, Any]:
    """What a poll tells."""
    data: dict[str, Any] = {
        "id": entry.generation_id,
        "prompt": entry.prompt,
        **_outputs(urls, single_url),
        "modelUsed": entry.model,
        "processingStatus": _STATUS[entry.state],
        "creditsUsed": entry.credits,
        "createdAt": isoformat(entry.created_at),
    }
    if entry.error is not None:
        data["errorMessage"] = entry.error
    return {"data": data}


def _outputs(urls: list[str], single_url: bool) -> dict[str, Any]:
    if single_url:
        return {"outputImageUrl": urls[0] if urls else None}
    return {"outputImageUrls": urls or None}


def _credits(entry: Entry, remaining: int) -> dict[str, int]:
    return {"creditsUsed": entry.credits, "remainingCredits": remaining}
