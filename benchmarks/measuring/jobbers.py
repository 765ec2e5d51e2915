"""One whole job: a submission, looks until the end, the image to a file; by us and by a bare loop that asks as much.

The server ends a generation at its fourth look, so everybody makes the same six requests. Ours has everything on: the
account's slots, learned polling, ageing, events, checked and atomic files; the bare loop has nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from .requesters import BODY, HEADERS, KEY, PROMPT, Requests
from .turns import Many, Once

PAUSE = 0.005  # seconds before each look, of the bare loop and of ours: so short that the processor is the bottleneck
LOOKS = 4
MEDIAN, SIGMA = 12.0, 0.35  # seconds, of the generations that the plan hears of
CHUNK = 1 << 20


class SteadyPlan:
    """Learns, plans and paces like a LearnedPlan, then waits as long as the bare loop does."""

    def __init__(self) -> None:
        from nanobanana_async._learned import LearnedPlan

        self._plan = LearnedPlan(max_polls_per_second=100_000)

    def __getattr__(self, name: str) -> object:
        return getattr(self._plan, name)

    def begin(self, key: object, now: float) -> SteadyLooks:
        return SteadyLooks(self._plan.begin(key, now))


class SteadyLooks:
    """Tells the plan of generations as long as real ones, so that it has as much to learn and no more."""

    def __init__(self, looks: object) -> None:
        self._looks = looks
        self._step = random.lognormvariate(math.log(MEDIAN), SIGMA) / LOOKS
        self._elapsed = 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._looks, name)

    def next_delay(self, elapsed: float, **named: float) -> float:
        self._looks.next_delay(self._elapsed, **named)
        self._elapsed += self._step
        return PAUSE

    def processing(self, asked: float) -> None:
        self._looks.processing(self._elapsed)

    def ended(self, asked: float) -> None:
        self._looks.ended(self._elapsed)


@asynccontextmanager
async def ours(origin: str, folder: Path, *, fsync: bool) -> AsyncIterator[Mapping[str, Once | Many]]:
    from nanobanana_async import Client

    async with Client(KEY, base_url=f"{origin}/api/v1", poll=SteadyPlan(), fsync=fsync) as client:

        async def job() -> object:
            return await client.download(await client.generate(PROMPT), folder)

        yield {"job": job}


@asynccontextmanager
async def bare(origin: str, folder: Path) -> AsyncIterator[Mapping[str, Once | Many]]:
    """As one writes it in a minute, with sensible chunks and one thread hop a chunk."""
    import aiofiles
    import aiohttp

    url = f"{origin}/api/v1/generate"
    serial = itertools.count()
    async with aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def job() -> object:
            async with session.post(url, json=BODY) as response:
                name = (await response.json())["generationId"]
            while True:
                await asyncio.sleep(PAUSE)
                async with session.get(url, params={"id": name}) as response:
                    record = (await response.json())["data"]
                if record["processingStatus"] == "completed":
                    break
            path = folder / f"bare-{next(serial)}.png"
            async with session.get(record["outputImageUrls"][0]) as response, aiofiles.open(path, "wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK):
                    await file.write(chunk)
            return path

        yield {"job": job}


async def nothing() -> None:
    """A batch does its jobs by itself."""


@asynccontextmanager
async def in_batches(origin: str, folder: Path) -> AsyncIterator[Mapping[str, Once | Many]]:
    """The same through a batch and its journal; all jobs of a turn are one batch.

    Its manifest is written after a second and at the end, also where valgrind stretches the time between.
    """
    from nanobanana_async import Client
    from nanobanana_async.batch import BatchRunner
    from nanobanana_async.batch._patience import Patience

    serial, patience = itertools.count(), Patience(outputs_interval=math.inf)
    async with Client(KEY, base_url=f"{origin}/api/v1", poll=SteadyPlan()) as client:

        class Batches(Many):
            async def run(self, count: int, at_once: int) -> None:
                async with BatchRunner(client, folder / f"batch-{next(serial)}", patience=patience) as runner:
                    await runner.add(f"{PROMPT} {number}" for number in range(count))
                    await runner.run()

        yield {"job": Batches(nothing)}


@asynccontextmanager
async def _in_folder(
    contender: Callable[..., Requests], origin: str, *, parent: str | None
) -> AsyncIterator[Mapping[str, Once | Many]]:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        async with contender(origin, Path(folder)) as offered:
            yield offered


BARE, OURS, OURS_UNSYNCED, OURS_BATCH = (
    "aiohttp + aiofiles",
    "nanobanana_async",
    "nanobanana_async, no fsync",
    "nanobanana_async, batch",
)
PLACES: dict[str, str | None] = {"disk": None, "memory": "/dev/shm"}


def name_of(kind: str, place: str) -> str:
    """A contender's name."""
    return f"{kind} ({place})"


def _contenders(place: str, parent: str | None) -> dict[str, Callable[[str], Requests]]:
    kinds = {
        BARE: bare,
        OURS: partial(ours, fsync=True),
        OURS_UNSYNCED: partial(ours, fsync=False),
        OURS_BATCH: in_batches,
    }
    return {name_of(kind, place): partial(_in_folder, kinds[kind], parent=parent) for kind in kinds}


CONTENDERS = {name: made for place, parent in PLACES.items() for name, made in _contenders(place, parent).items()}
