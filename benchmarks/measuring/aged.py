"""Rows of a batch that is old: most of its rows are done, and its journal is as large as that makes it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

from .jobbers import SteadyPlan
from .requesters import KEY, PROMPT, Requests
from .turns import Many, Once

LEFT = 1000  # rows that are still to be done
_STEPS = (
    "state = 'intent', attempts = 1, cost = 1",
    "state = 'running', generation_id = 'g' || idx, credits = 1, remaining = 5",
    """state = 'stored', urls = '["http://127.0.0.1/images/a.png"]', files = '["images/a.png"]'""",
)


def make(folder: Path, rows: int) -> None:
    """A batch of so many rows, all but the last of them done, step by step."""
    from nanobanana_async.batch._adding import rows_of
    from nanobanana_async.batch._journal_db import connect
    from nanobanana_async.batch._journal_import import Import

    folder.mkdir()
    with closing(connect(folder, "OFF")) as connection:
        connection.execute("BEGIN")
        prompts = (f"{PROMPT} {number}" for number in range(rows))
        Import(rows_of(prompts), dedupe=False, source=None)(connection)
        for step in _STEPS:
            connection.execute(f"UPDATE job SET {step} WHERE idx < ?", (rows - LEFT,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def nothing(*_: object) -> None:
    """The manifest is left out: it is as long as the batch, and written when 50 times that time has passed."""


async def at_once() -> None:
    """A batch does its jobs by itself."""


@asynccontextmanager
async def gone_on_with(made: Path, origin: str) -> AsyncIterator[Mapping[str, Once | Many]]:
    """Each turn goes on with a copy of the batch, until so many more rows are done."""
    from nanobanana_async import Client
    from nanobanana_async.batch import BatchEvent, BatchRunner
    from nanobanana_async.batch._outputs import Outputs

    Outputs._write = nothing
    with tempfile.TemporaryDirectory(dir=made.parent) as parent:
        folders = (Path(parent, str(number)) for number in itertools.count())
        async with Client(KEY, base_url=f"{origin}/api/v1", poll=SteadyPlan()) as client:

            class Rows(Many):
                async def run(self, count: int, at_once: int) -> None:
                    left = count

                    def stop_after(event: BatchEvent) -> None:
                        nonlocal left
                        left -= event.index is not None
                        if left == 0:
                            runner.stop()

                    folder = next(folders)
                    shutil.copytree(made, folder)
                    runner = BatchRunner(client, folder, on_event=stop_after)
                    async with runner:
                        await runner.run()

            yield {"job": Rows(at_once)}


class _ByFolder:
    """A contender's name is its batch's folder."""

    def __getitem__(self, folder: str) -> Callable[[str], Requests]:
        return partial(gone_on_with, Path(folder))


CONTENDERS = _ByFolder()
