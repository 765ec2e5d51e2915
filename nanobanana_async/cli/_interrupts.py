"""What Ctrl-C and SIGTERM do.

    Ctrl-C ─→ gently (a batch: submit nothing more) ─→ leave: cancel the command ─→ out: end the process
    SIGTERM ─────────────────────────────────────────→ leave

Each further Ctrl-C goes one step on. Whoever leaves a batch is out after GRACE seconds at the latest, because its
journal knows everything; a single generation has no journal, so the answer that tells its id is waited for until
somebody presses Ctrl-C again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ._terminal import say

INTERRUPTED = 130
GRACE = 1.0  # seconds to leave in, once that was asked for
NOTICE = 0.5  # seconds without an end after which a wait is explained


class Interrupts:
    """The steps of one command, which runs in `task`."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._gently: Callable[[], None] | None = None
        self._on_leave: Callable[[], None] | None = None
        self._journaled = False
        self._leaving = False
        self._terminate_gently = False
        self._left_behind: Callable[[], str] = str

    @contextmanager
    def gently(
        self, stop: Callable[[], None], *, on_leave: Callable[[], None], terminate_gently: bool = False
    ) -> Iterator[None]:
        """Inside, the first Ctrl-C calls `stop` and no more; `on_leave` is called by what leaves at once.

        With `terminate_gently` the first SIGTERM does the same: whoever runs services sends no Ctrl-C.

        For commands with a journal: once they leave, they are out after GRACE seconds.
        """
        self._gently, self._on_leave, self._journaled = stop, on_leave, True
        self._terminate_gently = terminate_gently
        try:
            yield
        finally:
            self._gently = self._on_leave = None

    def leaves_behind(self, told: Callable[[], str]) -> None:
        """`told` says how to pick up what is paid, and nothing while its id is not known."""
        self._left_behind = told

    def interrupt(self) -> None:
        """Ctrl-C: one step on."""
        stop, self._gently = self._gently, None
        if stop is not None:
            stop()
        elif self._leaving:
            self._out()
        else:
            self._leave()
            if not self._journaled:
                self._loop.call_later(NOTICE, self._explain)

    def terminate(self) -> None:
        """SIGTERM: leave, or stop gently where that is what it means."""
        if self._terminate_gently and self._gently is not None:
            self.interrupt()
        elif not self._leaving:
            self._leave()
            self._loop.call_later(GRACE, self._out)

    def _leave(self) -> None:
        self._leaving = True
        self._task.cancel()
        if self._on_leave is not None:
            self._on_leave()
        if self._journaled:
            self._loop.call_later(GRACE, self._out)

    def _explain(self) -> None:
        what = "closing" if self._left_behind() else "waiting for an answer that may be paid"
        say(f"{what}; Ctrl-C again leaves at once")

    def _out(self) -> None:
        """End the process without waiting for anything."""
        if not self._journaled:
            say(self._left_behind() or "left without the answer: a paid generation may be running")
        sys.stdout.flush()
        os._exit(INTERRUPTED)


_CURRENT: ContextVar[Interrupts] = ContextVar("interrupts")


def interrupts() -> Interrupts:
    """Those of the command that runs, below `interruptible`."""
    return _CURRENT.get()


async def interruptible(work: Coroutine[Any, Any, int]) -> int:
    """Run a command with its interrupts. Where the platform has no signal handlers, Ctrl-C cancels it."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    steps = Interrupts(task)
    _CURRENT.set(steps)
    handled = [number for number, action in _actions(steps) if _handle(loop, number, action)]
    try:
        return await work
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _actions(steps: Interrupts) -> tuple[tuple[signal.Signals, Callable[[], None]], ...]:
    return (signal.SIGINT, steps.interrupt), (signal.SIGTERM, steps.terminate)


def _handle(loop: asyncio.AbstractEventLoop, number: signal.Signals, action: Callable[[], None]) -> bool:
    try:
        loop.add_signal_handler(number, action)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not in the main thread
        return False
    return True
