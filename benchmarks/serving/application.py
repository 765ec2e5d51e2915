"""The server's process: `python -m serving.application PORT FOLDER`. The router on uvicorn, and a batch behind it."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header

from nanobanana_async import Client
from nanobanana_async.integrations.fastapi import ClientDep, generations_router, nanobanana_lifespan
from serving.watching import LoopWatch

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def make_app(folder: Path) -> FastAPI:
    watch = LoopWatch()
    tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def watched(app: FastAPI) -> AsyncIterator[None]:
        watch.start()
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def caller(x_caller: Annotated[str, Header()]) -> str:
        return x_caller

    app = FastAPI(lifespan=nanobanana_lifespan(watched, jobs=folder / "jobs.db"))
    app.include_router(generations_router(auth=caller))

    @app.post("/batch")
    async def batch(client: ClientDep) -> None:
        tasks.add(asyncio.create_task(endless(client)))

    @app.get("/figures")
    async def figures(client: ClientDep) -> dict[str, float]:
        now = client.statistics()
        return {**watch.take(), "memory": memory(), "completed": now.completed, "refusals": now.refusals}

    return app


async def endless(client: Client) -> None:
    """A batch that never runs out."""
    async with client.map(f"row {place}" for place in itertools.count()) as outcomes:
        async for _ in outcomes:
            pass


def memory() -> float:
    """Resident MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


if __name__ == "__main__":
    uvicorn.run(make_app(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="warning", ws="none")
