"""Looks at a generation until it ends. A failed look never fails a generation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext

from ._answers import GenerationRecord
from ._api import Api
from ._exceptions import GenerationTimeoutError, NanoBananaError, RateLimitError
from ._limiter import Slot
from ._models import GenerationStatus
from ._polling import Key, Looks, Plan
from ._retry import Backoff, respect_floor

LONGEST_REST = 120.0  # seconds that Retry-After may hold a look up: the generation goes on, and so does its slot
FINAL_ERRORS = 3  # looks in a row that answer with an error no retry mends (401, 404 …) before it is believed
EMPTY_LOOKS = 3  # more looks at what is completed without images before that is believed: links may come late


class Watch:
    """Looks when the plan says, later after errors, and gives up with the generation's id in hand."""

    def __init__(
        self,
        api: Api,
        plan: Plan,
        *,
        backoff: Backoff,
        open_request: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._plan = plan
        self._backoff = backoff
        self._open_request = open_request  # for looks without a slot
        self._sleep = sleep
        self._clock = clock

    async def until_end(
        self,
        generation_id: str,
        *,
        timeout: float,
        key: Key | None = None,
        at_once: bool = False,
        slot: Slot | None = None,
    ) -> GenerationRecord:
        """The record once it is completed or failed. `at_once` makes the first look without a wait.

        `key` is for one that was accepted just now: from its length the plan learns for its like.

        Raises: GenerationTimeoutError after `timeout` seconds; APIStatusError when the service keeps denying it.
        """
        began = self._clock()
        looks = self._plan.begin(key, began)
        try:
            record = await self._follow(generation_id, looks, began, timeout, at_once, slot)
        finally:
            looks.close()
        if record is not None:
            return record
        raise GenerationTimeoutError(
            f"generation {generation_id} still processing after {timeout:g} s; "
            f"resume with client.wait({generation_id!r})",
            generation_id=generation_id,
        )

    async def _follow(
        self, generation_id: str, looks: Looks, began: float, timeout: float, at_once: bool, slot: Slot | None
    ) -> GenerationRecord | None:
        """Look until the end; None after `timeout` seconds."""
        elapsed, errors = 0.0, _Errors(generation_id, self._backoff)
        while True:
            delay = looks.at_once() if at_once else looks.next_delay(elapsed, least=errors.delay)
            at_once = False
            await self._sleep(min(delay, max(0.0, timeout - elapsed)))
            answer = await self._look(generation_id, errors, slot)
            elapsed = self._clock() - began
            if errors.refused:
                looks.refused(elapsed)
            if answer is not None:
                asked, record = answer
                if record is not None:
                    looks.ended(asked - began)
                    return record
                looks.processing(asked - began)
            if elapsed >= timeout:
                return None

    async def _look(
        self, generation_id: str, errors: _Errors, slot: Slot | None
    ) -> tuple[float, GenerationRecord | None] | None:
        """When the look was sent, and the record of what has ended; None for a look that failed."""
        try:
            async with slot.request() if slot is not None else self._open_request():
                asked = self._clock()
                reply = await self._api.look(generation_id)
        except NanoBananaError as error:
            if slot is not None and isinstance(error, RateLimitError) and error.tells_of_slots:
                slot.look_refused(error)
            errors.add(error)
            return None
        if slot is not None:
            slot.looked(reply.rate_limit, running=reply.value is None)
        if reply.value is not None and errors.doubt(reply.value):
            return None
        errors.clear()
        return asked, reply.value


class _Errors:
    """Errors in a row, how long they ask to wait, and whether the last one says that there are too many looks."""

    def __init__(self, generation_id: str, backoff: Backoff) -> None:
        self._generation_id = generation_id
        self._backoff = backoff
        self._empty = 0
        self._begin_anew()

    def clear(self) -> None:
        if self.delay:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.delay = 0.0
        self.refused = False
        self._final = 0
        self._delays: Iterator[float] = self._backoff.delays()

    def add(self, error: NanoBananaError) -> None:
        floor = None if error.retry_after is None else min(error.retry_after, LONGEST_REST)
        self.delay = respect_floor(next(self._delays), floor)
        self.refused = isinstance(error, RateLimitError) or error.retry_after is not None
        self._final += not error.retryable
        if self._final >= FINAL_ERRORS:
            error.generation_id = self._generation_id
            raise error

    def doubt(self, record: GenerationRecord) -> bool:
        """Whether to look again, later each time, because it is completed and its images are not there yet."""
        if record.status is not GenerationStatus.COMPLETED or record.image_urls or self._empty >= EMPTY_LOOKS:
            return False
        self._empty += 1
        self.delay, self.refused = next(self._delays), False
        return True
