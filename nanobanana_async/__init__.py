"""Asyncio-native client and job scheduler for the Nano Banana image API.

async with Client() as client:
    generation = await client.generate("an orange cat")
    paths = await client.download(generation, "out")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from ._accounts import Account, AccountStatistics
    from ._admission import AdmissionStatistics
    from ._answers import Model, Submission
    from ._client import Client
    from ._engine import ClientStatistics
    from ._events import StreamEvent
    from ._exceptions import (
        APIStatusError,
        AuthenticationError,
        BadRequestError,
        BatchError,
        BlockedError,
        BudgetExceededError,
        ConfigurationError,
        ConnectError,
        ContentRejectedError,
        DownloadError,
        DownloadExpiredError,
        DownloadIncompleteError,
        GenerationError,
        GenerationFailedError,
        GenerationTimeoutError,
        InputError,
        InsufficientCreditsError,
        InvalidRequestError,
        JobCancelledError,
        JournalError,
        NanoBananaError,
        NotAnImageError,
        NotFoundError,
        PayloadTooLargeError,
        PermissionDeniedError,
        QueueFullError,
        RateLimitError,
        RequestTimeoutError,
        ResponseDecodingError,
        ServerBusyError,
        ServerError,
        StreamInterruptedError,
        SubmissionUncertainError,
        TransportError,
    )
    from ._job import Job, JobStatus, Ledger
    from ._learned import LearnedPlan
    from ._limiter import AccountLimiter, Limiter, Slot
    from ._map import Outcome, Outcomes
    from ._models import GenerateRequest, Generation, GenerationStatus
    from ._polling import PollPlan
    from ._retry import Backoff, RetryPolicy
    from ._stream import EventStream
    from ._timeouts import Timeouts
    from ._wire import RateLimit

__all__ = [
    "APIStatusError",
    "Account",
    "AccountLimiter",
    "AccountStatistics",
    "AdmissionStatistics",
    "AuthenticationError",
    "Backoff",
    "BadRequestError",
    "BatchError",
    "BlockedError",
    "BudgetExceededError",
    "Client",
    "ClientStatistics",
    "ConfigurationError",
    "ConnectError",
    "ContentRejectedError",
    "DownloadError",
    "DownloadExpiredError",
    "DownloadIncompleteError",
    "EventStream",
    "GenerateRequest",
    "Generation",
    "GenerationError",
    "GenerationFailedError",
    "GenerationStatus",
    "GenerationTimeoutError",
    "InputError",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "Job",
    "JobCancelledError",
    "JobStatus",
    "JournalError",
    "LearnedPlan",
    "Ledger",
    "Limiter",
    "Model",
    "NanoBananaError",
    "NotAnImageError",
    "NotFoundError",
    "Outcome",
    "Outcomes",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "PollPlan",
    "QueueFullError",
    "RateLimit",
    "RateLimitError",
    "RequestTimeoutError",
    "ResponseDecodingError",
    "RetryPolicy",
    "ServerBusyError",
    "ServerError",
    "Slot",
    "StreamEvent",
    "StreamInterruptedError",
    "Submission",
    "SubmissionUncertainError",
    "Timeouts",
    "TransportError",
    "__version__",
]

# Loaded when first asked for, so that `nanobanana --help` needs neither aiohttp nor pydantic.
_HOMES = {
    "_accounts": ("Account", "AccountStatistics"),
    "_admission": ("AdmissionStatistics",),
    "_answers": (
        "Model",
        "Submission",
    ),
    "_client": ("Client",),
    "_engine": ("ClientStatistics",),
    "_events": ("StreamEvent",),
    "_exceptions": (
        "APIStatusError",
        "AuthenticationError",
        "BadRequestError",
        "BatchError",
        "BlockedError",
        "BudgetExceededError",
        "ConfigurationError",
        "ConnectError",
        "ContentRejectedError",
        "DownloadError",
        "DownloadExpiredError",
        "DownloadIncompleteError",
        "GenerationError",
        "GenerationFailedError",
        "GenerationTimeoutError",
        "InputError",
        "InsufficientCreditsError",
        "InvalidRequestError",
        "JobCancelledError",
        "JournalError",
        "NanoBananaError",
        "NotAnImageError",
        "NotFoundError",
        "PayloadTooLargeError",
        "PermissionDeniedError",
        "QueueFullError",
        "RateLimitError",
        "RequestTimeoutError",
        "ResponseDecodingError",
        "ServerBusyError",
        "ServerError",
        "StreamInterruptedError",
        "SubmissionUncertainError",
        "TransportError",
    ),
    "_job": (
        "Job",
        "JobStatus",
        "Ledger",
    ),
    "_learned": ("LearnedPlan",),
    "_limiter": (
        "AccountLimiter",
        "Limiter",
        "Slot",
    ),
    "_map": (
        "Outcome",
        "Outcomes",
    ),
    "_models": (
        "GenerateRequest",
        "Generation",
        "GenerationStatus",
    ),
    "_polling": ("PollPlan",),
    "_retry": (
        "Backoff",
        "RetryPolicy",
    ),
    "_stream": ("EventStream",),
    "_timeouts": ("Timeouts",),
    "_wire": ("RateLimit",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
