"""Progress on stderr: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status


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
