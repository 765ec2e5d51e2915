"""Whom a refused submission concerns besides its own job. Pure.

A job that would surely meet the same is not worth a POST. Any other is sent and hears its own answer, for a refusal
is free: one user's dear job must not fail everybody's cheap ones. Prices are not known here, so requests are compared
within one model only.
"""

from __future__ import annotations

from ._exceptions import (
    AuthenticationError,
    BlockedError,
    InsufficientCreditsError,
    NanoBananaError,
    PermissionDeniedError,
)
from ._models import DEFAULT_MODEL, GenerateRequest

_OF_THE_ACCOUNT = (AuthenticationError, PermissionDeniedError, InsufficientCreditsError)


def concerns_others(error: NanoBananaError) -> bool:
    """Whether it may concern any request but its own."""
    return isinstance(error, _OF_THE_ACCOUNT) or (isinstance(error, BlockedError) and not error.passing)


def concerns(error: NanoBananaError, refused: GenerateRequest, waiting: GenerateRequest) -> bool:
    """Whether `waiting` would surely meet the error that `refused` met.

    401, and a firewall that lets nobody in: any request. 403: those of its model, which may be for other accounts only.
    402: those of its model that cost at least as much.
    """
    if isinstance(error, AuthenticationError) or (isinstance(error, BlockedError) and not error.passing):
        return True
    if isinstance(error, PermissionDeniedError):
        return _model(refused) == _model(waiting)
    if isinstance(error, InsufficientCreditsError):
        return _model(refused) == _model(waiting) and _as_dear(waiting, refused)
    return False


def _model(request: GenerateRequest) -> str:
    return request.model or DEFAULT_MODEL


def _as_dear(request: GenerateRequest, other: GenerateRequest) -> bool:
    """Whether it costs at least as much, whatever the model costs and whatever maximum the service cuts quantities to.

    The price is quantity x (the model's + 1 for each reference image after the first).
    """
    return request.quantity >= other.quantity and _additional(request) >= _additional(other)


def _additional(request: GenerateRequest) -> int:
    return max(0, len(request.reference_images) - 1)
