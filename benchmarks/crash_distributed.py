"""Kill, stop and add workers of a distributed batch, and hold its manifest against the service's own book.

Run: python benchmarks/crash_distributed.py [--rows 1000] [--workers 3] [--kills 1] [--adds 1] [--pauses 0] [--stops 0]
     [--flushes 0] [--random] [--limit 16] [--duration 0.2] [--seed 0] [--check]

Workers are processes, Redis is a real one, and the service is the emulator. Each kill is a SIGKILL at a moment when the
worker waits for no answer to a submission; with `--random` at any moment, where at most one answer is lost with
it. A pause stops a worker (SIGSTOP) for longer than its lease, while others take its shards over. A stop kills Redis
(which keeps an append-only file) and starts it 10 s later; a flush empties it. Prints a JSON line; with `--check` it
exits with 1 when a prompt was charged twice, charged and not told, not stored without a doubt, more rows are in doubt
than kills and pauses explain, or more generations than the limit ran at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integrations"))

from draining import Findings, Nursery, compare, coordinated
from servers import RedisServer

from nanobanana_async.emulator import Emulator, Ledger

STOP_SECONDS = 10.0
PAUSE_SECONDS = (5.5, 9.0)  # the workers' leases last 5 s here, and answers another


async def disturb(nursery: Nursery, redis: RedisServer, ledger: Ledger, options: argparse.Namespace) -> None:
    """Kill, add and stop workers, and Redis, spread over the batch by what the service has charged."""
    chance = random.Random(options.seed)
    events = ["kill"] * options.kills + ["add"] * options.adds + ["pause"] * options.pauses
    events += ["stop"] * options.stops + ["flush"] * options.flushes
    chance.shuffle(events)
    moments = sorted(chance.uniform(0.1, 0.8) * options.rows for _ in events)
    pauses: list[asyncio.Task[None]] = []
    for event, moment in zip(events, moments, strict=True):
        await ledger.until(lambda moment=moment: ledger.credits_charged >= moment)
        await asyncio.sleep(chance.uniform(0, 0.03))
        if event == "add":
            await nursery.start()
            continue
        if event == "stop":
            redis.stop()
            await asyncio.sleep(STOP_SECONDS)
            await asyncio.to_thread(redis.start)
            continue
        if event == "flush":
            redis.run("FLUSHALL")
            continue
        pid = chance.choice(nursery.alive)
        if event == "pause":
            pauses.append(asyncio.create_task(pause(nursery, pid, chance.uniform(*PAUSE_SECONDS))))
        elif options.random:
            await nursery.kill(pid)
        else:
            await nursery.kill_between_submissions(pid)
        if not nursery.alive:
            await nursery.start()
    await asyncio.gather(*pauses)


async def pause(nursery: Nursery, pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        if pid in nursery.alive:
            os.kill(pid, signal.SIGCONT)


async def main(options: argparse.Namespace) -> int:
    began = time.monotonic()
    service = {"limit": options.limit, "duration": options.duration, "latency": 0.005, "image_size": 48}
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with tempfile.TemporaryDirectory() as name, RedisServer(*durable) as redis:
        folder = Path(name) / "out"
        async with (
            Emulator(**service, image_format="png", credits=10 * options.rows, seed=options.seed) as emulator,
            Nursery(redis.url, emulator.url) as nursery,
        ):
            await asyncio.gather(*(nursery.start() for _ in range(options.workers)))
            async with coordinated(redis.url, emulator.url, folder, most_seconds=None) as batch:
                await batch.add(f"cat {number}" for number in range(options.rows))
                disturbing = asyncio.create_task(disturb(nursery, redis, emulator.ledger, options))
                summary = await batch.run()
                disturbing.cancel()
                await asyncio.wait((disturbing,))
                if not disturbing.cancelled() and (error := disturbing.exception()) is not None:
                    raise error
                codes = [await nursery.end(pid) for pid in list(nursery.alive)]
                await nursery.start()
                summary = await batch.run()  # takes over what a worker that slept told when all was over
                codes += [await nursery.end(pid) for pid in list(nursery.alive)]
            found = compare(folder, emulator.ledger)
            peak = emulator.ledger.peak_active
    told = {
        **{name: getattr(found, name) for name in Findings.__slots__ if name not in ("charged_twice", "untold")},
        "charged_twice": len(found.charged_twice),
        "untold": len(found.untold),
        "peak": peak,
        "left_well": codes.count(0),
        "stopped_by": None if summary.stopped_by is None else str(summary.stopped_by),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(told))
    return int(options.check and not (passed(found, options) and peak <= options.limit and not any(codes)))


def passed(found: Findings, options: argparse.Namespace) -> bool:
    explained = options.pauses + (options.kills if options.random else 0)
    return (
        not found.charged_twice
        and not found.untold
        and found.doubts <= explained
        and found.statuses["stored"] + found.doubts == options.rows
        and found.files == found.statuses["stored"]
        and found.credits_charged - found.statuses["uncertain"] <= found.credits_told <= found.credits_charged
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 1000), ("workers", 3), ("kills", 1), ("adds", 1), ("pauses", 0), ("stops", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--flushes", type=int, default=0)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--duration", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(read_options())))
