"""How the cost of a job grows with those that wait, that run, and that the journal holds. Run: python bench_scale.py

Nothing may grow faster than the number of jobs, so what one of them costs has to stay nearly the same: --check fails
where it costs more than 1.5 times as much among the most as among a hundred (a thousand in the journal).

And 10,000 generations at once on one loop: how late a task that sleeps 5 ms comes back, while the slots fill and once
they are full, and how many looks there are a second with a ceiling of 500. What is late while they fill is Python's
garbage collector, which goes through all objects whenever they have become a quarter more; "few collections" is the
same with gc.set_threshold(700, 10, 1000).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring.plot import Axis, plot
from measuring.report import Table, options_of
from measuring.rounds import WORK_CORE, Figure, Server, child, serving

NUMBERS = {
    "waiting": (1, 100, 10_000, 100_000, 1_000_000),
    "running": (1, 10, 100, 1000, 10_000),
    "journal": (1000, 10_000, 100_000, 1_000_000),
}
TITLES = {"waiting": "jobs waiting", "running": "jobs running at once", "journal": "rows in the journal"}
SLOTS = {"waiting": 32, "journal": None}
REFERENCE = {"waiting": 100, "running": 100, "journal": 1000}
MOST_GROWTH = 1.5
AT_ONCE, SECONDS, POLLS = 10_000, 10.0, 500.0
MANY_LOOKS = 1000  # a generation's, so that all run until the end
MOST_LATE = 20.0  # ms, of the 99th of a hundred naps
MOST_POLLS = 1.05  # of what was set

Found = Mapping[int, Mapping[str, Figure]]


def main() -> int:
    parser = options_of(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--most", type=int, default=1_000_000, help="leave out larger numbers")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG")
    options = parser.parse_args()
    with serving() as server:
        found = {what: sweep(what, server, options) for what in NUMBERS}
        stalls = {kind: crowd(server, kind) for kind in ("", "few")}
    misses = [*check(found), *check_stalls(stalls[""])]
    if options.plot:
        options.plot.write_text(picture(found))
    if options.json:
        print(json.dumps({"rows": plainly(found), "crowd": stalls, "misses": misses}))
    else:
        tell(found, stalls, misses)
    return 1 if options.check and misses else 0


def sweep(what: str, server: Server, options: argparse.Namespace) -> Found:
    """By number: the median of each figure, the numbers taking turns."""
    numbers = [number for number in NUMBERS[what] if number <= options.most]
    rounds = [{number: once(what, number, server) for number in numbers} for _ in range(options.rounds)]
    names = rounds[0][numbers[0]]
    return {
        number: {name: Figure.of([round_[number][name] for round_ in rounds]) for name in names} for number in numbers
    }


def once(what: str, number: int, server: Server) -> dict[str, float]:
    server.set(looks=1, limit=SLOTS.get(what, number))
    return told_by(["-m", "measuring.scaling", what, server.origin, str(number)])


def crowd(server: Server, kind: str) -> dict[str, Any]:
    server.set(looks=MANY_LOOKS, limit=AT_ONCE)
    return told_by(["-m", "measuring.stalls", server.origin, str(AT_ONCE), str(SECONDS), str(POLLS), *kind.split()])


def told_by(arguments: list[str]) -> dict[str, Any]:
    with child(arguments, WORK_CORE) as process:
        told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    return json.loads(told)


def growth(found: Found, reference: int) -> float:
    """What a job costs among the most, over the reference."""
    return found[max(found)]["cpu_us"].median / found[reference]["cpu_us"].median


def check(found: Mapping[str, Found]) -> Iterator[str]:
    """What has grown too much."""
    for what, of in found.items():
        times = growth(of, REFERENCE[what])
        if times > MOST_GROWTH:
            yield f"{max(of):,} {TITLES[what]}: a job costs {times:.2f} times as much, wanted {MOST_GROWTH}"


def check_stalls(told: Mapping[str, Any]) -> Iterator[str]:
    if told["full"]["p99"] > MOST_LATE:
        yield f"{AT_ONCE:,} running: {told['full']['p99']:.0f} ms late, wanted {MOST_LATE:.0f}"
    if told["looks_a_second"] > MOST_POLLS * POLLS:
        yield f"{AT_ONCE:,} running: {told['looks_a_second']:.0f} looks a second, set were {POLLS:.0f}"


def plainly(found: Mapping[str, Found]) -> dict[str, dict[int, dict[str, float]]]:
    return {
        what: {number: {name: figure.median for name, figure in row.items()} for number, row in of.items()}
        for what, of in found.items()
    }


def tell(found: Mapping[str, Found], stalls: Mapping[str, Mapping[str, Any]], misses: Sequence[str]) -> None:
    for what, of in found.items():
        table = Table(TITLES[what], *(f"{number:,}" for number in of))
        for name in of[max(of)]:
            table.add(name, *(f"{row[name].median:.1f} ±{row[name].spread:.0%}" for row in of.values()))
        table.print()
        print(f"among the most a job costs {growth(of, REFERENCE[what]):.2f} times as much\n")
    table = Table(f"{AT_ONCE:,} running; ms late", "median", "p99", "most", "looks/s", "of one core", "KB each")
    for kind, told in stalls.items():
        suffix = ", few collections" if kind else ""
        filling, full = told["filling"], told["full"]
        table.add(f"filling in {filling['seconds']:.1f} s{suffix}", *lateness(filling), "", "", "")
        rest = (f"{told['looks_a_second']:.0f}", f"{told['cpu_share']:.0%}", f"{told['kb_each']:.1f}")
        table.add(f"full{suffix}", *lateness(full), *rest)
    table.print()
    for miss in misses:
        print(f"MISSED {miss}")


def lateness(told: Mapping[str, float]) -> Iterator[str]:
    return (f"{told[name]:.1f}" for name in ("p50", "p99", "most"))


def picture(found: Mapping[str, Found]) -> str:
    curves = {TITLES[what]: [(n, row["cpu_us"].median) for n, row in of.items()] for what, of in found.items()}
    return plot("What a job costs among many others", Axis("how many", logarithmic=True), Axis("CPU µs a job"), curves)


if __name__ == "__main__":
    sys.exit(main())
