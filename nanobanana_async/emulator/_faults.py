"""What goes wrong, where and how often: a seeded plan the handlers ask at each stage.

Stages: `submit` (POST, any mode), `stream` (the events of an accepted stream), `poll` (GET by id), `models`,
`credits`, and `image` (a download). Kinds, and where the money stands when they strike a submission:

    refuse            429; not charged                    stall             accepted, then silence
    busy              503 server_busy; refunded           garbage_200       accepted, the 200 is no JSON
    error_500         500; not charged                    truncate          accepted, the answer breaks off
    error_500_after   accepted and charged, then a 500    fail_generation   accepted, ends as failed
    html_wall         403 with Cloudflare's page          wrong_image       200 with HTML in place of an image
    reset_before      TCP reset; not charged              expire            the link or the id is gone
    reset_after       accepted and charged, then a reset: the answer, and so the id, is lost
    reset_late        a TCP reset, and `stall_seconds` later accepted and charged all the same
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Stage = Literal["submit", "stream", "poll", "models", "credits", "image"]
Kind = Literal[
    "refuse",
    "busy",
    "error_500",
    "error_500_after",
    "html_wall",
    "reset_before",
    "reset_after",
    "reset_late",
    "stall",
    "garbage_200",
    "truncate",
    "wrong_image",
    "fail_generation",
    "expire",
]

_ANYWHERE: frozenset[Kind] = frozenset(
    {"refuse", "busy", "error_500", "html_wall", "reset_before", "reset_after", "stall", "garbage_200", "truncate"}
)
_KINDS: dict[Stage, frozenset[Kind]] = {
    "submit": _ANYWHERE | {"error_500_after", "fail_generation", "reset_late"},
    "stream": frozenset({"error_500", "reset_after", "stall", "garbage_200", "truncate"}),
    "poll": _ANYWHERE | {"expire"},
    "models": _ANYWHERE,
    "credits": _ANYWHERE,
    "image": _ANYWHERE | {"wrong_image", "expire"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Odds:
    rate: float = 1.0
    times: int | None = None
    after: int = 0
    prompt: str | None = None
    stall_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Fault(_Odds):
    """One rule. It leaves the first `after` matching requests alone, then strikes each with probability `rate`,
    `times` times at most. `prompt` narrows it to prompts with that text. A `stall` ends when the client leaves,
    or after `stall_seconds`, when the answer is given after all."""

    stage: Stage
    kind: Kind

    def __post_init__(self) -> None:
        if self.stage not in get_args(Stage):
            raise ValueError(f"unknown stage {self.stage!r}; stages are {', '.join(get_args(Stage))}")
        if self.kind not in _KINDS[self.stage]:
            kinds = ", ".join(sorted(_KINDS[self.stage]))
            raise ValueError(f"stage {self.stage!r} cannot {self.kind!r}; it can: {kinds}")


class FaultPlan:
    """Rules in order, the first that strikes wins; `fired` counts as `"stage:kind"`."""

    def __init__(self, *faults: Fault, seed: int = 0) -> None:
        self.faults = faults
        self.fired: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._met = [0] * len(faults)
        self._struck = [0] * len(faults)

    @classmethod
    def from_json(cls, rules: Iterable[dict[str, Any]], seed: int = 0) -> FaultPlan:
        """A plan from `[{"stage": ..., "kind": ..., "rate": ...}, ...]`; ValueError or TypeError on nonsense."""
        return cls(*(Fault(**rule) for rule in rules), seed=seed)

    def draw(self, stage: Stage, prompt: str = "") -> Fault | None:
        """The fault that strikes this request, or None."""
        for position, fault in enumerate(self.faults):
            if fault.stage == stage and (fault.prompt is None or fault.prompt in prompt) and self._strikes(position):
                self.fired[f"{fault.stage}:{fault.kind}"] += 1
                return fault
        return None

    def _strikes(self, position: int) -> bool:
        fault = self.faults[position]
        self._met[position] += 1
        spent = fault.times is not None and self._struck[position] >= fault.times
        if self._met[position] <= fault.after or spent or self._random.random() >= fault.rate:
            return False
        self._struck[position] += 1
        return True

    def __repr__(self) -> str:
        return f"<FaultPlan [{len(self.faults)} rules, fired: {dict(self.fired)}]>"
