"""Everything this library raises on purpose, in one tree. Imports nothing of ours.

NanoBananaError
├── ConfigurationError(ValueError)         no key, bad base URL: before any request
├── InvalidRequestError(ValueError)        a request that can't be sent: blank prompt, quantity 0, missing file
├── QueueFullError                         as many jobs wait as the client may hold: .expected_wait
├── TransportError                         no usable answer
│   ├── ConnectError                       never sent: DNS, connect, TLS
│   ├── RequestTimeoutError(TimeoutError)
│   ├── ResponseDecodingError              an answer that can't be read
│   └── StreamInterruptedError             also a SubmissionUncertainError
├── APIStatusError                         the server said no: .status_code .error_type .message
│   ├── BadRequestError                    400
│   ├── AuthenticationError                401
│   ├── InsufficientCreditsError           402
│   ├── PermissionDeniedError              403
│   ├── NotFoundError                      404
│   ├── PayloadTooLargeError               413
│   ├── RateLimitError                     429: .limit .active
│   ├── ServerBusyError                    503, credits refunded: .active_tasks
│   ├── ServerError                        any other 5xx
│   └── BlockedError                       an HTML wall in front of the API
├── GenerationError                        a generation that did not end in images: .generation_id .credits_used
│   ├── GenerationFailedError
│   ├── ContentRejectedError               the safety check said no (charged)
│   ├── GenerationTimeoutError(TimeoutError)
│   ├── JobCancelledError                  cancelled, or the client was closed
│   └── SubmissionUncertainError           may be paid and running; never sent again by itself
├── DownloadError                          .url .path
│   ├── DownloadExpiredError
│   ├── DownloadIncompleteError
│   └── NotAnImageError
└── BatchError
    ├── JournalError
    ├── BudgetExceededError
    └── InputError(ValueError)             .source .line .column

Every error carries `retryable` and `retry_after` (seconds), which is all that a retry decision needs, and
`generation_id` and `credits_used` where they are known. All of them pickle. Misuse, such as a call on a closed
client, is a plain RuntimeError.
"""

from __future__ import annotations

from typing import Any


def _rebuild(cls: type[NanoBananaError], args: tuple[Any, ...], state: dict[str, Any]) -> NanoBananaError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class NanoBananaError(Exception):
    """Root of every error this library raises on purpose."""

    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        generation_id: str | None = None,
        credits_used: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.generation_id = generation_id
        self.credits_used = credits_used

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class ConfigurationError(NanoBananaError, ValueError):
    """The client can't be set up: no key, an unusable base URL. Nothing was sent."""


class InvalidRequestError(NanoBananaError, ValueError):
    """The request can't be sent as it is. Nothing was sent, nothing was charged."""


class QueueFullError(NanoBananaError):
    """As many jobs are waiting as the client may hold. Nothing was queued, sent or charged.

    `expected_wait` is how many seconds a job that had found room would have waited for its slot, `retry_after` how many
    until there is room again. Both are None while it is not known how long generations take.
    """

    retryable = True

    def __init__(self, message: str, *, expected_wait: float | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.expected_wait = expected_wait


class TransportError(NanoBananaError):
    """No usable answer came back."""

    retryable = True


class ConnectError(TransportError):
    """The request never left: name resolution, connect or TLS failed. Safe to send again."""


class RequestTimeoutError(TransportError, TimeoutError):
    """The answer did not come in time."""


class ResponseDecodingError(TransportError):
    """An answer came, but it can't be read."""


class APIStatusError(NanoBananaError):
    """The API answered with an error status."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error_type: str | None = None,
        retry_after: float | None = None,
        generation_id: str | None = None,
        credits_used: int | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after, generation_id=generation_id, credits_used=credits_used)
        self.message = message
        self.status_code = status_code
        self.error_type = error_type


class BadRequestError(APIStatusError):
    """400: the API does not accept the parameters."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or revoked."""


class InsufficientCreditsError(APIStatusError):
    """402: the account has too few credits for this request."""


class PermissionDeniedError(APIStatusError):
    """403: API access is not enabled for this account."""


class NotFoundError(APIStatusError):
    """404: the API knows no such thing."""


class PayloadTooLargeError(APIStatusError):
    """413: the request is too large, usually because of its reference images."""


class RateLimitError(APIStatusError):
    """429: too many concurrent requests on this account. Nothing was charged."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 429,
        error_type: str | None = None,
        retry_after: float | None = None,
        limit: int | None = None,
        active: int | None = None,
    ) -> None:
        super().__init__(message, status_code=status_code, error_type=error_type, retry_after=retry_after)
        self.limit = limit
        self.active = active

    @property
    def tells_of_slots(self) -> bool:
        """Whether it is about what runs at once, as a 429 is that says nothing else; not about too many calls."""
        return self.error_type is None or "concurren" in self.error_type.lower()


class ServerBusyError(APIStatusError):
    """503 `server_busy`: the service has no room right now. Credits were refunded."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 503,
        error_type: str | None = None,
        retry_after: float | None = None,
        active_tasks: int | None = None,
    ) -> None:
        super().__init__(message, status_code=status_code, error_type=error_type, retry_after=retry_after)
        self.active_tasks = active_tasks


class ServerError(APIStatusError):
    """Any other 5xx, and 408: whether the request took effect is not known."""

    retryable = True


class BlockedError(APIStatusError):
    """An HTML page stood in front of the API: usually a firewall that dislikes the User-Agent or the address.

    `passing`: submissions before it were let in, so it may dislike this one only, or for a while.
    """

    retryable = True
    passing = False


class GenerationError(NanoBananaError):
    """A generation did not end in images."""


class GenerationFailedError(GenerationError):
    """The service reports the generation as failed. Failed generations are not refunded."""


class ContentRejectedError(GenerationError):
    """The service's safety check refused the content. The generation was charged."""


class GenerationTimeoutError(GenerationError, TimeoutError):
    """The generation was still running when patience ended. It runs on; pick it up by its id."""


class JobCancelledError(GenerationError):
    """The job was cancelled, or its client was closed, before it ended."""


class SubmissionUncertainError(GenerationError):
    """The answer to a submission was lost: it may be paid and running. It is never sent again by itself."""


class StreamInterruptedError(TransportError, SubmissionUncertainError):
    """A stream broke before its generation's id was told: a paid generation may be running."""

    retryable = False


class DownloadError(NanoBananaError):
    """An image could not be brought to disk."""

    def __init__(
        self,
        message: str,
        *,
        url: str | None = None,
        path: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        generation_id: str | None = None,
        credits_used: int | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after, generation_id=generation_id, credits_used=credits_used)
        self.url = url
        self.path = path
        self.retryable = retryable


class DownloadExpiredError(DownloadError):
    """The link's 15 days are over."""


class DownloadIncompleteError(DownloadError):
    """The body ended before the image did."""


class NotAnImageError(DownloadError):
    """Something else than a PNG, JPEG or WebP came back."""


class BatchError(NanoBananaError):
    """A batch can't go on."""


class JournalError(BatchError):
    """The batch's journal can't be read or written."""


class BudgetExceededError(BatchError):
    """The batch would cost more credits than it may spend."""


class InputError(BatchError, ValueError):
    """A line of a batch's input can't be used. Nothing was spent on it."""

    def __init__(
        self, message: str, *, source: str | None = None, line: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.source = source
        self.line = line
        self.column = column
