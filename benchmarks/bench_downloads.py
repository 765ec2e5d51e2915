"""Links to files beside curl and aria2c. Run: python benchmarks/bench_downloads.py [--check]

One file of 1 GiB, and 5,000 of 200 KB with 16 at once; on a disk (TMPDIR chooses it) and in memory (/dev/shm); with
fsync and without, which is what the others do. Ours checks length and first bytes, can resume, and renames into place.
Figures are wall time, so the machine should be quiet; ratios are to curl in the same round.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial

from measuring.downloaders import (
    ARIA,
    AT_ONCE,
    CURL,
    KINDS,
    MANY_BYTES,
    ONE_BYTES,
    OURS,
    OURS_SYNCED,
    PLACES,
    name_of,
)
from measuring.report import Table, options_of
from measuring.rounds import alternate, contending, figures, ratios, serving

MANY = 5000
LEAST_OF_CURL = {("one", "disk"): 0.95, ("one", "memory"): 0.85, ("many", "disk"): 0.85, ("many", "memory"): 0.5}
MOST_PEAK = 60  # MB


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
    names = {kind: f"downloaders:{name_of(kind, place)}" for kind in KINDS}
    with serving() as server, contending(list(names.values()), server) as contenders:
        there = {kind: name for kind, name in names.items() if name in contenders}
        for what in ("many", "one"):
            count = max(AT_ONCE, int(MANY * options.share)) if what == "many" else 1
            work = {"what": what, "count": count, "at_once": AT_ONCE, "warm": 1 if what == "many" else 0}
            rounds = alternate(contenders, options.rounds, partial(_same, work))
            size = count * (MANY_BYTES if what == "many" else ONE_BYTES)
            wall, cpu, peak = (figures(rounds, figure) for figure in ("wall", "cpu", "peak"))
            speed = ratios(rounds, names[CURL], "wall") if CURL in there else {}
            yield {
                "what": what,
                "place": place,
                "mb_s": {kind: size / 1e6 / wall[name].median for kind, name in there.items()},
                "spread": {kind: wall[name].spread for kind, name in there.items()},
                "to_curl": {kind: 1 / speed[name].median for kind, name in there.items() if speed},
                "cpu_s_gb": {kind: cpu[name].median * count / 1e6 / (size / 1e9) for kind, name in there.items()},
                "peak_mb": {kind: peak[name].median for kind, name in there.items()},
            }


def _same(work: dict, _name: str) -> dict:
    return work


def check(rows: list[dict]) -> Iterator[str]:
    """What is under the bar."""
    for row in rows:
        where, speed = f"{row['what']} {row['place']}", row["mb_s"]
        least = LEAST_OF_CURL[row["what"], row["place"]]
        if row["to_curl"] and row["to_curl"][OURS] < least:
            yield f"{where}: {row['to_curl'][OURS]:.2f} x curl, wanted {least}"
        if ARIA in speed and row["what"] == "many" and speed[OURS] < speed[ARIA]:
            yield f"{where}: {speed[OURS]:.0f} MB/s, aria2c {speed[ARIA]:.0f}"
        for kind in (OURS, OURS_SYNCED):
            if row["peak_mb"][kind] > MOST_PEAK:
                yield f"{where}: {kind} took {row['peak_mb'][kind]:.0f} MB at its peak, wanted {MOST_PEAK}"


def tell(rows: list[dict], misses: list[str]) -> None:
    table = Table("MB/s (to curl) CPU s/GB", *(f"{row['what']}, {row['place']}" for row in rows))
    for kind in rows[0]["mb_s"]:
        table.add(kind, *(cell_of(kind, row) for row in rows))
    table.add("our peak MB", *(f"{row['peak_mb'][OURS_SYNCED]:.0f}" for row in rows))
    table.print()
    for miss in misses:
        print(f"MISSED {miss}")


def cell_of(kind: str, row: dict) -> str:
    ratio = f" ({row['to_curl'][kind]:.2f})" if row["to_curl"] else ""
    return f"{row['mb_s'][kind]:.0f} ±{row['spread'][kind]:.0%}{ratio} {row['cpu_s_gb'][kind]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
