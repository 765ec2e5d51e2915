"""`generate`: one prompt, with its progress."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from pathlib import Path

from .._client import Client
from .._job import Job
from .._models import GenerateRequest, Generation, Mode
from ._interrupts import interrupts
from ._output import generation_json, print_json
from ._progress import StatusLine
from ._run import OK, Connection, InterruptedCommandError, output_folder
from ._terminal import out, say
from ._words import counted

REFRESH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What the options say."""

    prompt: str
    model: str | None
    aspect_ratio: str | None
    references: tuple[str, ...]
    quantity: int | None
    mode: Mode
    output: Path
    as_json: bool

    def request(self) -> GenerateRequest:
        """The request they make. Raises: InvalidRequestError."""
        return GenerateRequest.of(
            self.prompt,
            model=self.model,
            aspect_ratio=self.aspect_ratio,
            reference_images=self.references or None,
            quantity=self.quantity,
        )


async def generate(connection: Connection, options: GenerateOptions) -> int:
    """Draw it, save it, print where."""
    request = options.request()
    opened = connection.sharing_client()
    jobs: list[Job] = []
    interrupts().leaves_behind(lambda: _left_behind(jobs, options.output))
    try:
        with output_folder(options.output) as folder:
            async with opened as client:
                generation, files = await _draw(client, request, options, folder, jobs)
    except asyncio.CancelledError:
        _raise_left_behind(jobs, options.output)
        raise
    if options.as_json:
        print_json(generation_json(generation, files))
    else:
        out("\n".join(map(str, files)))
    return OK


async def _draw(
    client: Client, request: GenerateRequest, options: GenerateOptions, folder: Path, jobs: list[Job]
) -> tuple[Generation, list[Path]]:
    with StatusLine() as status:
        if options.mode == "stream":
            generation = await _follow(client, request, status, jobs)
        else:
            generation = await _wait(client, request, options.mode, status, jobs)
        status.show(f"downloading {counted(len(generation.image_urls), 'image')}")
        return generation, await client.download(generation, folder)


async def _wait(
    client: Client, request: GenerateRequest, mode: Mode, status: StatusLine, jobs: list[Job]
) -> Generation:
    job = await client.submit(request, mode=mode)
    jobs.append(job)
    result = asyncio.ensure_future(job.result())
    try:
        while not result.done():
            status.show(_told(job))
            await asyncio.wait((result,), timeout=REFRESH_SECONDS)
        return result.result()
    except asyncio.CancelledError:
        result.cancel()
        raise


async def _follow(client: Client, request: GenerateRequest, status: StatusLine, jobs: list[Job]) -> Generation:
    events = client.stream(request)
    jobs.append(events.job)
    async with events:
        async for event in events:
            status.show(f"{event.progress:3.0f} %  {event.message}")
    return await events.job.result()


def _told(job: Job) -> str:
    return f"{job.status.value}, generation {job.generation_id}" if job.generation_id else job.status.value


def _raise_left_behind(jobs: list[Job], folder: Path) -> None:
    """After the client is closed: by then the answer of a submission under way is in, and its id is known."""
    for job in jobs:
        if job.generation_id:
            say(_left_behind(jobs, folder))
            raise InterruptedCommandError("interrupted", generation_id=job.generation_id, credits_used=job.credits_used)


def _left_behind(jobs: list[Job], folder: Path) -> str:
    """How to pick up what is paid; nothing while no id is known."""
    where = shlex.quote(str(folder))
    return "\n".join(
        f"Generation {job.generation_id} {'is made and' if job.generation else 'runs on and is'} paid. "
        f"Pick it up with:\n  nanobanana get {job.generation_id} --wait -o {where}"
        for job in jobs
        if job.generation_id
    )
