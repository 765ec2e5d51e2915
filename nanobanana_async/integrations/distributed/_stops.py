"""Why a batch stopped, as a text in the book: what ended it at one worker is told by the coordinator."""

from __future__ import annotations

import json

from ..._exceptions import BatchError, BudgetExceededError, InsufficientCreditsError, NanoBananaError

# What concerns the batch wherever it is worked on; a wrong key or a full disk concerns one worker.
FOR_ALL = (BudgetExceededError, InsufficientCreditsError)


def stop_reason(error: NanoBananaError) -> str:
    """An error as a text."""
    return json.dumps({"kind": type(error).__name__, "message": str(error)})


def stopped_by(reason: str) -> NanoBananaError:
    """The error that a text stands for, of a kind that leads to the same exit code."""
    told = json.loads(reason)
    if told["kind"] == InsufficientCreditsError.__name__:
        return InsufficientCreditsError(told["message"], status_code=402)
    kind = BudgetExceededError if told["kind"] == BudgetExceededError.__name__ else BatchError
    return kind(told["message"])
