"""Looks at generations that no job here waits for, so often as they may be asked for, and no oftener than is polite."""

from __future__ import annotations

import time
from collections import OrderedDict

from ..._client import Client
from ..._exceptions import ContentRejectedError, NanoBananaError
from ..._job import JobStatus
from ..._models import Generation, GenerationStatus
from ..._wire import raise_for_failure
from ._errors import problem_of
from ._records import JobRecord

FRESH_SECONDS = 3.0  # the vendor's polling advice
REMEMBERED = 1024


class Looks:
    """Brings records up to date by their generation's id."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: OrderedDict[str, tuple[float, Generation]] = OrderedDict()

    async def update(self, record: JobRecord) -> bool:
        """Look, and tell whether the record has ended. Raises: NotFoundError, APIStatusError, TransportError."""
        assert record.generation_id is not None
        generation = await self._look(record.generation_id)
        if not record.request.get("prompt"):
            record.request = {"prompt": generation.prompt, "model": generation.model}
        return settle(record, generation)

    async def _look(self, generation_id: str) -> Generation:
        seen = self._seen.get(generation_id)
        if seen is not None and time.monotonic() - seen[0] < FRESH_SECONDS:
            return seen[1]
        generation = await self._client.get(generation_id)
        self._seen[generation_id] = (time.monotonic(), generation)
        self._seen.move_to_end(generation_id)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return generation


def settle(record: JobRecord, generation: Generation) -> bool:
    """End the record as its generation has ended; False when it still runs."""
    if generation.status is GenerationStatus.PROCESSING:
        return False
    if generation.credits_used is not None:
        record.credits_used = generation.credits_used
    if generation.created_at is not None:
        record.created_at = min(record.created_at, generation.created_at.timestamp())
    try:
        raise_for_failure(generation)
    except NanoBananaError as error:
        rejected = isinstance(error, ContentRejectedError)
        record.end(JobStatus.REJECTED if rejected else JobStatus.FAILED, problem_of(error))
    else:
        record.learn(generation)
    return True
