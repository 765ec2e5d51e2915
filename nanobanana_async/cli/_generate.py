"""`generate`: one prompt, with its progress."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from .._client import Client
from .._job import Job
from .._models import GenerateRequest, Generation, Mode
from ._output import generation_json, print_json
from ._progress import StatusLine
from ._run import OK, Connection, say, writable_folder

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
    client = connection.client()
    writable_folder(options.output)
    async with client:
        with StatusLine() as status:
            if options.mode == "stream":
                generation = await _follow(client, request, status)
            else:
                generation = await _wait(client, request, options.mode, status)
            status.show("downloading")
            files = await client.download(generation, options.output)
    if options.as_json:
        print_json(generation_json(generation, files))
    else:
        print(*files, sep="\n")
    return OK


async def _wait(client: Client, request: GenerateRequest, mode: Mode, status: StatusLine) -> Generation:
    job = await client.submit(request, mode=mode)
    result = asyncio.ensure_future(job.result())
    try:
        while not result.done():
            status.show(_told(job))
            await asyncio.wait((result,), timeout=REFRESH_SECONDS)
        return result.result()
    except asyncio.CancelledError:
        result.cancel()
        _tell_left_behind(job)
        raise


async def _follow(client: Client, request: GenerateRequest, status: StatusLine) -> Generation:
    events = client.stream(request)
    try:
        async with events:
            async for event in events:
                status.show(f"{event.progress:3.0f} % {event.message}")
    except asyncio.CancelledError:
        _tell_left_behind(events.job)
        raise
    return await events.job.result()


def _told(job: Job) -> str:
    return f"{job.status.value}, generation {job.generation_id}" if job.generation_id else job.status.value


def _tell_left_behind(job: Job) -> None:
    if job.generation_id:
        say(f"generation {job.generation_id} runs on: nanobanana get {job.generation_id} --wait -o DIR")
