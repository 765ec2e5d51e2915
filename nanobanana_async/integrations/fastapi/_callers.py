"""Who asks: the caller's id, as the application's own sign-in tells it.

All of it is `async def`, because FastAPI sends plain functions to threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from fastapi import Depends, Request

MAX_OWNER = 1000  # characters
_OWNER = "nanobanana_owner"


def identify(auth: Callable[..., Any] | None) -> Callable[..., Any]:
    """The dependency that every route but `health` has: it writes down whose request this is."""

    async def everybody(request: Request) -> None:
        setattr(request.state, _OWNER, "")

    identity = Depends(auth)

    async def caller(request: Request, who: Any = identity) -> None:
        setattr(request.state, _OWNER, owner_id(who))

    return everybody if auth is None else caller


def owner_id(who: Any) -> str:
    """Raises: RuntimeError for what names nobody, so that no two callers share their jobs by mistake."""
    owner = str(who) if isinstance(who, str | int | UUID) and not isinstance(who, bool) else ""
    if not owner or len(owner) > MAX_OWNER:
        raise RuntimeError(f"auth= has to return the caller's id, a string, number or UUID, not {type(who).__name__}")
    return owner


async def _owner(request: Request) -> str:
    owner: str = getattr(request.state, _OWNER)
    return owner


OwnerDep: TypeAlias = Annotated[str, Depends(_owner)]
