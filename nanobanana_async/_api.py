"""One coroutine per endpoint and mode: sends one request, says what came of it. No waiting, no slots, no retries.

What a submission's failure means for money is decided here: `ConnectError` never left; `RateLimitError`,
`ServerBusyError` and the 4xx were refused and cost nothing; everything else is `SubmissionUncertainError`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ._answers import CreditsEnvelope, GenerationEnvelope, GenerationRecord, Model, ModelsEnvelope, Submission
from ._exceptions import ConnectError, ResponseDecodingError, ServerError, SubmissionUncertainError, TransportError
from ._sse import ServerSentEvent, SSEDecoder
from ._transport import OpenResponse, Transport
from ._wire import RateLimit, read_ended, read_model, read_submission

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """An answer's value, and what its headers tell of the slots."""

    value: T
    rate_limit: RateLimit


class EventSource:
    """An accepted stream. `submission` is set instead when the service answered with plain JSON."""

    def __init__(self, response: OpenResponse, submission: Submission | None) -> None:
        self.rate_limit = RateLimit.from_headers(response.headers)
        self.submission = submission
        self._response = response

    async def events(self) -> AsyncGenerator[ServerSentEvent, None]:
        """Events as they come. Raises: TransportError when the stream breaks or falls silent."""
        decoder = SSEDecoder()
        try:
            while chunk := await self._response.chunk():
                for event in decoder.feed(chunk):
                    yield self._scrubbed(event)
            for event in decoder.close():
                yield self._scrubbed(event)
        except ValueError as error:
            raise ResponseDecodingError(f"the stream can't be read: {error}") from error

    def _scrubbed(self, event: ServerSentEvent) -> ServerSentEvent:
        return replace(event, data=self._response.scrub(event.data.encode()).decode())


class Api:
    """The HTTP API, endpoint by endpoint. Source: the vendor's API page."""

    def __init__(self, transport: Transport, *, tells_balance: bool = True) -> None:
        self._transport = transport
        self._tells_balance = tells_balance
        self._timeouts = transport.timeouts

    async def submit(self, body: bytes, *, blocking: bool = False) -> Reply[Submission]:
        """POST /generate, once; `blocking` (mode sync) waits for the images themselves.

        Raises: ConnectError, SubmissionUncertainError, and APIStatusError for a refusal.
        """
        timeout = self._timeouts.sync_timeout if blocking else self._timeouts.submit_timeout
        with _money_at_stake():
            response = await self._transport.request("POST", "/generate", body=body, timeout=timeout)
            submission = read_submission(response)
        if not self._tells_balance:
            submission = submission.model_copy(update={"remaining_credits": None})
        return Reply(submission, RateLimit.from_headers(response.headers))

    @asynccontextmanager
    async def stream(self, body: bytes) -> AsyncIterator[EventSource]:
        """POST /generate in stream mode, once. Raises on entry as `submit` does."""
        async with AsyncExitStack() as stack:
            with _money_at_stake():
                opened = await self._transport.stream("/generate", body=body, idle_timeout=self._timeouts.idle_timeout)
                response = await stack.enter_async_context(opened)
                source = EventSource(response, await _plain_submission(response))
            yield source

    async def get(self, generation_id: str) -> Reply[GenerationRecord]:
        """GET /generate?id=. Raises: APIStatusError, TransportError."""
        response = await self._transport.request("GET", "/generate", params={"id": generation_id})
        envelope = read_model(response, GenerationEnvelope, what=f"GET /generate?id={generation_id}")
        return Reply(envelope.data, RateLimit.from_headers(response.headers))

    async def look(self, generation_id: str) -> Reply[GenerationRecord | None]:
        """GET /generate?id=, read no further than a watch needs: None while it still runs. Raises: as `get`."""
        response = await self._transport.request("GET", "/generate", params={"id": generation_id})
        record = read_ended(response, what=f"GET /generate?id={generation_id}")
        return Reply(record, RateLimit.from_headers(response.headers))

    async def models(self) -> list[Model]:
        """GET /models, which needs no key. Raises: APIStatusError, TransportError."""
        response = await self._transport.request("GET", "/models", authenticated=False)
        return list(read_model(response, ModelsEnvelope, what="GET /models").data)

    async def credits(self) -> int:
        """GET /credits. Raises: APIStatusError, TransportError."""
        response = await self._transport.request("GET", "/credits")
        return read_model(response, CreditsEnvelope, what="GET /credits").data.credits


async def _plain_submission(response: OpenResponse) -> Submission | None:
    """None for an event stream, by whatever name; a JSON answer as a submission, or raised as the error it tells."""
    content_type = response.headers.get("Content-Type", "").lower()
    if 200 <= response.status < 300 and not any(kind in content_type for kind in ("json", "html")):
        return None
    return read_submission(await response.read())


@contextmanager
def _money_at_stake() -> Iterator[None]:
    """After a POST may have left, no answer that can be read means: it may be paid and running."""
    try:
        yield
    except ConnectError:
        raise
    except (TransportError, ServerError) as error:
        raise SubmissionUncertainError(
            f"the answer to a submission was lost ({error}); it may be paid and running, so it is not sent again: "
            "compare the balance with client.credits() before you do",
            generation_id=error.generation_id,
            credits_used=error.credits_used,
        ) from error
