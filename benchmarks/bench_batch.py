"""A million jobs through `map`, and through a batch with its journal and files. Run: python benchmarks/bench_batch.py

What may grow: the memory from the first 10,000 jobs to the last, and the work for a job. A job is a submission and a
look that finds it ended, and in a batch the journal and a file of 68 bytes besides; nobody waits for the network.

A machine is not equally fast all the time. So when --beside jobs are left, a second process begins with as many jobs
of its own, on the same core, with a server like the first one's: the ratio is the work done for a second of processor
by the old process over that of the young one, which has done its first jobs too, in the same moments.

TMPDIR says where the batch's folder goes; a million files take 5 GB in memory (/dev/shm) and as many inodes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from typing import Any

from measuring.plot import Axis, plot
from measuring.report import Table
from measuring.rounds import WORK_CORE, Figure, child, serving

SLOTS = 64
IMAGE_BYTES = 68
FIRST = 10_000  # jobs after which memory has to stand still
PARTS = 5  # of the time that both processes work in
MOST_GROWTH = {"map": 40.0, "batch": 100.0}  # MB
LEAST_SPEED = 0.95  # at the end, of that at the start

Sample = dict[str, float]


def main() -> int:
    options = parsed()
    rows = [measure(way, options) for way in options.ways]
    misses = list(check(rows))
    if options.plot:
        draw(options.plot, rows)
    if options.json:
        print(json.dumps({"rows": rows, "misses": misses}))
    else:
        tell(rows, misses)
    return 1 if options.check and misses else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--beside", type=int, default=40_000, help="jobs of the second process")
    parser.add_argument("--ways", nargs="+", choices=list(MOST_GROWTH), default=list(MOST_GROWTH))
    parser.add_argument("--plot", type=Path, metavar="STEM", help="write STEM-memory.svg and STEM-speed.svg")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


def measure(way: str, options: argparse.Namespace) -> dict[str, Any]:
    beside = min(options.beside, options.jobs // 2)
    with ThreadPoolExecutor() as reading, marathon(way, options.jobs) as old:
        samples = list(read_until(old, options.jobs - beside))
        with marathon(way, beside) as new:
            rest = reading.submit(lambda: list(read_until(old)))
            young = list(read_until(new))
            samples += rest.result()
    return {"way": way, "jobs": options.jobs, "beside": beside, "samples": samples} | judged(samples, young)


@contextmanager
def marathon(way: str, jobs: int) -> Iterator[Popen[str]]:
    """A process with so many jobs, and a server of its own: they would take each other's slots."""
    with serving() as server:
        server.set(looks=1, limit=SLOTS, image_bytes=IMAGE_BYTES)
        with child(["-m", "measuring.marathon", way, server.origin, str(jobs)], WORK_CORE) as process:
            yield process


def read_until(process: Popen[str], jobs: float = float("inf")) -> Iterator[Sample]:
    """Samples as they come, up to the first one with so many jobs."""
    assert process.stdout is not None
    for line in process.stdout:
        sample = json.loads(line)
        yield sample
        if sample["jobs"] >= jobs:
            return


def judged(old: Sequence[Sample], young: Sequence[Sample]) -> dict[str, float]:
    """Growth in MB since the first jobs, and the speed beside a young process, and beside its own youth."""
    first = next((sample for sample in old if sample["jobs"] >= FIRST), old[0])
    tenth = max(1, len(old) // 10)
    speeds = Figure.of(list(side_by_side(old, young)))
    return {
        "held_mb": first["held_mb"],
        "growth_mb": old[-1]["held_mb"] - first["held_mb"],
        "peak_mb": old[-1]["peak_mb"],
        "cpu_us": 1e6 / speed(first, old[-1]),
        "wall_s": old[-1]["wall"],
        "to_young": speeds.median,
        "spread": speeds.spread,
        "last_tenth_to_first": speed(old[-1 - tenth], old[-1]) / speed(first, old[old.index(first) + tenth]),
    }


def side_by_side(old: Sequence[Sample], young: Sequence[Sample]) -> Iterator[float]:
    """The old one's speed over the young one's, in parts of the time that both work in; the first fifth is left out."""
    begin, end = young[len(young) // 5]["at"], min(old[-1]["at"], young[-1]["at"])
    moments = [begin + (end - begin) * part / PARTS for part in range(PARTS + 1)]
    for from_, to in pairwise(moments):
        yield speed(at(old, from_), at(old, to)) / speed(at(young, from_), at(young, to))


def speed(before: Sample, after: Sample) -> float:
    """Jobs for a second of processor."""
    return (after["jobs"] - before["jobs"]) / (after["cpu"] - before["cpu"])


def at(samples: Sequence[Sample], moment: float) -> Sample:
    """How it stood at a moment between two samples."""
    for before, after in pairwise(samples):
        if before["at"] <= moment <= after["at"] and after["at"] > before["at"]:
            share = (moment - before["at"]) / (after["at"] - before["at"])
            return {name: before[name] + share * (after[name] - before[name]) for name in ("jobs", "cpu")}
    return samples[-1]


def check(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What has grown too much."""
    for row in rows:
        if row["growth_mb"] > MOST_GROWTH[row["way"]]:
            yield f"{row['way']}: {row['growth_mb']:.1f} MB more, allowed {MOST_GROWTH[row['way']]:.0f}"
        if row["to_young"] < LEAST_SPEED:
            yield f"{row['way']}: {row['to_young']:.2f} x as fast as a young process, wanted {LEAST_SPEED}"


def tell(rows: Sequence[dict[str, Any]], misses: Sequence[str]) -> None:
    table = Table(
        "", "jobs", "MB at 10,000", "MB more at the end", "peak MB", "CPU us a job", "speed to a young process"
    )
    for row in rows:
        ratio = f"{row['to_young']:.2f} ±{row['spread']:.0%}"
        sizes = (f"{row[name]:.1f}" for name in ("held_mb", "growth_mb", "peak_mb"))
        table.add(row["way"], f"{row['jobs']:,}", *sizes, f"{row['cpu_us']:.0f}", ratio)
    table.print()
    for miss in misses:
        print(f"MISSED {miss}")


def draw(stem: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Memory, and microseconds of processor a job, against the jobs done."""
    jobs = Axis("jobs done")
    memory = {row["way"]: [(sample["jobs"], sample["held_mb"]) for sample in row["samples"]] for row in rows}
    work = {row["way"]: list(work_of(row["samples"])) for row in rows}
    for name, label, curves in (("memory", "MB held", memory), ("speed", "CPU µs a job", work)):
        path = stem.with_name(f"{stem.name}-{name}.svg")
        path.write_text(plot(f"A million jobs: {label}", jobs, Axis(label), curves))


def work_of(samples: Sequence[Sample]) -> Iterator[tuple[float, float]]:
    for before, after in pairwise(samples):
        if after["jobs"] > before["jobs"]:
            yield after["jobs"], 1e6 / speed(before, after)


if __name__ == "__main__":
    sys.exit(main())
