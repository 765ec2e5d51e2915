"""How a record ends: with its job, or with what a look at its generation told. Pure."""

from __future__ import annotations

from ..._exceptions import ContentRejectedError, GenerationFailedError, NanoBananaError
from ..._job import Job, JobStatus
from ..._models import Generation, GenerationStatus
from ..._wire import failure_of
from ._errors import Problem, ProblemError, problem, problem_of
from ._records import JobRecord

_UNEXPECTED = Problem(
    type="urn:nanobanana:error", title="Something went wrong", status=500, detail="The job met an unexpected error."
)


def settle(record: JobRecord, generation: Generation) -> bool:
    """End the record as its generation has ended; False when it still runs."""
    if generation.status is GenerationStatus.PROCESSING:
        return False
    if generation.credits_used is not None:
        record.credits_used = generation.credits_used
    if generation.created_at is not None:
        record.created_at = min(record.created_at, generation.created_at.timestamp())
    error = failure_of(generation)
    if error is None:
        record.learn(generation)
    else:
        end_failed(record, error)
    return True


def end_failed(record: JobRecord, error: NanoBananaError) -> None:
    """The generation itself ended without images."""
    rejected = isinstance(error, ContentRejectedError)
    record.end(JobStatus.REJECTED if rejected else JobStatus.FAILED, problem_of(error))


def end_with_job(record: JobRecord, job: Job) -> None:
    """End the record with its job's error. A generation that may still end well is only not waited for any more."""
    error = job.error
    told = problem_of(error) if isinstance(error, NanoBananaError) else _UNEXPECTED
    if record.generation_id and not isinstance(error, GenerationFailedError | ContentRejectedError):
        record.problem = told.model_dump(exclude_none=True)
        return
    record.generation_id = record.generation_id or told.generation_id
    record.credits_used = told.credits_used if told.credits_used is not None else record.credits_used
    in_doubt = job.cancelled and record.status == JobStatus.SUBMITTING.value
    status = JobStatus.UNCERTAIN if in_doubt else job.status
    record.end(status, None if status is JobStatus.CANCELLED else told)


def too_late(record: JobRecord) -> ProblemError:
    """What has been submitted can't be cancelled."""
    detail = "It has been submitted: it is paid, runs on, and can't be stopped."
    if record.ended:
        detail = "It has ended."
    elif record.status == JobStatus.SUBMITTING.value:
        detail = "It is being submitted at this moment; try again to cancel it in case it is refused."
    facts = {"generation_id": record.generation_id, "credits_used": record.credits_used}
    return problem(409, "too-late", "Too late to cancel", detail, **facts)
