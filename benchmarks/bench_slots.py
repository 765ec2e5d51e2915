"""How well the slots are used, and at how many looks. Run: python benchmarks/bench_slots.py [--jobs N] [--check]

The real scheduler, limiter, pipeline and watch run in virtual time against a simulated server, with round trips of
0.2 s, next to an oracle that knows when each generation ends, to the vendor's advice and to what other clients do.
"Slots busy" is the share of the account's slots that ran a generation; a delay is from a generation's end to the look
that finds it. "Passed" is how many slots went to a batch after an urgent job came and before it had its own; "lost"
how many the batch has less for each. The plot compares plans alone, without round trips: fixed intervals, and the
learned plan.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from simulation.drive import Change, Result, after_change, efficiency, pure, simulate
from simulation.interactive import Waits, check_waits, interactive, told_waits
from simulation.policies import ORACLE, learned
from simulation.report import Curve, plot, table
from simulation.server import Announces, World
from simulation.targets import TURN, check
from simulation.worlds import BLOCK, DRIFTING, HOUR, SCENARIOS, STEPS, Scenario, drifting, limits, mixed, usual

from nanobanana_async._learned import LearnedPlan
from nanobanana_async._polling import PollPlan

SHARES = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
INTERVALS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0)
CURVES = {"lognormal": usual, "bimodal": mixed}
RAISES: dict[str, Announces] = {"told always": "always", "told by 429s": "refusals"}
BESIDE = {1: 0.25, 10: 1.0, 100: 0.5}  # limits with a batch and urgent jobs beside it, and the share of --jobs in it
SPANS = ((0, 10), (10, 20), (20, TURN), (TURN, BLOCK))


def main() -> int:
    options = parse()
    started = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        rows = run_scenarios(pool, options)
        curves = {name: run_curves(pool, name, options) for name in CURVES}
        turns = pool.submit(run_turns, max(options.jobs, 4000), options.seed)
        raises = {name: pool.submit(run_raise, announces, options.seed) for name, announces in RAISES.items()}
        waits = run_beside(pool, options)
        changes = {name: future.result() for name, future in raises.items()}
        turned = turns.result()
    seconds = time.perf_counter() - started
    for name, pair in curves.items():
        write(options.plot.with_name(f"{options.plot.stem}-{name}.svg"), plot(f"Delay against looks, {name}", pair))
    misses = [*check(rows, curves, turned, changes), *check_waits(waits)]
    tell(options, rows, turned, changes, curves, waits, misses, seconds)
    return 1 if options.check and misses else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of the longest rows")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only the worlds whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--plot", type=Path, default=Path("bench_slots.svg"), help="where the plots go")
    return parser.parse_args()


# ---- what is run


def run_scenarios(pool: ProcessPoolExecutor, options: argparse.Namespace) -> list[Result]:
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.name]
    running = [(scenario, start(pool, scenario, options)) for scenario in chosen]
    return [row for _, futures in running for row in beside_oracle([future.result() for future in futures])]


def start(pool: ProcessPoolExecutor, scenario: Scenario, options: argparse.Namespace) -> list[Future[Result]]:
    jobs = max(100, int(options.jobs * scenario.share))
    places = range(len(scenario.policies))
    return [pool.submit(run_row, SCENARIOS.index(scenario), place, jobs, options.seed) for place in places]


def run_row(scenario: int, policy: int, jobs: int, seed: int) -> Result:
    """One row, named by its places because its functions can't be sent to another process."""
    what = SCENARIOS[scenario]
    return simulate(what.name, what.world, what.policies[policy], jobs, seed, what.rival)[0]


def beside_oracle(rows: Sequence[Result]) -> list[Result]:
    best = next(row.jobs_an_hour for row in rows if row.policy == ORACLE.name)
    return [replace(row, of_oracle=row.jobs_an_hour / best) for row in rows]


def run_turns(jobs: int, seed: int) -> dict[str, float]:
    """Efficiency of the jobs that follow a drift, all of its kind together."""
    counts = simulate(DRIFTING, World(drifting, limits((0, 1))), learned(), jobs, seed)[1]
    turns = [(name, parity, span) for name, parity in (("twice as long", 1), ("half as long", 0)) for span in SPANS]
    return {
        f"{name}, jobs {first} to {last}": efficiency(counts, BLOCK, first, last, parity)
        for name, parity, (first, last) in turns
    }


def run_raise(announces: Announces, seed: int) -> list[Change]:
    """How a limit of 1, then 10, then 3 is followed."""
    world = World(usual, STEPS, announces=announces)
    counts = simulate("steps", world, learned(), 5000, seed)[1]
    return [after_change(world, counts, at, at + HOUR) for at, _ in STEPS[1:]]


def run_beside(pool: ProcessPoolExecutor, options: argparse.Namespace) -> list[Waits]:
    running = [
        pool.submit(interactive, limit, max(400, int(options.jobs * share)), options.seed)
        for limit, share in BESIDE.items()
    ]
    return [future.result() for future in running]


def run_curves(pool: ProcessPoolExecutor, name: str, options: argparse.Namespace) -> dict[str, Curve]:
    jobs = min(options.jobs, 5000)
    fixed = [pool.submit(run_point, name, None, interval, jobs, options.seed) for interval in INTERVALS]
    ours = [pool.submit(run_point, name, share, None, jobs, options.seed) for share in SHARES]
    return {
        "fixed intervals": [f.result() for f in fixed],
        f"learned, q from {SHARES[0]} to {SHARES[-1]}": [f.result() for f in ours],
    }


def run_point(name: str, q: float | None, interval: float | None, jobs: int, seed: int) -> tuple[float, float]:
    source = random.Random(seed + 1)
    plan = PollPlan.of(interval) if q is None else LearnedPlan(q=q, max_polls_per_second=None, uniform=source.uniform)
    return pure(plan, CURVES[name], jobs, seed)


# ---- what is told


def tell(
    options: argparse.Namespace,
    rows: Sequence[Result],
    turns: dict[str, float],
    changes: dict[str, list[Change]],
    curves: dict[str, dict[str, Curve]],
    waits: Sequence[Waits],
    misses: Sequence[str],
    seconds: float,
) -> None:
    if options.json:
        steps = {name: [asdict(change) for change in pair] for name, pair in changes.items()}
        found = {"rows": [row.as_dict() for row in rows], "turns": turns, "changes": steps, "curves": curves}
        found |= {"beside": [row.as_dict() for row in waits], "misses": misses}
        print(json.dumps({"jobs": options.jobs, "seed": options.seed, **found}, indent=1))
        return
    print(f"jobs {options.jobs}, seed {options.seed}")
    print(table(rows))
    print("\nafter a drift, limit 1, of the oracle's throughput")
    for name, share in turns.items():
        print(f"  {name:36}{share:.1%}")
    print("\na limit of 1, then 10, an hour later 3")
    for name, pair in changes.items():
        for change in pair:
            print(f"  {name:14} to {change.limit:2}: {change}")
    print("\nurgent jobs on a client that runs a batch")
    print(told_waits(waits))
    simulated = sum(row.jobs for row in rows)
    print(f"\n{simulated} jobs and the curves in {seconds:.0f} s")
    for miss in misses:
        print(f"MISSED {miss}")


def write(path: Path, text: str) -> None:
    path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
