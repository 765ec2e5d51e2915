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
from types import FrameType

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
    ours = {number: _chained(loop, act, number) for number in STOPPING if callable(signal.getsignal(number))}
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is ours[number]:
                signal.signal(number, handler)


def _chained(
    loop: asyncio.AbstractEventLoop, act: Callable[[], None], number: int
) -> Callable[[int, FrameType | None], None]:
    following = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        if callable(following):
            following(received, frame)

    return handle
