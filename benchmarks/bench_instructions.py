"""Instructions of a whole job, by valgrind: the same every time, however busy the machine is.

Run: python benchmarks/bench_instructions.py [--jobs N] [--json] [--check]. Six minutes.

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
from pathlib import Path

from measuring.jobbers import BARE, OURS, OURS_BATCH, OURS_UNSYNCED, name_of
from measuring.jobbers import LOOKS as LOOKS_A_JOB
from measuring.report import Table
from measuring.rounds import serving

HERE = Path(__file__).parent
AT_ONCE = 32
IMAGE_BYTES = 200_000
MOST_OVER_BARE = {OURS: 1.3, OURS_UNSYNCED: 1.3, OURS_BATCH: 1.6}


def main() -> int:
    options = parse()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed", file=sys.stderr)
        return 2
    with serving() as server:
        server.set(looks=LOOKS_A_JOB, limit=AT_ONCE, image_bytes=IMAGE_BYTES)
        each = {kind: instructions(kind, server.origin, options.jobs) for kind in (BARE, *MOST_OVER_BARE)}
    to_bare = {kind: count / each[BARE] for kind, count in each.items()}
    if options.json:
        print(json.dumps({"instructions": each, "to_bare": to_bare}))
    else:
        table = Table("a job, 32 at once, in memory", "million instructions", "over the bare loop")
        for kind, count in each.items():
            table.add(kind, f"{count / 1e6:.2f}", f"{to_bare[kind]:.2f}")
        table.print()
    misses = [
        f"{kind}: {to_bare[kind]:.2f}, wanted {most}" for kind, most in MOST_OVER_BARE.items() if to_bare[kind] > most
    ]
    for miss in misses:
        print(f"MISSED {miss}", file=sys.stderr)
    return 1 if options.check and misses else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="in the short run; the long one has three times as many")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


def instructions(kind: str, origin: str, jobs: int) -> float:
    """Of one job."""
    name = f"jobbers:{name_of(kind, 'memory')}"
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
