"""What bench_slots.py must reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from .drive import Change, Result
from .policies import ORACLE, learned
from .report import Curve
from .worlds import BIMODAL, HEADLINE, ONE, REQUEST_SCOPE, UNTOLD

TURN = 30  # jobs after which a drift must have been followed


def check(
    rows: Sequence[Result],
    curves: dict[str, dict[str, Curve]],
    turns: dict[str, float],
    changes: dict[str, list[Change]],
) -> Iterator[str]:
    """The targets that are missed."""
    yield from _throughput(rows)
    yield from _refusals(rows)
    yield from _drift(turns)
    yield from _steps(changes)
    yield from _curve(curves)


def _throughput(rows: Sequence[Result]) -> Iterator[str]:
    wanted = ((HEADLINE, 0.2, 0.94, 5.2), (HEADLINE, 0.1, 0.968, 10.2), (BIMODAL, 0.2, 0.94, 6.0))
    for world, q, least, polls in wanted:
        for row in rows:
            if (row.world, row.policy) == (world, learned(q).name) and (row.of_oracle < least or row.polls > polls):
                yield f"{world}, q = {q}: {row.of_oracle:.1%} at {row.polls:.2f} polls; wanted {least:.1%} at {polls}"
    one = next((row.jobs_an_hour for row in rows if (row.world, row.policy) == (ONE, ORACLE.name)), 0.0)
    for row in rows:
        if row.world.startswith(REQUEST_SCOPE) and row.policy == learned().name and row.jobs_an_hour < 15 * one:
            yield f"{row.world}: {row.jobs_an_hour / one:.1f} times one at a time; wanted 15"


def _refusals(rows: Sequence[Result]) -> Iterator[str]:
    """Those of finding out are free; then one in twenty jobs in request scope, two an hour in generation scope."""
    for row in rows:
        hours = row.jobs / row.jobs_an_hour
        allowed = dict.fromkeys((HEADLINE, BIMODAL, ONE, UNTOLD), 6 + 2 * hours).get(row.world, math.inf)
        if row.world.startswith(REQUEST_SCOPE):
            allowed = 10 + row.jobs / 20
        if row.policy == learned().name and row.refusals > allowed:
            yield f"{row.world}: {row.refusals} refusals in {row.jobs} jobs and {hours:.1f} h"


def _drift(turns: dict[str, float]) -> Iterator[str]:
    for name, share in turns.items():
        if f"jobs {TURN} to" in name and share < 0.9:
            yield f"{name}: {share:.1%}; wanted 90 %"


def _steps(changes: dict[str, list[Change]]) -> Iterator[str]:
    """A limit that answers tell must be followed at once; one that only refusals tell is asked for twice an hour."""
    raised, lowered = changes["told always"]
    if raised.busy < 0.9:
        yield f"raised to {raised.limit}: {raised}; wanted 90 %"
    if lowered.refusals > 2:
        yield f"lowered to {lowered.limit}: {lowered.refusals} refusals"


def _curve(curves: dict[str, dict[str, Curve]]) -> Iterator[str]:
    for name, (fixed, ours) in ((name, tuple(pair.values())) for name, pair in curves.items()):
        fewest = min(polls for polls, _ in ours)  # no plan that learns can make do with fewer
        for polls, delay in fixed:
            if polls >= fewest and (found := at(ours, polls)) >= delay:
                yield f"{name}: {found:.2f} s at {polls:.2f} looks, where a fixed interval has {delay:.2f} s"


def at(curve: Curve, polls: float) -> float:
    """The delay at so many looks: between its neighbours, or that of the most looks on the curve."""
    points = sorted(curve)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= polls <= x1:
            part = math.log(polls / x0) / math.log(x1 / x0)
            return math.exp(math.log(y0) + part * math.log(y1 / y0))
    return points[-1][1]
