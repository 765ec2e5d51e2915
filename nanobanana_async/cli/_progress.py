"""Progress on stderr: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ..batch import BatchEvent, BatchEventKind, BatchProgress, JobState
from ._terminal import say
from ._words import counted, told_seconds

LINE_SECONDS = 2.0  # between lines of progress where there is no terminal
REFRESHES = 8  # a second
MARGIN = 4  # columns left free: the terminal echoes ^C at the end of the last line, which must not wrap


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
            say(text)

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
    """A batch's progress: live on a terminal, a line now and then elsewhere; failures always get their line."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
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
            live.stop()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._rendered, refresh_per_second=REFRESHES, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rendered(self) -> Group:
        """The bar with what is left, and the sums below it."""
        now = self._now
        bar = ProgressBar(
            total=max(now.rows, 1),
            completed=now.done,
            pulse=not now.rows,
            complete_style="yellow",
            finished_style="green",
        )
        first = Table.grid(padding=(0, 1), expand=True)
        first.width = max(20, self._console.width - MARGIN)
        first.add_column(ratio=1)
        first.add_column(no_wrap=True, justify="right")
        first.add_row(bar, Text(f"{_percent(now)} {self._left()}".rstrip(), style="bold"))
        return Group(first, Text(_sums(now), overflow="fold"))

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
    return ", ".join([*parts, counted(now.credits, "credit")])


def _percent(now: BatchProgress) -> str:
    return f"{100 * now.done // now.rows:3d} %" if now.rows else ""


def _described(event: BatchEvent) -> str:
    if event.index is None:
        return event.message
    state = f"{event.state.value}: " if event.state else ""
    return f"row {event.index + 1}: {state}{event.message}"
