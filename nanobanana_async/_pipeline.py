"""One job from slot to file, top to bottom. The order of the steps is what keeps money safe:

1. the intent is in the ledger before a byte is sent;
2. the POST and the recording of its id are shielded: a client that closes waits for them, bounded by the deadline;
3. the slot goes back when the generation has ended, before any download;
4. whatever ends the job early leaves the slot counted for as long as the generation may still run.

A job that was cancelled by its user is not interrupted here: nobody waits for it, so it is watched to its end, its
slot and its records with it, and only its images are left where they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import TypeVar

import anyio

from ._answers import Submission
from ._api import Api, EventSource, Reply
from ._downloads import Downloads
from ._events import StreamEvent, StreamReader, submitted_generation
from ._exceptions import (
    APIStatusError,
    BlockedError,
    ConnectError,
    ContentRejectedError,
    GenerationFailedError,
    NanoBananaError,
    RateLimitError,
    ServerBusyError,
    StreamInterruptedError,
    SubmissionUncertainError,
    TransportError,
)
from ._job import Job, JobStatus
from ._limiter import Slot
from ._models import DEFAULT_MODEL, Generation
from ._polling import Key, Plan
from ._references import encode_references
from ._retry import RetryPolicy
from ._wall import Wall
from ._watch import Watch
from ._wire import RateLimit, check_submission, generate_body, raise_for_failure

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

PRESUMED_ACCEPTED = 1.0  # seconds: refusals come at once, so a blocking call still open after this was accepted


class Refused(Exception):  # noqa: N818  # no error: the job goes back to the queue
    """The server refused the submission; nothing was charged."""


class Pipeline:
    """Runs one job in one slot. It raises what the job failed with; the slot is given back in every case."""

    def __init__(
        self,
        api: Api,
        watch: Watch,
        downloads: Downloads,
        *,
        plan: Plan,
        retry: RetryPolicy,
        generation_timeout: float,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._api = api
        self._watch = watch
        self._downloads = downloads
        self._retry = retry
        self._generation_timeout = generation_timeout
        self._sleep = sleep
        self._plan = plan
        self._wall = Wall()

    async def run(self, job: Job, slot: Slot) -> None:
        """Take `job` to its end.

        Raises: Refused, or any NanoBananaError that the job ended with.
        """
        generation = await self._generate(job, slot)
        job.leave_slot()
        job.charge(generation.credits_used)
        await job.ledger.finished(job, generation)
        raise_for_failure(generation)
        job.generation = generation
        job.advance(JobStatus.COMPLETED)
        await self._store(job, generation)

    # ---- the slot

    async def _generate(self, job: Job, slot: Slot) -> Generation:
        """The generation, ended; the slot is given back on every way out."""
        try:
            generation = await self._submit_and_wait(job, slot)
        except (GenerationFailedError, ContentRejectedError):
            slot.release()
            raise
        except BaseException:
            if slot.running:
                slot.forsake(self._plan.likely_length(_key(job)))
            else:
                slot.release()
            raise
        slot.release()
        return generation

    async def _submit_and_wait(self, job: Job, slot: Slot) -> Generation:
        references = await encode_references(job.request.reference_images)
        body = generate_body(job.request, references, job.mode)
        attempt = self._stream if job.mode == "stream" else self._submit
        delays = self._retry.delays()
        while True:
            await self._intend(job)
            try:
                return await attempt(job, slot, body)
            except (ConnectError, BlockedError) as error:  # neither reaches the service
                delay = self._pause(job, error, delays)
                if delay is None:
                    raise
            await self._sleep(delay)

    def _pause(self, job: Job, error: ConnectError | BlockedError, delays: Iterator[float]) -> float | None:
        """Seconds until it may be sent again; None where it was tried often enough, or was taken.

        Taken, it is no error of the submission: a ledger or a limiter met it when it heard of the acceptance.
        """
        if job.status is JobStatus.RUNNING:
            return None
        if isinstance(error, ConnectError):
            return self._retry.next_delay(error, delays)
        delay = self._retry.next_delay(error, delays) if self._wall.has_a_door else None
        if delay is None:
            error.passing = not self._wall.met()
        return delay

    # ---- the submission

    async def _intend(self, job: Job) -> None:
        """An intent stands for as long as a POST may be under way: whoever gives up before it withdraws it."""
        if job.cancelled:
            raise Refused
        try:
            await job.ledger.intend(job)
            if job.cancelled:
                raise Refused
        except BaseException:
            await self._withdraw(job)
            raise
        job.advance(JobStatus.SUBMITTING)

    async def _withdraw(self, job: Job) -> None:
        if job.status is JobStatus.SUBMITTING:
            job.advance(JobStatus.QUEUED)
        with anyio.CancelScope(shield=True):
            await job.ledger.withdrawn(job)

    async def _submit(self, job: Job, slot: Slot, body: bytes) -> Generation:
        """POST once; the id is recorded before anything else is awaited. Then wait for the end."""
        async with AsyncExitStack() as stack:
            await self._open_request(job, slot, stack)
            with anyio.CancelScope(shield=True):
                reply = await self._send(job, slot, self._post(job, slot, body))
                await self._accept(job, slot, reply)
        return await self._after(reply.value, job, slot)

    async def _open_request(self, job: Job, slot: Slot, stack: AsyncExitStack) -> None:
        """Where open requests are counted, wait for one; whoever gives up before it has sent nothing."""
        try:
            await stack.enter_async_context(slot.request(submission=True))
            if job.cancelled:
                raise Refused
        except BaseException:
            await self._withdraw(job)
            raise

    async def _send(self, job: Job, slot: Slot, post: Awaitable[T]) -> T:
        """The answer of a POST. One that took nothing withdraws the intent; a lost one may have taken the slot."""
        try:
            return await post
        except (RateLimitError, ServerBusyError) as refusal:
            slot.refused(refusal)
            await self._withdraw(job)
            raise Refused from refusal
        except (APIStatusError, ConnectError):
            await self._withdraw(job)
            raise
        except BaseException:
            slot.forsake(self._plan.likely_length(_key(job)))
            raise

    async def _post(self, job: Job, slot: Slot, body: bytes) -> Reply[Submission]:
        if job.mode != "sync":
            return await _picked_up(self._api.submit(body))
        # The one call that waits for the images; others may go on as soon as it must have been accepted.
        presumed = asyncio.get_running_loop().call_later(PRESUMED_ACCEPTED, slot.accepted, RateLimit())
        try:
            return await _picked_up(self._api.submit(body, blocking=True))
        finally:
            presumed.cancel()

    async def _accept(self, job: Job, slot: Slot, reply: Reply[Submission]) -> None:
        job.accepted(reply.value.generation_id, reply.value.credits_used)
        self._wall.passed()
        try:
            slot.accepted(reply.rate_limit)
            if job.generation_id:
                slot.named(job.generation_id)
        finally:  # whatever a limiter of the user's raises: it is paid
            job.advance(JobStatus.RUNNING)
            if job.generation_id or reply.value.image_urls:
                await job.ledger.accepted(job, reply.value)

    async def _after(self, submission: Submission, job: Job, slot: Slot) -> Generation:
        check_submission(submission)
        if submission.image_urls:
            return submitted_generation(submission, job.request)
        return await self._poll(job, slot)

    # ---- the wait

    async def _poll(self, job: Job, slot: Slot) -> Generation:
        assert job.generation_id is not None  # an answer without images and without an id is never accepted
        timeout = job.timeout if job.timeout is not None else self._generation_timeout
        key = None if job.mode == "stream" else _key(job)  # a stream that broke off was accepted long before
        record = await self._watch.until_end(job.generation_id, timeout=timeout, key=key, slot=slot)
        return record.to_generation(
            job.generation_id,
            prompt=job.request.prompt,
            model=job.request.model,
            credits_used=job.credits_used,
        )

    # ---- the stream

    async def _stream(self, job: Job, slot: Slot, body: bytes) -> Generation:
        """Follow the stream; when it drops and the id is known, go on by polling."""
        async with AsyncExitStack() as stack:
            await self._open_request(job, slot, stack)
            with anyio.CancelScope(shield=True):
                source, reply = await self._send(job, slot, self._open(stack, body))
                await self._accept(job, slot, reply)
            generation = await self._follow(job, slot, source) if source is not None else None
        if generation is not None:
            return generation
        return await (self._poll(job, slot) if source is not None else self._after(reply.value, job, slot))

    async def _open(self, stack: AsyncExitStack, body: bytes) -> tuple[EventSource | None, Reply[Submission]]:
        """The stream, if the answer is one, and what is known of the submission so far."""
        try:
            source = await stack.enter_async_context(self._api.stream(body))
        except SubmissionUncertainError as error:
            return None, _pick_up(error)
        plain = source.submission
        return (source if plain is None else None), Reply(plain or Submission(), source.rate_limit)

    async def _follow(self, job: Job, slot: Slot, source: EventSource) -> Generation | None:
        """The generation that the stream ends with; None when it broke off and its id is known."""
        reader = StreamReader(job.request)
        try:
            return await self._read(job, slot, source, reader)
        except (GenerationFailedError, ContentRejectedError) as error:
            error.credits_used = await self._price(job)
            raise
        except TransportError as error:
            if job.generation_id is None:
                raise StreamInterruptedError(
                    f"the stream broke at {reader.progress:g} % ({error}) before it told the generation's id; "
                    "a paid generation may be running and can't be picked up",
                    credits_used=reader.credits_used,
                ) from error
        job.emit(StreamEvent("status", "The stream broke off; polling instead", reader.progress))
        return None

    async def _read(self, job: Job, slot: Slot, source: EventSource, reader: StreamReader) -> Generation:
        async with aclosing(source.events()) as events:
            async for raw in events:
                try:
                    event = reader.read(raw)
                finally:
                    await self._learn(job, slot, reader)
                if event is not None and event.generation is not None:
                    return event.generation
                if event is not None:
                    job.emit(event)
        raise TransportError("it ended before its last event")

    async def _price(self, job: Job) -> int | None:
        """What an ended generation took: a stream need not tell, its record does."""
        if job.credits_used is None and job.generation_id is not None:
            with suppress(NanoBananaError):
                job.charge((await self._api.get(job.generation_id)).value.credits_used)
        return job.credits_used

    async def _learn(self, job: Job, slot: Slot, reader: StreamReader) -> None:
        """Record the id as soon as the stream tells it."""
        if not reader.generation_id or job.generation_id is not None:
            job.charge(reader.credits_used)
        else:
            job.accepted(reader.generation_id, reader.credits_used)
            slot.named(reader.generation_id)
            told = Submission(generation_id=reader.generation_id, credits_used=reader.credits_used)
            with anyio.CancelScope(shield=True):
                await job.ledger.accepted(job, told)

    # ---- the files

    async def _store(self, job: Job, generation: Generation) -> None:
        """Download, unless nobody wants it any more; a job that is cancelled now is interrupted by the scheduler."""
        files: list[Path] = []
        if job.destination is not None and not job.cancelled:
            files = await self._downloads.save(generation, job.destination.folder, stem=job.destination.stem)
            await job.ledger.stored(job, files)
            job.advance(JobStatus.STORED)
        job.complete(generation, files)


async def _picked_up(submission: Awaitable[Reply[Submission]]) -> Reply[Submission]:
    """The answer to a submission; an error that names its generation says as much."""
    try:
        return await submission
    except SubmissionUncertainError as error:
        return _pick_up(error)


def _pick_up(error: SubmissionUncertainError) -> Reply[Submission]:
    """What an error still tells of the generation that it may have been paid for; without an id it is raised."""
    if error.generation_id is None:
        raise error
    _LOGGER.warning("the answer to a submission names generation %s: %s", error.generation_id, error.__cause__)
    return Reply(Submission(generation_id=error.generation_id, credits_used=error.credits_used), RateLimit())


def _key(job: Job) -> Key:
    """What a generation's length depends on."""
    request = job.request
    return (request.model or DEFAULT_MODEL, job.mode, len(request.reference_images), request.quantity or 1)
