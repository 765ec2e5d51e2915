"""Looks at generations that no job here waits for, so often as they may be asked for, and no oftener than is polite."""

from __future__ import annotations

import time
from collections import OrderedDict

from ..._client import Client
from ..._models import Generation
from ._endings import settle
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
