"""`batch --distributed`: the coordinator of a batch that workers drain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from .._client import Client
from .._exceptions import ConfigurationError
from ..batch import BatchProgress, BatchSummary, JobState, Journal
from ..batch._runner import DISTRIBUTED, BatchRunner
from ._options import BatchOptions
from ._plan import is_known
from ._progress import BatchDisplay
from ._run import Connection
from ._terminal import out, say
from ._words import counted

MISSING = "this needs the taskiq extra: pip install 'nanobanana_async[taskiq]'"


def has_workers(options: BatchOptions, rows: int) -> bool:
    """Whether workers have this very batch already, so that nothing more would be spent than was agreed to."""
    if options.distributed is None or options.retry_failed or options.uncertain == "retry":
        return False
    if not is_known(options.output) or not Journal.peek_setting(options.output, DISTRIBUTED):
        return False
    return rows <= sum(1 for _ in Journal.read(options.output))


@asynccontextmanager
async def coordinator(
    client: Client, connection: Connection, options: BatchOptions, display: BatchDisplay
) -> AsyncIterator[BatchRunner]:
    """The batch, and a broker for its messages. Raises: ConfigurationError without the extra, JournalError."""
    try:
        from ..integrations.distributed import DistributedBatch
        from ..integrations.taskiq import drain_on, redis_broker
    except ImportError as error:
        raise ConfigurationError(MISSING) from error
    assert options.distributed is not None
    account = connection.account(options.account)
    broker = redis_broker(options.distributed, account)
    try:
        async with DistributedBatch(
            client,
            options.output,
            options.distributed,
            account=account,
            kick=drain_on(broker),
            store=options.store,
            max_credits=options.max_credits,
            retry_failed=options.retry_failed,
            uncertain=options.uncertain,
            title=options.title,
            on_event=display.tell,
        ) as batch:
            yield batch
    finally:
        with anyio.CancelScope(shield=True):
            await broker.shutdown()


def tell_left(now: BatchProgress, options: BatchOptions) -> None:
    """Nobody stops the workers here."""
    done = f"{now.done:,} of {counted(now.rows, 'row')} done"
    at_work = f"{counted(now.workers, 'worker')} go on" if now.workers else "the rows wait for workers"
    at_work = at_work.replace("1 worker go on", "1 worker goes on")
    say(f"Left with {done}; {at_work}.")
    say(f"Run the same command again to watch, and to gather the results in {options.output}.")


def tell_gathered(summary: BatchSummary) -> None:
    """What was gathered so far; the rest is with the workers."""
    stored = summary.rows(JobState.STORED)
    out(f"{stored:,} of {counted(summary.counts.rows, 'row')} stored so far")
