"""A batch whose answers to submissions are slow: how busy its slots are. Run: python benchmarks/bench_answers.py

A batch keeps one submission unanswered at a time, so that the balance can judge a lost answer, and lets the others pass
where slots would stay empty. Beside it `map`, which sends as it can, and a batch that lets nobody pass. Shares are of
the time in which every slot is busy: filling the slots, draining them, and the answers' own time are missing from 1.
In real time: five minutes. `--check` fails where the batch takes more than a sixth longer than `map`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from measuring.report import Table

from nanobanana_async import Client
from nanobanana_async.batch import BatchRunner, Patience
from nanobanana_async.emulator import Emulator

LEAST_OF_MAP = 0.85
ROUNDS_OF_SLOTS = 4


@dataclass(frozen=True)
class Case:
    """An account's slots, and the seconds of its generations and answers."""

    limit: int
    length: float
    answer: float


CASES = (Case(4, 2.0, 0.2), Case(20, 4.0, 0.5), Case(40, 4.0, 1.0))


async def in_batch(client: Client, prompts: list[str], patience: Patience) -> None:
    """The rows of a batch, with its journal."""
    with tempfile.TemporaryDirectory() as folder:
        async with BatchRunner(client, Path(folder), patience=patience) as batch:
            await batch.add(prompts)
            assert (await batch.run()).all_stored


async def through_map(client: Client, prompts: list[str]) -> None:
    """The same without a journal or files."""
    async with client.map(prompts) as outcomes:
        async for outcome in outcomes:
            assert outcome.generation is not None


WAYS: dict[str, Callable[[Client, list[str]], Awaitable[None]]] = {
    "batch": partial(in_batch, patience=Patience()),
    "map": through_map,
    "one at a time": partial(in_batch, patience=Patience(overtake_delay=Patience().answer_timeout)),
}


async def busy(case: Case, way: str) -> float:
    """Do the work, and tell which share of the slots' time it used."""
    prompts = [f"cat {number}" for number in range(ROUNDS_OF_SLOTS * case.limit)]
    world = {"limit": case.limit, "duration": case.length, "latency": case.answer, "sigma": 0.2, "image_size": 48}
    async with (
        Emulator(**world, image_format="png") as emulator,
        Client("nb_bench", base_url=emulator.url) as client,
    ):
        began = time.monotonic()
        await WAYS[way](client, prompts)
        assert emulator.ledger.charges == len(prompts)
        return ROUNDS_OF_SLOTS * case.length / (time.monotonic() - began)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    rows = [{**asdict(case), "busy": {way: await busy(case, way) for way in WAYS}} for case in CASES]
    ratios = {row["limit"]: row["busy"]["batch"] / row["busy"]["map"] for row in rows}
    misses = [f"{slots} slots: {ratio:.2f} of map" for slots, ratio in ratios.items() if ratio < LEAST_OF_MAP]
    if options.json:
        print(json.dumps({"rows": rows, "misses": misses}))
        return 1 if options.check and misses else 0
    table = Table("slots", "generation, s", "answer, s", *WAYS)
    for row in rows:
        world = (f"{row[name]:g}" for name in ("limit", "length", "answer"))
        table.add(*world, *(f"{row['busy'][way]:.2f}" for way in WAYS))
    table.print()
    for miss in misses:
        print(f"MISSED {miss}")
    return 1 if options.check and misses else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
