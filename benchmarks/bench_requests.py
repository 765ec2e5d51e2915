"""CPU time of one request: ours, bare aiohttp's, the peers'. Run: python benchmarks/bench_requests.py [--check]

A look at a generation (GET, answer parsed) and a submission (POST), at 1, 32 and 256 at once, against a canned server
in another process. Every contender has a process of its own and they take turns; a ratio is to bare aiohttp with its
JSON parsed, in the same round. `pip install 'nanobanana_async[bench]'` brings the peers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial

from measuring.report import Table, options_of
from measuring.requesters import CONTENDERS
from measuring.rounds import alternate, contending, figures, ratios, serving

AT_ONCE = (1, 32, 256)
COUNTS = {1: 600, 32: 1500, 256: 2000}
US, BARE = "requesters:nanobanana_async", "requesters:aiohttp"
PEERS = ("requesters:openai", "requesters:fal-client", "requesters:replicate")
MOST_OVER_BARE = 1.25
LEAST_UNDER_PEERS = 5.0  # at 32
PEERS_SHARE = 0.2
ROOMY = 1_000_000_000  # slots: submissions are never looked at, so each keeps its own


def main() -> int:
    options = parse()
    rows = list(measure(options))
    misses = list(check(rows))
    if options.json:
        print(json.dumps({"rows": rows, "misses": misses}))
    else:
        tell(rows, misses)
    return 1 if options.check and misses else 0


def parse() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("--only", default="", help="only contenders with this in their name, beside us and aiohttp")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> Iterator[dict]:
    """A row for each request and number at once."""
    every = (f"requesters:{name}" for name in CONTENDERS)
    names = [name for name in every if options.only in name or name in (US, BARE)]
    with serving() as server, contending(names, server) as contenders:
        server.set(limit=ROOMY)
        for what in ("get", "post"):
            for at_once in AT_ONCE:
                work = partial(work_of, what, at_once, options.share)
                rounds = alternate(contenders, options.rounds, work)
                cpu, to_bare = figures(rounds, "cpu"), ratios(rounds, BARE, "cpu")
                yield {
                    "what": what,
                    "at_once": at_once,
                    "cpu_us": {_short(name): figure.median for name, figure in cpu.items()},
                    "spread": {_short(name): figure.spread for name, figure in cpu.items()},
                    "to_aiohttp": {_short(name): figure.median for name, figure in to_bare.items()},
                    "to_us": {_short(n): f.median for n, f in ratios(rounds, US, "cpu").items()},
                }


def work_of(what: str, at_once: int, share: float, name: str) -> dict:
    """One turn. Who takes ten times as long does a fifth of it, so that all is over in two minutes."""
    count = COUNTS[at_once] * share * (1 if name in (US, BARE) else PEERS_SHARE)
    return {"what": what, "count": max(at_once, int(count)), "at_once": at_once}


def check(rows: list[dict]) -> Iterator[str]:
    """What is over the bar."""
    for row in rows:
        name, ratio = f"{row['what']} at {row['at_once']}", row["to_aiohttp"][_short(US)]
        if ratio > MOST_OVER_BARE:
            yield f"{name}: {ratio:.2f} x aiohttp, wanted {MOST_OVER_BARE}"
        for peer in map(_short, PEERS):
            if row["at_once"] == 32 and peer in row["to_us"] and row["to_us"][peer] < LEAST_UNDER_PEERS:
                yield f"{name}: {peer} takes {row['to_us'][peer]:.1f} x ours, wanted {LEAST_UNDER_PEERS}"


def tell(rows: list[dict], misses: list[str]) -> None:
    table = Table("CPU µs a request", *(f"{row['what']} at {row['at_once']}" for row in rows))
    for name in rows[0]["cpu_us"]:
        table.add(name, *(cell_of(name, row) for row in rows))
    table.print()
    print("in brackets: over bare aiohttp of the same round")
    for miss in misses:
        print(f"MISSED {miss}")


def cell_of(name: str, row: dict) -> str:
    return f"{row['cpu_us'][name]:.0f} ±{row['spread'][name]:.0%} ({row['to_aiohttp'][name]:.2f})"


def _short(name: str) -> str:
    return name.partition(":")[2]


if __name__ == "__main__":
    sys.exit(main())
