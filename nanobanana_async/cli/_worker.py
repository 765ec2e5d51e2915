"""`worker`: drains distributed batches until it is stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import ConfigurationError
from ._distributed import MISSING
from ._interrupts import interrupts
from ._progress import StatusLine
from ._run import OK, Connection
from ._terminal import say
from ._words import counted

if TYPE_CHECKING:
    from ..integrations.distributed import SliceEnd, Worker

LOOK_SECONDS = 0.5  # between changes of the status line


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """One field for each option."""

    url: str
    folder: Path | None = None
    account: str | None = None
    max_concurrency: int | None = None
    slices: int = 2


async def worker(connection: Connection, options: WorkerOptions) -> int:
    """Work until Ctrl-C or SIGTERM, which finish what runs; the next leaves at once."""
    try:
        from ..integrations.distributed import Worker
        from ..integrations.redis import RedisLimiter
        from ..integrations.taskiq import serve
    except ImportError as error:
        raise ConfigurationError(MISSING) from error
    account = connection.account(options.account)
    async with (
        RedisLimiter(options.url, account=account, max_concurrency=options.max_concurrency) as limiter,
        connection.client(limiter=limiter) as client,
        Worker(client, options.url, account=account, folder=options.folder, on_slice=_tell) as working,
    ):
        await client.credits()  # a wrong key is told at once
        say(f"Worker of account {account} is ready. Ctrl-C finishes what runs and leaves.")

        def stop() -> None:
            working.stop()
            if running := client.statistics().running:
                say(f"Finishing {counted(running, 'job')}, and nothing more. Ctrl-C again leaves at once.")

        def leave() -> None:
            say("Left at once; other workers pick up what runs.")

        with StatusLine() as line, interrupts().gently(stop, on_leave=leave, terminate_gently=True):
            telling = asyncio.create_task(_keep_telling(working, line))
            try:
                await serve(working, options.url, slices=options.slices)
            finally:
                telling.cancel()
    say(f"{counted(working.stored, 'row')} stored by this worker")
    return OK


def _tell(end: SliceEnd) -> None:
    ended = {"open": "goes on", "done": "is done", "parked": "is left to the next run"}.get(end.state, end.state)
    say(f"shard {end.shard} of batch {end.batch} {ended}, {counted(end.stored, 'row')} stored")


async def _keep_telling(working: Worker, line: StatusLine) -> None:
    """A live line on a terminal; elsewhere the shards' lines are enough."""
    while line.is_live:
        line.show(str(working)[1:-1])
        await asyncio.sleep(LOOK_SECONDS)
