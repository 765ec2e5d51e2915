"""From a coroutine to an exit code: every error one readable message with what to do next, and no traceback."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .._client import Client, find_api_key
from .._exceptions import (
    AuthenticationError,
    BadRequestError,
    BlockedError,
    BudgetExceededError,
    ConfigurationError,
    ContentRejectedError,
    GenerationFailedError,
    InputError,
    InsufficientCreditsError,
    InvalidRequestError,
    JournalError,
    NanoBananaError,
    PayloadTooLargeError,
    PermissionDeniedError,
)
from .._polling import PollPlan

OK, SOME_FAILED, BAD_INPUT, NO_ACCESS, NO_CREDITS, INTERRUPTED = 0, 1, 2, 3, 4, 130

_CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((AuthenticationError, PermissionDeniedError, BlockedError), NO_ACCESS),
    ((InsufficientCreditsError, BudgetExceededError), NO_CREDITS),
    (
        (
            ConfigurationError,
            InvalidRequestError,
            InputError,
            BadRequestError,
            PayloadTooLargeError,
            JournalError,
        ),
        BAD_INPUT,
    ),
)


class MissingKeyError(ConfigurationError):
    """No key: an exit code of its own."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the API and how to poll, as the options say."""

    base_url: str | None = None
    first_poll: float | None = None
    poll_interval: float | None = None

    def client(self, *, max_concurrency: int | None = None) -> Client:
        """A client for these options."""
        try:
            key = find_api_key()
        except ConfigurationError as error:
            raise MissingKeyError(f"{error}; or try it without one: nanobanana demo") from None
        return Client(key, base_url=self.base_url, poll=self.plan(), max_concurrency=max_concurrency)

    def plan(self) -> PollPlan | None:
        """Fixed polling where an option asks for it."""
        if self.first_poll is None and self.poll_interval is None:
            return None
        advice = PollPlan()
        interval = self.poll_interval if self.poll_interval is not None else advice.interval
        first = self.first_poll if self.first_poll is not None else min(interval, advice.initial_delay)
        return PollPlan(initial_delay=first, interval=interval)


def run(work: Coroutine[Any, Any, int], *, verbose: bool = False) -> NoReturn:
    """Run a command to its end and leave with its code."""
    _configure_logging(verbose)
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        say("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        code = _closed_pipe()
    except NanoBananaError as error:
        code = report(error)
    except OSError as error:
        say(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        code = SOME_FAILED
    sys.exit(code)


def report(error: NanoBananaError) -> int:
    """Say what went wrong and how to go on; the exit code for it."""
    say(f"error: {error}")
    told = error.generation_id
    if told and isinstance(error, GenerationFailedError | ContentRejectedError):
        paid = f", {error.credits_used} credits charged" if error.credits_used else ""
        say(f"(generation {told}{paid})")
    elif told and told not in str(error):
        say(f"generation {told} can be picked up: nanobanana get {told} --wait -o DIR")
    return code_of(error)


def code_of(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, MissingKeyError):
        return NO_ACCESS
    return next((code for types, code in _CODES if isinstance(error, types)), SOME_FAILED)


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def writable_folder(folder: Path) -> Path:
    """Make sure, before anything is spent, that images can be written there. Raises: InvalidRequestError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".nanobanana-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidRequestError(f"can't write to {folder} ({reason}); choose another folder with -o") from error
    return folder


def _configure_logging(verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.ERROR
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("nanobanana_async").setLevel(level)


def _closed_pipe() -> int:
    """Whoever read our output has left; keep the interpreter from failing on it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SOME_FAILED
