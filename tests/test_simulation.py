"""The simulator of `benchmarks/bench_slots.py` runs the real scheduler: it must keep up with what that asks of it."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("world", ["lognormal 12 s, limit 10", "request scope, limit 1, room for 24, told by 429s"])
def test_learned_polling_comes_near_the_oracle(monkeypatch, world):
    """In every world the oracle is the bound, and every job is accounted for."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from simulation.drive import simulate
    from simulation.policies import ORACLE, learned
    from simulation.worlds import SCENARIOS

    scenario = next(scenario for scenario in SCENARIOS if scenario.name == world)
    best, ours = (simulate(world, scenario.world, policy, 150, 1)[0] for policy in (ORACLE, learned()))
    assert best.jobs == ours.jobs == 150
    assert 0.75 * best.jobs_an_hour < ours.jobs_an_hour <= best.jobs_an_hour
