"""CPU time of a whole job: ours, and a bare loop's that makes the same requests. Run: python benchmarks/bench_jobs.py

A job is a POST, four looks and 200 KB to a file. Ours has everything on; its looks are learned and paced. "batch" adds
the journal, synced before and after every POST. On a disk (TMPDIR chooses it) and in memory (/dev/shm).

All of it takes eight minutes, `--quick` one: 32 at once only, five short rounds.
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
COUNTS = {1: 50, 32: 1440}
IMAGE_BYTES = 200_000
MOST_OVER_BARE = {OURS: 1.3, OURS_UNSYNCED: 1.3, OURS_BATCH: 1.6}


def main() -> int:
    options = parse()
    rows = []
    for place in options.places:
        for row in measure(options, place):
            rows.append(row)
            print(f"{place}, {row['at_once']} at once: {told(row)}", file=sys.stderr, flush=True)
    misses = list(check(rows))
    if options.json:
        print(json.dumps({"rows": rows, "misses": misses}))
    else:
        tell(rows, misses)
    return 1 if options.check and misses else 0


def parse() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="32 at once only, five rounds of a ninth of the work")
    parser.add_argument("--places", nargs="+", choices=list(PLACES), default=list(PLACES))
    options = parser.parse_args()
    options.at_once = AT_ONCE
    if options.quick:
        options.at_once, options.rounds, options.share = AT_ONCE[-1:], 5, 0.11
    return options


def told(row: dict) -> str:
    """A row's ratios, while the others are still being measured."""
    return ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in row["to_bare"].items())


def measure(options: argparse.Namespace, place: str) -> Iterator[dict]:
    names = [f"jobbers:{name_of(kind, place)}" for kind in (BARE, *MOST_OVER_BARE)]
    with serving() as server, contending(names, server) as contenders:
        for at_once in options.at_once:
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
