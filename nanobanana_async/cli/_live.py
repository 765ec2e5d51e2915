"""What a terminal shows while something runs. The only file that loads rich: pipes and scripts don't wait for it."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.status import Status
from rich.table import Table
from rich.text import Text

REFRESHES = 8  # a second
MARGIN = 4  # columns left free: the terminal echoes ^C at the end of the last line, which must not wrap


class LiveStatus:
    """One line with a spinner. Starts when made."""

    def __init__(self) -> None:
        self._status = Status("starting", console=Console(stderr=True))
        self._status.start()

    def show(self, text: str, seconds: float) -> None:
        """Replace the line."""
        self._status.update(f"{escape(text)}  [dim]{seconds:.0f} s[/dim]")

    def close(self) -> None:
        """Take the line away."""
        self._status.stop()


class LiveBar:
    """A bar with what is left beside it and a line of sums below. Starts when made.

    `told` is asked at every refresh: how many are done, of how many, what is left, and the sums.
    """

    def __init__(self, told: Callable[[], tuple[int, int, str, str]]) -> None:
        self._told = told
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console, get_renderable=self._rendered, refresh_per_second=REFRESHES, transient=True
        )
        self._live.start()

    def close(self) -> None:
        """Take the bar away and give the terminal back."""
        self._live.stop()

    def _rendered(self) -> Group:
        done, rows, left, sums = self._told()
        bar = ProgressBar(
            total=max(rows, 1), completed=done, pulse=not rows, complete_style="yellow", finished_style="green"
        )
        first = Table.grid(padding=(0, 1), expand=True)
        first.width = max(20, self._console.width - MARGIN)
        first.add_column(ratio=1)
        first.add_column(no_wrap=True, justify="right")
        percent = f"{100 * done // rows:3d} %" if rows else ""
        first.add_row(bar, Text(f"{percent} {left}".rstrip(), style="bold"))
        return Group(first, Text(sums, overflow="fold"))
