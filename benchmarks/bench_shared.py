"""Several processes on one account through a shared limiter: slots busy, refusals, kills, outages.

Run: python benchmarks/bench_shared.py [--store sqlite|redis]... [--case NAME]... [--jobs 400] [--check]

Cases: steady; killed (two of the four processes, in the middle; their batches are run again); stopped (Redis, for
10 s); flushed (Redis, in the middle). Four processes, limit 4. The service is the emulator, in this process, and its
ledger is what counts. A generation takes half a second in the median. Prints a JSON line a case; with --check it exits
with 1 when a case ends under its bar.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integrations"))

from processes import Findings, Nursery, Work, ended, find, is_settled
from servers import RedisServer

from nanobanana_async.emulator import Emulator

LIMIT = PROCESSES = 4
STOPPED_SECONDS = 10.0
CASES = {"sqlite": ("steady", "killed"), "redis": ("steady", "killed", "stopped", "flushed")}


async def run(store: str, case: str, options: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, object]:
    """One case."""
    server = stack.enter_context(RedisServer()) if store == "redis" else None
    place = server.url if server is not None else str(folder / "slots.db")
    emulator = Emulator(limit=LIMIT, duration=options.duration, image_size=48, image_format="png", credits=10_000)
    began = time.monotonic()
    async with Nursery() as nursery, emulator, asyncio.timeout(1800):
        works = [
            Work(store=place, url=emulator.url, folder=str(folder / f"batch{number}"), rows=options.jobs // PROCESSES)
            for number in range(PROCESSES)
        ]
        workers = await nursery.start(*works)
        if case != "steady":
            await emulator.until(lambda: emulator.ledger.charges >= options.jobs // 4)
        if case == "killed":
            await emulator.until(lambda: is_settled(emulator.ledger, LIMIT))  # else one may be left in doubt, rightly
            for worker in workers[:2]:
                worker.kill()
            await emulator.until(lambda: emulator.ledger.charges >= options.jobs // 3)
            workers = [*workers[2:], *await nursery.start(*works[:2])]
        elif case == "stopped":
            server.stop()
            await asyncio.sleep(STOPPED_SECONDS)
            server.start()
        elif case == "flushed":
            server.run("FLUSHALL")
        await ended(workers)
        found = find(emulator.ledger, LIMIT, [work.folder for work in works])
    return {
        "store": store,
        "case": case,
        "seconds": round(time.monotonic() - began, 1),
        "ok": is_good(found, case, options.jobs),
        **{name: getattr(found, name) for name in found.__slots__},
        "busy": round(found.busy, 3),
    }


def is_good(found: Findings, case: str, jobs: int) -> bool:
    """Whether the case is over its bar."""
    kept = found.peak <= LIMIT and not found.charged_twice and found.charged == jobs
    told = found.statuses["stored"] == jobs
    busy = case != "steady" or (found.busy >= 0.9 and found.refusals < jobs / 50)
    return kept and told and busy


async def main(options: argparse.Namespace) -> int:
    good = True
    for store in options.store or CASES:
        for case in CASES[store]:
            if not options.case or case in options.case:
                with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
                    result = await run(store, case, options, Path(name), stack)
                print(json.dumps(result), flush=True)
                good = good and bool(result["ok"])
    return 0 if good or not options.check else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", action="append", choices=CASES)
    parser.add_argument("--case", action="append")
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--duration", type=float, default=0.5)
    parser.add_argument("--check", action="store_true")
    raise SystemExit(asyncio.run(main(parser.parse_args())))
