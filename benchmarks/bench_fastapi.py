"""200 callers at once on the FastAPI router, a batch behind them. Run: python benchmarks/bench_fastapi.py [--check]

Three processes: the emulator with 8 slots, an application with the router (one uvicorn worker, its jobs in a file), and
the callers, each with a connection for its live events. Waits are told in generation lengths (the emulator's median).

* "at once": all 200 submit in the same moment. 200 jobs on 8 slots take 25 lengths whoever serves them; what is
  measured is that every request is answered, how soon, that all come to their end, and the useful share of the slots.
* "interactive": the callers submit when it pleases them, half of what 8 slots can do, while a batch without end fills
  the other half. The wait from a job's order to its start is what a person feels.
* "on and on": short generations, thousands of jobs of the 200 callers; the server's memory at a third and at the end.

A stall is the longest time that anything waited for the server's loop. "cpu" is the part of it that the loop itself
took: what the wall shows beyond that is other programs on the machine. `control` is the longest that an idle process
was kept waiting meanwhile.

--check fails unless all are answered, the interactive p99 wait is under 2 lengths, no stall is over 50 ms, and memory
grows by less than 5 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

CALLERS = 200
LIMIT = 8
MEAN_OVER_MEDIAN = 1.063  # of the emulator's log-normal lengths, sigma 0.35
MOST_WAIT, MOST_STALL, MOST_GROWTH = 2.0, 50.0, 5.0  # lengths, milliseconds, MB
NOISE = 15.0  # milliseconds: an idle process waits so long only on a machine with other work
HERE = Path(__file__).parent


class Callers:
    """200 people, each on connections of their own, who hear of their jobs by events."""

    def __init__(self, session: aiohttp.ClientSession, url: str, idle: Any) -> None:
        self._session = session
        self._idle = idle
        self._url = url
        self.answers: list[float] = []
        self.failures = 0
        self.worst: dict[str, float] = {}
        self.jobs: list[dict[str, Any]] = []

    async def figures(self) -> dict[str, float]:
        async with self._session.get(f"{self._url}/figures") as answer:
            told = {**await answer.json(), "control": self._control()}
        for name in ("stall", "stall cpu", "control"):
            told[name] = self.worst[name] = max(told[name], self.worst.get(name, 0.0))
        return told

    def _control(self) -> float:
        """The longest that the idle process was kept waiting since the last time, in milliseconds."""
        self._idle.stdin.write("\n")
        self._idle.stdin.flush()
        return float(self._idle.stdout.readline())

    async def forget(self) -> None:
        """What was measured so far."""
        await self.figures()
        self.worst.clear()
        self.answers.clear()
        self.jobs.clear()

    async def begin_batch(self) -> None:
        async with self._session.post(f"{self._url}/batch") as answer:
            answer.raise_for_status()

    async def job(self, name: str) -> None:
        """Order, and follow the events to the end."""
        headers = {"X-Caller": name}
        begun = time.perf_counter()
        try:
            order = {"json": {"prompt": f"a cat of {name}"}, "headers": headers}
            async with self._session.post(f"{self._url}/generations", **order) as answer:
                answer.raise_for_status()
                told = await answer.json()
            self.answers.append(time.perf_counter() - begun)
            while not told["ended"]:
                told = await self._follow(told, headers)
            self.failures += told["status"] != "completed"
            self.jobs.append(told)
        except (aiohttp.ClientError, TimeoutError):
            self.failures += 1

    async def _follow(self, job: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        async with self._session.get(self._url + job["links"]["events"], headers=headers) as events:
            async for line in events.content:
                if line.startswith(b"data: "):
                    job = json.loads(line[6:])
        return job

    def waits(self, length: float) -> list[float]:
        """From each order to its start, in generation lengths."""
        return [(moment(job["started_at"]) - moment(job["created_at"])) / length for job in self.jobs]


async def at_once(length: float) -> dict[str, Any]:
    async with everything(length) as callers:
        await asyncio.gather(*(callers.job("early") for _ in range(3 * LIMIT)))  # the slots are found, lengths learned
        await callers.forget()
        begun = time.perf_counter()
        await asyncio.gather(*(callers.job(f"caller-{place}") for place in range(CALLERS)))
        whole = (time.perf_counter() - begun) / length
        ideal = CALLERS / LIMIT * MEAN_OVER_MEDIAN
        return {"whole": whole, "busy": ideal / whole, **await summary(callers, length)}


async def interactive(length: float, rounds: int) -> dict[str, Any]:
    async with everything(length) as callers:
        await callers.begin_batch()
        await asyncio.sleep(10 * length)  # the slots are found, and full
        await callers.forget()
        before, begun = (await callers.figures())["completed"], time.perf_counter()
        span = rounds * CALLERS * MEAN_OVER_MEDIAN * length / (LIMIT / 2)
        chance = random.Random(0)

        async def somebody(name: str) -> None:
            for place in range(rounds):
                due = begun + span * (place + chance.random()) / rounds
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await callers.job(name)

        await asyncio.gather(*(somebody(f"caller-{place}") for place in range(CALLERS)))
        seconds = time.perf_counter() - begun
        told = await summary(callers, length)
        done = told["completed"] - before
        return {"busy": done * MEAN_OVER_MEDIAN * length / (seconds * LIMIT), **told}


async def on_and_on(jobs: int) -> dict[str, Any]:
    async with everything(0.02) as callers:
        left = iter(range(jobs))
        memory: list[float] = []

        async def somebody(name: str) -> None:
            for place in left:
                await callers.job(name)
                if place in (jobs // 3, jobs - 1):
                    memory.append((await callers.figures())["memory"])

        begun = time.perf_counter()
        await asyncio.gather(*(somebody(f"caller-{place}") for place in range(CALLERS)))
        rate = jobs / (time.perf_counter() - begun)
        return {"rate": rate, "growth": memory[-1] - memory[0], **await summary(callers, 0.02)}


async def summary(callers: Callers, length: float) -> dict[str, Any]:
    figures = await callers.figures()
    waits, answers = sorted(callers.waits(length)), sorted(callers.answers)
    return {
        **figures,
        "jobs": len(callers.jobs),
        "failures": callers.failures,
        "answer p50": 1000 * quantile(answers, 0.5),
        "answer p99": 1000 * quantile(answers, 0.99),
        "wait p50": quantile(waits, 0.5),
        "wait p99": quantile(waits, 0.99),
    }


# ---- processes


@asynccontextmanager
async def everything(length: float) -> AsyncIterator[Callers]:
    """The emulator, the application on it, and the callers' connections."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running("serving.emulated", LIMIT, length) as emulator,
        running("serving.watching") as idle,
    ):
        url = emulator.stdout.readline().strip()
        port = free_port()
        environment = {"NANO_BANANA_API_KEY": "nb_bench", "NANO_BANANA_BASE_URL": url}
        with running("serving.application", port, folder, **environment):
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=600)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                callers = Callers(session, f"http://127.0.0.1:{port}", idle)
                await started(callers)
                yield callers


@contextmanager
def running(module: str, *arguments: object, **environment: str) -> Iterator[Any]:
    """A process that is there while the block runs."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=HERE, env=os.environ | environment, **pipes)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


async def started(callers: Callers) -> None:
    for _ in range(600):
        with suppress(aiohttp.ClientConnectorError):
            await callers.figures()
            return
        await asyncio.sleep(0.05)
    raise SystemExit("the application did not start")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# ---- figures


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


COLUMNS = "jobs|failures|busy|answer p50|answer p99|wait p50|wait p99|stall|stall cpu|control|memory|growth|refusals"
UNITS = "|| %| ms| ms| L| L| ms| ms| ms| MB| MB|"


def table(rows: dict[str, dict[str, Any]]) -> str:
    columns = COLUMNS.split("|")
    units = UNITS.split("|")
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [cell(row.get(column), unit) for column, unit in zip(columns, units, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == " %":
        return f"{100 * value:.0f} %"
    return f"{value:.2f}{unit}" if unit == " L" else f"{value:.1f}{unit}" if unit else f"{value:.0f}"


def complaints(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What is worse than promised. Where an idle process was kept waiting too, only the CPU's part counts."""
    found = [
        f"{name}: {row['failures']} not answered or not completed" for name, row in rows.items() if row["failures"]
    ]
    if (wait := rows["interactive"]["wait p99"]) >= MOST_WAIT:
        found.append(f"interactive p99 wait {wait:.2f} lengths")
    for name, row in rows.items():
        stall = row["stall"] if row["control"] < NOISE else row["stall cpu"]
        if stall >= MOST_STALL:
            found.append(f"{name}: the loop stalled for {stall:.0f} ms")
    if (growth := rows["on and on"]["growth"]) >= MOST_GROWTH:
        found.append(f"memory grew by {growth:.1f} MB")
    return found


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--length", type=float, default=0.5, help="median seconds of a generation")
    options.add_argument("--rounds", type=int, default=2, help="jobs of each interactive caller")
    options.add_argument("--jobs", type=int, default=3000, help="jobs of the last row")
    options.add_argument("--json", action="store_true")
    options.add_argument("--check", action="store_true")
    chosen = options.parse_args()
    rows = {
        "at once": await at_once(chosen.length),
        "interactive": await interactive(chosen.length, chosen.rounds),
        "on and on": await on_and_on(chosen.jobs),
    }
    print(json.dumps(rows, indent=1) if chosen.json else table(rows))
    if chosen.check and (found := complaints(rows)):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    asyncio.run(main())
