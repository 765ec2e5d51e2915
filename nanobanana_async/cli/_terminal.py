"""The three streams: data to stdout, words to stderr, answers from the keyboard.

A reader who has left (`| head -1`, a closed terminal) is no reason to drop a batch that is paid: what can't be said is
not said, and the work goes on to its own exit code.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def out(text: str = "") -> None:
    """A line of data, on stdout."""
    _write(sys.stdout, text)


def say(text: str) -> None:
    """A line for people, on stderr; above the live display, if there is one."""
    _write(sys.stderr, text)


async def ask(question: str) -> bool:
    """A yes or no from the keyboard; no answer is a no. Raises: CancelledError for Ctrl-C."""
    try:
        with keyboard_interrupts():
            for _ in range(2):  # a Ctrl-C of the moment before: the loop reads it in one turn and acts in the next
                await asyncio.sleep(0)
            sys.stderr.write(f"{question} [y/N] ")
            sys.stderr.flush()
            return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        say("")
        raise asyncio.CancelledError from None


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Let Ctrl-C break into a read that blocks the event loop, whose own handler would only run after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def tolerant_streams() -> None:
    """Write what the terminal's encoding lacks as escapes, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with suppress(OSError):  # a descriptor that somebody put in the stream's place
                reconfigure(errors="backslashreplace")


def _write(stream: TextIO, text: str) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        _mute(sys.__stdout__ if stream is sys.stdout else sys.__stderr__)


def _mute(stream: TextIO | None) -> None:
    """Nobody reads this any more; the interpreter must not fail on it once more when it flushes at the end."""
    if stream is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
