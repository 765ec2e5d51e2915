"""Progress on stderr: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.status import Status

from ..batch import BatchEvent, BatchEventKind, BatchProgress, JobState

LINE_SECONDS = 2.0  # between lines of progress where there is no terminal


class StatusLine:
    """One line that says what a single job is doing. Elsewhere than on a terminal: a line for each change."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live: Status | None = None
        self._since = time.monotonic()
        self._last = ""

    def show(self, text: str) -> None:
        """Say `text`, with the seconds gone by."""
        if self._live is not None:
            self._live.update(f"{escape(text)}  [dim]{time.monotonic() - self._since:.0f} s[/dim]")
        elif text != self._last:
            self._last = text
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = self._console.status("starting")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class BatchDisplay:
    """A batch's progress: a live bar on a terminal, a line now and then elsewhere; failures always get their line."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._next_line = 0.0
        self._last = ""

    def tell(self, event: BatchEvent) -> None:
        """Show what happened."""
        if event.message and (event.kind is BatchEventKind.NOTE or event.state is not JobState.STORED):
            self._print(_described(event))
        if self._bar is not None:
            now = event.progress
            self._bar.update(self._task, total=now.rows, completed=now.done, told=_sums(now), eta=_left(now))
        else:
            self._print_now_and_then(event.progress)

    def note(self, text: str) -> None:
        """A line for people."""
        self._print(text)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(bar_width=None, complete_style="yellow", finished_style="green"),
                MofNCompleteColumn(),
                TextColumn("{task.fields[told]}"),
                TextColumn("[dim]{task.fields[eta]}"),
                console=self._console,
            )
            self._task = self._bar.add_task("batch", total=None, told="starting", eta="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _print_now_and_then(self, now: BatchProgress) -> None:
        line = f"{now.done}/{now.rows} done, {_sums(now)}{', ' if _left(now) else ''}{_left(now)}"
        if line != self._last and (time.monotonic() >= self._next_line or now.done == now.rows):
            self._last, self._next_line = line, time.monotonic() + LINE_SECONDS
            self._print(line)


def _sums(now: BatchProgress) -> str:
    slots = f"/{now.limit}" if now.limit else ""
    parts = [f"{now.running}{slots} running", f"{now.queued} queued", f"{now.failed} failed"]
    if now.unsettled:
        parts.append(f"{now.unsettled} in doubt")
    return ", ".join([*parts, f"{now.credits} credits"])


def _left(now: BatchProgress) -> str:
    return f"about {told_seconds(now.eta)} left" if now.eta else ""


def _described(event: BatchEvent) -> str:
    if event.index is None:
        return event.message
    state = f"{event.state.value}: " if event.state else ""
    return f"row {event.index + 1}: {state}{event.message}"


def told_seconds(seconds: float) -> str:
    """A length of time as people say it: 40 s, 12 min, 3 h 20 min, 4 days 3 h."""
    minutes, hours, days = round(seconds / 60), seconds / 3600, seconds / 86400
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 36:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{int(days)} days {int(hours % 24)} h"
