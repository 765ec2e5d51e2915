"""How long anything waits for a loop. As a process, `python -m serving.watching`: an idle one, to compare with."""

from __future__ import annotations

import asyncio
import sys
import time

PROBE_SECONDS = 0.005


class LoopWatch:
    """A timer that is due every 5 ms: how late it comes, by the wall clock, and by what its thread did meanwhile."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def start(self) -> None:
        """Look every 5 ms for as long as the loop runs."""
        self._set(asyncio.get_running_loop())

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(PROBE_SECONDS, self._look, loop, time.perf_counter(), time.thread_time())

    def _look(self, loop: asyncio.AbstractEventLoop, wall: float, cpu: float) -> None:
        late = time.perf_counter() - wall - PROBE_SECONDS
        self.wall = max(self.wall, late)
        self.cpu = max(self.cpu, min(late, time.thread_time() - cpu))
        self._set(loop)

    def take(self) -> dict[str, float]:
        """The longest since the last time, in milliseconds."""
        told = {"stall": 1000 * self.wall, "stall cpu": 1000 * self.cpu}
        self.wall = self.cpu = 0.0
        return told


async def main() -> None:
    watch = LoopWatch()
    watch.start()
    while await asyncio.to_thread(sys.stdin.readline):
        print(watch.take()["stall"], flush=True)


if __name__ == "__main__":
    asyncio.run(main())
