"""CPU time of a whole job: ours, and a bare loop's that makes the same requests. Run: python benchmarks/bench_jobs.py

A job is a POST, four looks and 200 KB to a file. Ours has everything on; its looks are learned and paced. "batch" adds
the journal, synced before and after every POST. On a disk (TMPDIR chooses it) and in memory (/dev/shm).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial

from measuring.jobbers import BARE, LOOKS, OURS, OURS_BATCH, OURS_UNSYNCED, PLACES, name_of
from measuring.report import Table, options_of
from measuring.rounds import alternate, contending, figures, ratios, serving

AT_ONCE = (1, 32)
COUNTS = {1: 25, 32: 480}
IMAGE_BYTES = 200_000
MOST_OVER_BARE = {OURS: 1.3, OURS_UNSYNCED: 1.3, OURS_BATCH: 1.6}


def main() -> int:
    options = options_of(__doc__).parse_args()
    rows = [row for place in PLACES for row in measure(options, place)]
    misses = list(check(rows))
    if options.json:
        print(json.dumps({"rows": rows, "misses": misses}))
    else:
        tell(rows, misses)
    return 1 if options.check and misses else 0


def measure(options: argparse.Namespace, place: str) -> Iterator[dict]:
    names = [f"jobbers:{name_of(kind, place)}" for kind in (BARE, *MOST_OVER_BARE)]
    with serving() as server, contending(names, server) as contenders:
        for at_once in AT_ONCE:
            server.set(looks=LOOKS, limit=at_once, image_bytes=IMAGE_BYTES)
            work = {"what": "job", "count": max(at_once, int(COUNTS[at_once] * options.share)), "at_once": at_once}
            rounds = alternate(contenders, options.rounds, partial(_same, work | {"warm": 6}))
            cpu, to_bare = figures(rounds, "cpu"), ratios(rounds, names[0], "cpu")
            yield {
                "place": place,
                "at_once": at_once,
                "cpu_ms": {kind: cpu[name].median / 1000 for kind, name in zip(KINDS, names, strict=True)},
                "spread": {kind: cpu[name].spread for kind, name in zip(KINDS, names, strict=True)},
                "to_bare": {kind: to_bare[name].median for kind, name in zip(KINDS, names, strict=True)},
            }


KINDS = (BARE, *MOST_OVER_BARE)


def _same(work: dict, _name: str) -> dict:
    return work


def check(rows: list[dict]) -> Iterator[str]:
    """What is over the bar."""
    for row in rows:
        for kind, most in MOST_OVER_BARE.items():
            if row["to_bare"][kind] > most:
                where = f"{row['at_once']} at once, {row['place']}"
                yield f"{kind}, {where}: {row['to_bare'][kind]:.2f} x {BARE}, wanted {most}"


def tell(rows: list[dict], misses: list[str]) -> None:
    table = Table("CPU ms a job", *(f"{row['at_once']} at once, {row['place']}" for row in rows))
    for kind in KINDS:
        cells = (f"{row['cpu_ms'][kind]:.2f} ±{row['spread'][kind]:.0%} ({row['to_bare'][kind]:.2f})" for row in rows)
        table.add(kind, *cells)
    table.print()
    print("in brackets: over the bare loop of the same round")
    for miss in misses:
        print(f"MISSED {miss}")


if __name__ == "__main__":
    sys.exit(main())
