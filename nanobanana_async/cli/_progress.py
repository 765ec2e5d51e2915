"""Progress on stderr: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..batch import BatchEvent, BatchEventKind, BatchProgress, JobState
from ._terminal import say
from ._words import counted, told_seconds

if TYPE_CHECKING:
    from ._live import LiveBar, LiveStatus

LINE_SECONDS = 2.0  # between lines of progress where there is no terminal
_ENDS = frozenset(JobState) - {JobState.READY, JobState.INTENT, JobState.RUNNING}


def is_live() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


class StatusLine:
    """One line that says what a single job is doing. Elsewhere than on a terminal: a line for each change."""

    def __init__(self) -> None:
        self._live: LiveStatus | None = None
        self._since = time.monotonic()
        self._last = ""

    def show(self, text: str) -> None:
        """Say `text`, with the seconds gone by."""
        if self._live is not None:
            self._live.show(text, time.monotonic() - self._since)
        elif text != self._last:
            self._last = text
            say(text)

    @property
    def is_live(self) -> bool:
        """Whether it is redrawn in place."""
        return self._live is not None

    def __enter__(self) -> Self:
        if is_live():
            from ._live import LiveStatus

            self._live = LiveStatus()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.close()


class BatchDisplay:
    """A batch's progress: live on a terminal, a line now and then elsewhere; failures always get their line."""

    def __init__(self) -> None:
        self._live: LiveBar | None = None
        self._now = BatchProgress()
        self._told_at = time.monotonic()
        self._next_line = 0.0
        self._last = ""
        self._finishing = False

    def tell(self, event: BatchEvent) -> None:
        """Show what happened."""
        self._now, self._told_at = event.progress, time.monotonic()
        if event.message and (event.kind is BatchEventKind.NOTE or event.state is not JobState.STORED):
            say(_described(event))
        if self._live is None:
            self._line_now_and_then()

    def finishing(self) -> None:
        """From now on only what runs is brought to its end."""
        self._finishing = True

    def close(self) -> None:
        """Give the terminal back. Idempotent."""
        live, self._live = self._live, None
        if live is not None:
            live.close()

    def __enter__(self) -> Self:
        if is_live():
            from ._live import LiveBar

            self._live = LiveBar(lambda: (self._now.done, self._now.rows, self._left(), _sums(self._now)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _left(self) -> str:
        """What is left by now: the last estimate, less the time since."""
        if self._now.note:
            return "waiting"
        if self._finishing:
            return "finishing"
        eta = self._now.eta
        left = None if eta is None else eta - (time.monotonic() - self._told_at)
        return "" if left is None or left <= 0 else f"about {told_seconds(max(left, 1))} left"

    def _line_now_and_then(self) -> None:
        now = self._now
        parts = [_sums(now), self._left() if now.done < now.rows else ""]
        line = ", ".join(filter(None, parts))
        if line != self._last and (time.monotonic() >= self._next_line or now.done == now.rows):
            self._last, self._next_line = line, time.monotonic() + LINE_SECONDS
            say(line)


def _sums(now: BatchProgress) -> str:
    slots = f"/{now.limit}" if now.limit else ""
    parts = [
        f"{now.done:,}/{now.rows:,} done",
        f"{now.running}{slots} running",
        f"{now.queued:,} queued",
        f"{now.failed:,} failed",
    ]
    if now.unsettled:
        parts.append(f"{now.unsettled:,} in doubt or lost")
    if now.workers is not None:
        parts.append(counted(now.workers, "worker"))
    return ", ".join([*parts, counted(now.credits, "credit")])


def _described(event: BatchEvent) -> str:
    if event.index is None:
        return event.message
    state = f"{event.state.value}: " if event.state in _ENDS else ""
    return f"row {event.index}: {state}{event.message}"
