"""Instructions of a whole job, by valgrind: the same every time, however busy the machine is.

Run: python benchmarks/bench_instructions.py [--jobs N] [--json] [--check]. Six minutes. With --aged 1000000 it counts a
row of a batch of so many beside a row of a short one instead, in four.

The jobs are those of bench_jobs.py, 32 at once, in memory. Counted is what the process executes outside the kernel, all
threads; what a short run takes is subtracted from a long one's, and so imports and first steps. Instructions are not
time: a program that jumps about waits for its memory more often. But a change of one in a hundred can be seen.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from measuring.aged import LEFT, make
from measuring.jobbers import BARE, OURS, OURS_BATCH, OURS_UNSYNCED, name_of
from measuring.jobbers import LOOKS as LOOKS_A_JOB
from measuring.report import Table
from measuring.rounds import serving

Count: TypeAlias = Callable[[str], float]

HERE = Path(__file__).parent
AT_ONCE = 32
IMAGE_BYTES = 200_000
MOST_OVER_YOUNG = 1 / 0.95
MOST_OVER_BARE = {OURS: 1.3, OURS_UNSYNCED: 1.3, OURS_BATCH: 1.6}


def main() -> int:
    options = parse()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed", file=sys.stderr)
        return 2
    with serving() as server:
        server.set(looks=LOOKS_A_JOB, limit=AT_ONCE, image_bytes=IMAGE_BYTES)
        count = partial(instructions, server.origin, options.jobs)
        each, most_over_first = aged(options.aged, count) if options.aged else jobs(count)
    first = next(iter(each))
    over_first = {kind: found / each[first] for kind, found in each.items()}
    if options.json:
        print(json.dumps({"instructions": each, "over_first": over_first}))
    else:
        table = Table("32 at once, in memory", "million instructions", f"over {first}")
        for kind, found in each.items():
            table.add(kind, f"{found / 1e6:.2f}", f"{over_first[kind]:.3f}")
        table.print()
    misses = [
        f"{kind}: {over_first[kind]:.2f}, wanted {most}"
        for kind, most in most_over_first.items()
        if over_first[kind] > most
    ]
    for miss in misses:
        print(f"MISSED {miss}", file=sys.stderr)
    return 1 if options.check and misses else 0


def jobs(count: Count) -> tuple[dict[str, float], dict[str, float]]:
    """Of a job, by contender, and what is allowed over the first."""
    names = (BARE, *MOST_OVER_BARE)
    return {name: count(f"jobbers:{name_of(name, 'memory')}") for name in names}, MOST_OVER_BARE


def aged(rows: int, count: Count) -> tuple[dict[str, float], dict[str, float]]:
    """Of a row, by the batch's length, and what is allowed over the first."""
    names = {f"a row of {length:,}": length for length in (2 * LEFT, rows)}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as parent:
        for length in names.values():
            make(Path(parent, str(length)), length)
        each = {name: count(f"aged:{Path(parent, str(length))}") for name, length in names.items()}
    return each, dict.fromkeys(names, MOST_OVER_YOUNG)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="in the short run; the long one has three times as many")
    parser.add_argument("--aged", type=int, metavar="ROWS", help="count a row of a batch of so many, nearly all done")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


def instructions(origin: str, jobs: int, name: str) -> float:
    """Of one job."""
    return (executed(name, origin, 3 * jobs) - executed(name, origin, jobs)) / (2 * jobs)


def executed(name: str, origin: str, jobs: int) -> int:
    """By a contender's process from its start to its end."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        sys.executable,
        "-m",
        "measuring.contender",
    ]
    work = {"what": "job", "count": jobs, "at_once": AT_ONCE, "warm": 2}
    done = subprocess.run(
        [*command, name, origin],
        input=json.dumps(work) + "\n",
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(HERE), "PYTHONHASHSEED": "0"},
    )
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if collected is None:
        raise RuntimeError(done.stderr)
    return int(collected[1])


if __name__ == "__main__":
    sys.exit(main())
