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
from collections.abc import Awaitable, Callable
from itertools import islice

import anyio

from ._api import Api, EventSource, Reply
from ._downloads import Downloads
from ._events import StreamEvent, StreamReader, submitted_generation
from ._exceptions import (
    APIStatusError,
    ConnectError,
    ContentRejectedError,
    GenerationFailedError,
    RateLimitError,
    ServerBusyError,
    StreamInterruptedError,
    SubmissionUncertainError,
    TransportError,
)
from ._job import Job, JobStatus
from ._limiter import Slot
from ._models import Generation, Submission
from ._polling import PollPlan
from ._references import encode_references
from ._retry import RetryPolicy
from ._watch import Watch
from ._wire import RateLimit, check_submission, failure_of, generate_body

_LOGGER = logging.getLogger(__name__)

PRESUMED_ACCEPTED = 1.0  # seconds: refusals come at once, so a blocking call still open after this was accepted
_REFUSALS = (RateLimitError, ServerBusyError)


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
        plan: PollPlan,
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
        # How long a generation that nobody can see any more is taken to run: past the third look of the plan.
        self._guessed_length = sum(islice(plan.delays(lambda low, high: 1.0), 4))

    async def run(self, job: Job, slot: Slot) -> None:
        """Take `job` to its end.

        Raises: Refused, or any NanoBananaError that the job ended with.
        """
        generation = await self._generate(job, slot)
        await job.ledger.finished(job, generation)
        failure = failure_of(generation)
        if failure is not None:
            raise failure
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
        except SubmissionUncertainError:
            slot.forsake(self._guessed_length)
            raise
        except BaseException:
            if slot.running:
                slot.forsake(self._guessed_length)
            else:
                slot.release()
            raise
        slot.release()
        return generation

    async def _submit_and_wait(self, job: Job, slot: Slot) -> Generation:
        references = await encode_references(job.request.reference_images)
        body = generate_body(job.request, references, job.mode)
        await self._intend(job)
        attempt = self._stream if job.mode == "stream" else self._submit
        delays = self._retry.delays()
        while True:
            try:
                return await attempt(job, slot, body)
            except ConnectError as error:
                delay = self._retry.next_delay(error, delays)
                if delay is None:
                    await self._withdraw(job)
                    raise
                await self._sleep(delay)

    # ---- the submission

    async def _intend(self, job: Job) -> None:
        await job.ledger.intend(job)
        if job.cancelled:
            await self._withdraw(job)
            raise Refused
        job.advance(JobStatus.SUBMITTING)

    async def _withdraw(self, job: Job) -> None:
        with anyio.CancelScope(shield=True):
            await job.ledger.withdrawn(job)

    async def _submit(self, job: Job, slot: Slot, body: bytes) -> Generation:
        """POST once; the id is recorded before anything else is awaited. Then wait for the end."""
        with anyio.CancelScope(shield=True):
            reply = await self._post(job, slot, body)
            await self._accept(job, slot, reply)
        return await self._after(reply.value, job, slot)

    async def _post(self, job: Job, slot: Slot, body: bytes) -> Reply[Submission]:
        try:
            if job.mode == "sync":
                return await self._post_blocking(slot, body)
            return await self._api.submit(body)
        except _REFUSALS as refusal:
            await self._refuse(job, slot, refusal)
            raise Refused from refusal
        except APIStatusError:
            await self._withdraw(job)
            raise

    async def _post_blocking(self, slot: Slot, body: bytes) -> Reply[Submission]:
        """The one call that waits for the images; others may go on as soon as it must have been accepted."""
        presumed = asyncio.get_running_loop().call_later(PRESUMED_ACCEPTED, slot.accepted, RateLimit())
        try:
            return await self._api.submit(body, blocking=True)
        finally:
            presumed.cancel()

    async def _after(self, submission: Submission, job: Job, slot: Slot) -> Generation:
        check_submission(submission)
        if submission.image_urls:
            return submitted_generation(submission, job.request)
        return await self._poll(job, slot)

    async def _refuse(self, job: Job, slot: Slot, refusal: RateLimitError | ServerBusyError) -> None:
        slot.refused(refusal)
        await self._withdraw(job)
        job.advance(JobStatus.QUEUED)

    async def _accept(self, job: Job, slot: Slot, reply: Reply[Submission]) -> None:
        slot.accepted(reply.rate_limit)
        job.generation_id = reply.value.generation_id
        job.credits_used = reply.value.credits_used
        job.advance(JobStatus.RUNNING)
        if job.generation_id or reply.value.image_urls:
            await job.ledger.accepted(job, reply.value)
        if job.cancelled and job.generation_id:
            _LOGGER.warning("a cancelled job runs on as generation %s", job.generation_id)

    # ---- the wait

    async def _poll(self, job: Job, slot: Slot) -> Generation:
        assert job.generation_id is not None  # an answer without images and without an id is never accepted
        timeout = job.timeout if job.timeout is not None else self._generation_timeout
        record = await self._watch.until_end(job.generation_id, timeout=timeout, observe=slot.observed)
        return record.to_generation(
            job.generation_id,
            prompt=job.request.prompt,
            model=job.request.model,
            credits_used=job.credits_used,
        )

    # ---- the stream

    async def _stream(self, job: Job, slot: Slot, body: bytes) -> Generation:
        """Follow the stream; when it drops and the id is known, go on by polling."""
        reader = StreamReader(job.request)
        try:
            async with self._api.stream(body) as source:
                return await self._follow(job, slot, source, reader)
        except _REFUSALS as refusal:
            await self._refuse(job, slot, refusal)
            raise Refused from refusal
        except ConnectError:
            raise
        except APIStatusError:
            await self._withdraw(job)
            raise
        except TransportError as error:
            return await self._pick_up(job, slot, reader, error)

    async def _follow(self, job: Job, slot: Slot, source: EventSource, reader: StreamReader) -> Generation:
        plain = source.submission
        await self._accept(job, slot, Reply(plain or Submission(), source.rate_limit))
        if plain is not None:
            return await self._after(plain, job, slot)
        async for raw in source.events():
            event = reader.read(raw)
            await self._learn(job, reader)
            if event is not None:
                job.emit(event)
            if event is not None and event.generation is not None:
                return event.generation
        raise TransportError("the stream ended early")

    async def _learn(self, job: Job, reader: StreamReader) -> None:
        """Record the id as soon as the stream tells it."""
        job.credits_used = reader.credits_used
        if reader.generation_id and job.generation_id is None:
            job.generation_id = reader.generation_id
            told = Submission(generation_id=reader.generation_id, credits_used=reader.credits_used)
            with anyio.CancelScope(shield=True):
                await job.ledger.accepted(job, told)

    async def _pick_up(self, job: Job, slot: Slot, reader: StreamReader, error: TransportError) -> Generation:
        if job.generation_id is None:
            raise StreamInterruptedError(
                f"the stream broke at {reader.progress:g} % ({error}) before it told the generation's id; "
                "a paid generation may be running and can't be picked up",
                credits_used=reader.credits_used,
            ) from error
        job.emit(StreamEvent("status", "The stream broke off; polling instead", reader.progress))
        return await self._poll(job, slot)

    # ---- the files

    async def _store(self, job: Job, generation: Generation) -> None:
        if job.destination is None or job.cancelled:
            job.complete(generation)
            return
        files = await self._downloads.save(generation, job.destination.folder, stem=job.destination.stem)
        await job.ledger.stored(job, files)
        job.advance(JobStatus.STORED)
        job.complete(generation, files)
