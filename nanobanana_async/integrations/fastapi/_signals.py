"""Hearing of the end early: a server waits for open requests before it tells the application that it stops.

An event stream, or a request that holds on for its job's end, would keep it waiting. So the signals that stop a server
are heard here as well, before whoever else handles them, and those requests are answered at once.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def before_the_end(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in this loop when the process is told to stop, then go on as without us.

    Where signals can't be heard (off the main thread), or end the process at once, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    heard = {number: _Chained(loop, act, signal.getsignal(number)) for number in STOPPING}
    ours = {number: chained for number, chained in heard.items() if callable(chained.following)}
    for number, chained in ours.items():
        signal.signal(number, chained)
    try:
        yield
    finally:
        for number, chained in ours.items():
            chained.over = True
            current: object = signal.getsignal(number)
            if current is chained:
                signal.signal(number, chained.following)


@dataclass(eq=False, slots=True)
class _Chained:
    """Acts in its loop, then lets `following` handle the signal.

    Whoever began after us may end after us too: we then stay in the chain, and only pass the signal on.
    """

    loop: asyncio.AbstractEventLoop
    act: Callable[[], None]
    following: Any
    over: bool = False

    def __call__(self, received: int, frame: FrameType | None) -> None:
        if not self.over and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.act)
        if callable(self.following):
            self.following(received, frame)
