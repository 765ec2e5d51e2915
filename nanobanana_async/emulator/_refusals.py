"""Every way to say no: status and body as the API documents them."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """Raised anywhere below a handler; the handler's border turns it into the response."""

    def __init__(self, status: int, error: str, **details: Any) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, **details}


def bad_request(error: str) -> RefusedError:
    """400: the parameters."""
    return RefusedError(400, error)


def bad_key() -> RefusedError:
    """401: no key, or an unknown one."""
    return RefusedError(401, "Invalid or missing API key")


def no_credits() -> RefusedError:
    """402: the balance does not cover the cost."""
    return RefusedError(402, "Insufficient credits")


def no_access() -> RefusedError:
    """403: the account has no API access."""
    return RefusedError(403, "API access is not enabled for this account")


def not_found(what: str = "Generation") -> RefusedError:
    """404: no such thing."""
    return RefusedError(404, f"{what} not found")


def too_large() -> RefusedError:
    """413: the body is over the limit."""
    return RefusedError(413, "Request body too large")


def too_many(limit: int | None, active: int) -> RefusedError:
    """429: every slot of the account is held. Costs nothing."""
    error = "Too many concurrent API requests for this account"
    return RefusedError(429, error, type="concurrency_limit", limit=limit, active=active)


def server_error() -> RefusedError:
    """500."""
    return RefusedError(500, "Internal server error")


def server_busy(active_tasks: int) -> RefusedError:
    """503: too much runs on the whole server. Refunded."""
    error = "Server is busy, too many concurrent tasks. Please retry later."
    return RefusedError(503, error, type="server_busy", activeTasks=active_tasks)


def gone() -> RefusedError:
    """410: the image's fifteen days are over."""
    return RefusedError(410, "This image has expired")
