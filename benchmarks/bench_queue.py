"""What a job in the queue costs, with 10 thousand to a million waiting. Run: python benchmarks/bench_queue.py [--check]

The scheduler's queue alone: each item is queued, a third are cancelled while they wait, the others get a slot and end;
one in seven is refused first. In one line, with a group each, with a priority each, and in 5 priorities of 1000 groups.
"Position" is the cost of asking one item for its place. Nothing may grow faster than the number of items; --check fails
when an item's whole way costs more than 5 times as much with a million as with ten thousand.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nanobanana_async._queue import FairQueue

MOST_GROWTH = 5.0  # log n gives 1.5; the rest is caches and the garbage collector
ASKED = 20  # positions
SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {
    "one line": lambda number: {},
    "a group each": lambda number: {"group": str(number)},
    "a priority each": lambda number: {"priority": number * 7919 % 1_000_003},
    "5 x 1000 lines": lambda number: {"priority": number % 5, "group": str(number % 1000)},
}


@dataclass(frozen=True)
class Costs:
    """Microseconds an item, and for one position."""

    push: float
    cancel: float
    serve: float
    position: float

    @property
    def way(self) -> float:
        return self.push + self.cancel / 3 + self.serve * 2 / 3


def measure(items: int, shape: Callable[[int], dict[str, Any]]) -> Costs:
    queue: FairQueue[int] = FairQueue()
    moments = [time.perf_counter()]
    for number in range(items):
        queue.push(number, **shape(number))
    moments.append(time.perf_counter())
    for number in range(items // 2, items // 2 + ASKED):
        queue.ahead(number)
    moments.append(time.perf_counter())
    for number in range(0, items, 3):
        queue.discard(number)
    moments.append(time.perf_counter())
    served = serve_all(queue)
    moments.append(time.perf_counter())
    pushed, asked, cancelled, ended = (b - a for a, b in pairwise(moments))
    return Costs(*(1e6 * part for part in (pushed / items, cancelled * 3 / items, ended / served, asked / ASKED)))


def serve_all(queue: FairQueue[int]) -> int:
    served = refused = 0
    while (item := queue.pop()) is not None:
        refused += 1
        if refused % 7 == 0:
            queue.put_back(item)
        else:
            queue.done(item)
            served += 1
    return served


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--check", action="store_true", help="exit 1 when a cost grows too fast")
    options = parser.parse_args()
    print(f"{'':18}{'items':>10}{'push':>10}{'cancel':>10}{'serve':>10}{'position':>12}   microseconds")
    missed = False
    for name, shape in SHAPES.items():
        found = [measure(items, shape) for items in options.items]
        for items, costs in zip(options.items, found, strict=True):
            row = f"{costs.push:>10.2f}{costs.cancel:>10.2f}{costs.serve:>10.2f}{costs.position:>12.1f}"
            print(f"{name:18}{items:>10}{row}")
        growth = found[-1].way / found[0].way
        missed = missed or growth > MOST_GROWTH
        print(f"{'':18}an item's way costs {growth:.2f} times as much")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
