"""Kill -9 a batch at random moments, and hold the manifest against the service's own book.

Run: python benchmarks/crash_batch.py [--kills 200] [--rows 24] [--limit 4] [--lost 0] [--dropped 0] [--seed 0]

Each batch is killed again and again until it is done; then the next one begins. `--lost` and `--dropped` are the rates
of answers that the network loses, and of POSTs that it drops before the service takes them. Prints a JSON line at the
end, and exits with 1 when a prompt was charged twice, or charged and not told, or more jobs are in doubt than kills and
lost answers explain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "batch"))

from crashing import Findings, Nursery, compare

from nanobanana_async.emulator import Emulator, Fault, FaultPlan

LONGEST = 0.5  # seconds between a start and a kill, at most: about as long as some rows take
AT_ONCE = 3  # batches


class Tally:
    """What all batches together came to."""

    def __init__(self, kills: int) -> None:
        self.kills_left = kills
        self.kills = self.batches = self.doubts = self.charged_twice = self.untold = 0
        self.credits_charged = self.credits_told = self.answers_lost = self.excess_doubts = 0
        self.statuses: Counter[str] = Counter()

    def add(self, findings: Findings, kills: int, answers_lost: int) -> None:
        self.batches += 1
        self.kills += kills
        self.doubts += findings.doubts
        self.answers_lost += answers_lost
        self.excess_doubts += max(0, findings.doubts - kills - answers_lost)  # one submission at a time is unanswered
        self.charged_twice += len(findings.charged_twice)
        self.untold += len(findings.untold)
        self.credits_charged += findings.credits_charged
        self.credits_told += findings.credits_told
        self.statuses += findings.statuses


async def crash_one(nursery: Nursery, folder: Path, options: argparse.Namespace, seed: int, tally: Tally) -> None:
    """One batch, killed until it is done."""
    chance = random.Random(seed)
    faults = (Fault("submit", "reset_after", rate=options.lost), Fault("submit", "reset_before", rate=options.dropped))
    service = {"limit": options.limit, "duration": 0.05, "latency": 0.005, "image_size": 48, "image_format": "png"}
    async with Emulator(**service, faults=FaultPlan(*faults, seed=seed)) as emulator:
        kills = 0
        while await nursery.crash(folder, emulator.url, options.rows, after=chance.uniform(0, LONGEST)):
            kills += 1
        tally.add(compare(folder, emulator.ledger), kills, emulator.faults.fired["submit:reset_after"])
        tally.kills_left -= kills


async def main(options: argparse.Namespace) -> int:
    tally, seeds, began = Tally(options.kills), iter(range(options.seed, 1 << 30)), time.monotonic()

    async def crash_on(nursery: Nursery, folder: Path) -> None:
        while tally.kills_left > 0:
            seed = next(seeds)
            await crash_one(nursery, folder / str(seed), options, seed, tally)

    with tempfile.TemporaryDirectory() as name:
        async with Nursery() as nursery:
            await asyncio.gather(*(crash_on(nursery, Path(name)) for _ in range(AT_ONCE)))
    told = {name: value for name, value in vars(tally).items() if name != "kills_left"}
    print(json.dumps({**told, "seconds": round(time.monotonic() - began, 1)}))
    return 1 if tally.charged_twice or tally.untold or tally.excess_doubts else 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--lost", type=float, default=0.0)
    parser.add_argument("--dropped", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(read_options())))
