"""A real uvicorn with workers on one account: they share its slots, and jobs outlive them all."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from patience import PATIENCE
from web import SMALL, Caller

from nanobanana_async.emulator import Emulator

WORKERS = 2  # all are killed at once, so that more of them would only start more slowly
HERE = Path(__file__).parent


@asynccontextmanager
async def workers(emulator: Emulator, tmp_path: Path) -> AsyncIterator[Caller]:
    """Every request on a connection of its own, so that any worker may get it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "workers:app", f"--port={port}", f"--workers={WORKERS}"]
    options = ["--log-level=warning", "--ws=none", "--timeout-graceful-shutdown=1", f"--app-dir={HERE}"]
    environment = os.environ | {"NANO_BANANA_BASE_URL": emulator.url, "FOLDER": str(tmp_path)}
    server = await asyncio.create_subprocess_exec(*command, *options, env=environment)
    connector = aiohttp.TCPConnector(force_close=True)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(PATIENCE)) as session:
            yield Caller(session, f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        await asyncio.wait_for(server.wait(), PATIENCE)


async def workers_of(ann: Caller, count: int, *, but: frozenset[int] = frozenset()) -> frozenset[int]:
    """The processes that answer, as soon as there are so many that aren't among `but`."""
    seen: set[int] = set()
    async with asyncio.timeout(PATIENCE):
        while len(seen) < count:
            try:
                seen.add(int((await ann.get("/pid")).body))
            except aiohttp.ClientError:  # not there yet, or killed under our hands
                await asyncio.sleep(0.05)
            seen -= but
    return frozenset(seen)


async def test_jobs_outlive_their_workers(tmp_path):
    """All are killed in the middle of four generations: the next ones find them. Nothing is paid twice or lost."""
    async with (
        Emulator(**{**SMALL, "limit": 4, "duration": float("inf")}) as emulator,
        workers(emulator, tmp_path) as ann,
    ):
        before = await workers_of(ann, WORKERS)
        jobs = [await ann.submit(f"fox {place}") for place in range(4)]
        await emulator.until(lambda: emulator.ledger.active == 4)
        for job in jobs:  # its id is in the file
            await ann.until(job["links"]["status"], lambda told: told["status"] == "running")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await workers_of(ann, 1, but=before)
        emulator.finish()
        emulator.duration = 0.05
        done = await asyncio.gather(*(ann.end(job) for job in jobs))
        assert [job["status"] for job in done] == ["completed"] * 4
        assert emulator.ledger.charges == 4

        more = await asyncio.gather(*(ann.submit(f"owl {place}") for place in range(12)))
        ends = await asyncio.gather(*(ann.end(job) for job in more))
        assert [job["status"] for job in ends] == ["completed"] * 12
        assert (await ann.get(ends[-1]["images"][0])).status == 200
        assert emulator.ledger.charges == 16
        assert sum(emulator.ledger.refusals.values()) <= 1  # they share the slots, those of the dead included
