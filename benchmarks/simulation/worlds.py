"""What is simulated: durations, limits, storms and rivals, with the policies that are worth a row in each."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from .policies import BACKOFF, ORACLE, VENDOR, Policy, fixed, learned
from .server import Length, World

BLOCK = 200  # jobs between two turns of a drifting world

FEW = (ORACLE, learned(), VENDOR)
ALL = (ORACLE, learned(), learned(0.1), VENDOR, fixed(0.5), fixed(0.1), BACKOFF)


@dataclass(frozen=True)
class Scenario:
    """A world under a name. `share` of the jobs asked for run in it."""

    name: str
    world: World
    policies: Sequence[Policy] = FEW
    share: float = 0.25
    rival: tuple[int, float] | None = None  # another client: its jobs, and when it comes


def lognormal(median: float, sigma: float) -> Length:
    return lambda source, number: source.lognormvariate(math.log(median), sigma)


def mixed(source: random.Random, number: int) -> float:
    """Two kinds of jobs under one key."""
    return lognormal(9, 0.25)(source, number) if source.random() < 0.7 else lognormal(32, 0.30)(source, number)


def drifting(source: random.Random, number: int) -> float:
    """Twice as long, and half as long again, every BLOCK jobs."""
    return usual(source, number) * (2 if number // BLOCK % 2 else 1)


def limits(*rows: tuple[float, int]) -> tuple[tuple[float, int], ...]:
    return rows


usual = lognormal(12, 0.35)

HEADLINE = "lognormal 12 s, limit 10"
BIMODAL = "bimodal 9 s + 32 s, limit 10"
DRIFTING = "drift x2, limit 1"
ONE = "limit 1"
UNTOLD = "limit 10, never told"
REQUEST_SCOPE = "request scope, limit 1, room for 24"

HOUR = 3600.0
STEPS = limits((0, 1), (1.25 * HOUR, 10), (2.25 * HOUR, 3))

SCENARIOS = (
    Scenario(HEADLINE, World(usual), ALL, share=1),
    Scenario(BIMODAL, World(mixed), ALL, share=1),
    Scenario(ONE, World(usual, limits((0, 1)))),
    Scenario("limit 100, told by 429s", World(usual, limits((0, 100)))),
    Scenario("limit 100, told always", World(usual, limits((0, 100)), announces="always")),
    Scenario("limit 500, told always", World(usual, limits((0, 500)), announces="always"), share=1),
    Scenario(UNTOLD, World(usual, announces="never")),
    Scenario("fast model, 0.3 s, limit 10", World(lognormal(0.3, 0.35))),
    Scenario("slow model, 300 s, limit 10", World(lognormal(300, 0.35))),
    Scenario(DRIFTING, World(drifting, limits((0, 1)))),
    Scenario("drift x2, limit 10", World(drifting)),
    Scenario("limit 1, then 10, then 3, told by 429s", World(usual, STEPS), share=0.4),
    Scenario("the same, told always", World(usual, STEPS, announces="always"), share=0.4),
    Scenario("storms: 503 for 60 s, hourly", World(usual, storms=[(h * 3600, h * 3600 + 60) for h in range(1, 500)])),
    Scenario("limit 10, a rival's 500 jobs", World(usual), rival=(500, 600)),
    *(
        Scenario(f"{REQUEST_SCOPE}, {told}", World(usual, limits((0, 1)), "request", 24, announces=announces))
        for told, announces in (("told by 429s", "refusals"), ("told always", "always"), ("never told", "never"))
    ),
)
