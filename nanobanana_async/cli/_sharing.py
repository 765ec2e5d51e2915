"""The account's slots, shared by all commands of a user: two terminals have one limit, with nothing to set up."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from .._client import Client
from .._exceptions import ConfigurationError
from .._polling import PollPlan

_LOGGER = logging.getLogger(__name__)

UNKNOWN_SECONDS = 30.0  # that a submission of a killed command counts: it may run for so long, and a 429 costs nothing
ALONE_AFTER = 5.0  # seconds without the file (its disk is full, say) before a command goes on without the others


@asynccontextmanager
async def sharing(
    alone: Client, key: str, base_url: str | None, plan: PollPlan | None, max_concurrency: int | None
) -> AsyncIterator[Client]:
    """A client that shares its slots; `alone` where they can't be shared, which is no reason not to run."""
    from ..integrations.sqlite import SQLiteLimiter, account_id  # reading commands need no SQLite

    limiter = SQLiteLimiter(
        account=account_id(key, base_url),
        max_concurrency=max_concurrency,
        submit_seconds=UNKNOWN_SECONDS,
        alone_after=ALONE_AFTER,
    )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(limiter)
        except ConfigurationError as error:
            _LOGGER.info("slots are not shared with other commands: %s", error)
            yield await stack.enter_async_context(alone)
        else:
            client = Client(key, base_url=base_url, poll=plan, limiter=limiter)
            yield await stack.enter_async_context(client)
