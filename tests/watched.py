"""Faults that can be waited for."""

from __future__ import annotations

import asyncio

from nanobanana_async.emulator import Fault, FaultPlan
from nanobanana_async.emulator._faults import Stage


class Watched(FaultPlan):
    """A plan whose first strike can be waited for."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.struck = asyncio.Event()

    def draw(self, stage: Stage, prompt: str = "") -> Fault | None:
        """The plan's fault, as ever."""
        fault = super().draw(stage, prompt)
        if fault is not None:
            self.struck.set()
        return fault
