"""From a coroutine to an exit code: every error one readable message with what to do next, and no traceback."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .._accounts import find_api_key
from .._client import Client
from .._exceptions import (
    AuthenticationError,
    BadRequestError,
    BlockedError,
    BudgetExceededError,
    ConfigurationError,
    ContentRejectedError,
    DownloadExpiredError,
    GenerationFailedError,
    InputError,
    InsufficientCreditsError,
    InvalidRequestError,
    JobCancelledError,
    JournalError,
    NanoBananaError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    SubmissionUncertainError,
)
from .._limiter import Limiter
from .._polling import PollPlan
from ._interrupts import INTERRUPTED, interruptible
from ._loop import run_in_loop
from ._output import error_json, print_json
from ._sharing import sharing
from ._terminal import say, tolerant_streams
from ._words import counted

OK, SOME_FAILED, BAD_INPUT, NO_ACCESS, NO_CREDITS = 0, 1, 2, 3, 4

_CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((AuthenticationError, PermissionDeniedError, BlockedError), NO_ACCESS),
    ((InsufficientCreditsError, BudgetExceededError), NO_CREDITS),
    (
        (
            ConfigurationError,
            InvalidRequestError,
            InputError,
            BadRequestError,
            NotFoundError,
            PayloadTooLargeError,
            JournalError,
        ),
        BAD_INPUT,
    ),
)


class MissingKeyError(ConfigurationError):
    """No key: an exit code of its own."""


class InterruptedCommandError(JobCancelledError):
    """Ctrl-C or SIGTERM: an exit code of its own."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the API and how to poll, as the options say."""

    base_url: str | None = None
    first_poll: float | None = None
    poll_interval: float | None = None

    def client(self, *, max_concurrency: int | None = None, limiter: Limiter | None = None) -> Client:
        """A client for these options. Raises: ConfigurationError."""
        options: dict[str, Any] = {"max_concurrency": max_concurrency, "limiter": limiter}
        return Client(_find_key(), base_url=self.base_url, poll=self.plan(), **options)

    def sharing_client(self, *, max_concurrency: int | None = None) -> AbstractAsyncContextManager[Client]:
        """One that shares the account's slots with other commands. Raises: ConfigurationError, before it is entered."""
        alone = self.client(max_concurrency=max_concurrency)
        return sharing(alone, _find_key(), self.base_url, self.plan(), max_concurrency)

    def account(self, name: str | None = None) -> str:
        """The account's name among workers: the one given, or one made of key and base URL.

        Raises: ConfigurationError when there is no key.
        """
        from ..integrations._account import account_id

        return name or account_id(_find_key(), self.base_url)

    def plan(self) -> PollPlan | None:
        """Fixed polling where an option asks for it."""
        if self.first_poll is None and self.poll_interval is None:
            return None
        advice = PollPlan()
        interval = self.poll_interval if self.poll_interval is not None else advice.interval
        first = self.first_poll if self.first_poll is not None else min(interval, advice.initial_delay)
        return PollPlan(initial_delay=first, interval=interval)


def _find_key() -> str:
    try:
        return find_api_key()
    except ConfigurationError as error:
        what = str(error).replace("pass api_key, or set", "set")  # here there is no argument for it
        raise MissingKeyError(f"{what}; or try it without one: nanobanana demo") from None


def run(work: Coroutine[Any, Any, int], *, verbose: bool = False, as_json: bool = False) -> NoReturn:
    """Run a command to its end and leave with its code. `as_json` tells a failure on stdout as well."""
    tolerant_streams()
    _configure_logging(verbose)
    try:
        sys.exit(run_in_loop(interruptible(work)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        failure: Exception = InterruptedCommandError("interrupted")
    except Exception as error:
        failure = _first_of(error)
    code = _tell(failure, verbose=verbose)
    if as_json:
        print_json({"error": error_json(failure, message=_message(failure))})
    sys.exit(code)


def _tell(failure: Exception, *, verbose: bool) -> int:
    if isinstance(failure, InterruptedCommandError):
        say(_message(failure))
        return INTERRUPTED
    if isinstance(failure, NanoBananaError):
        return report(failure)
    if isinstance(failure, OSError):
        say_error(_message(failure))
        return SOME_FAILED
    return _report_bug(failure, verbose=verbose)


def _message(failure: Exception) -> str:
    if isinstance(failure, OSError) and not isinstance(failure, NanoBananaError):
        return f"{failure.strerror or failure}{f': {failure.filename}' if failure.filename else ''}"
    return str(failure)


def _first_of(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def report(error: NanoBananaError) -> int:
    """Say what went wrong and how to go on; the exit code for it."""
    say_error(str(error))
    told = error.generation_id
    if told and isinstance(error, GenerationFailedError | ContentRejectedError):
        paid = "" if error.credits_used is None else f", {counted(error.credits_used, 'credit')} charged"
        say(f"(generation {told}{paid})")
    elif told and not isinstance(error, DownloadExpiredError | NotFoundError):
        say(f"Pick it up with: nanobanana get {told} --wait -o DIR")
    elif isinstance(error, SubmissionUncertainError):
        say("The balance tells: nanobanana credits")
    elif isinstance(error, BadRequestError):
        say("The models and what they take: nanobanana models")
    return code_of(error)


def code_of(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, MissingKeyError):
        return NO_ACCESS
    return next((code for types, code in _CODES if isinstance(error, types)), SOME_FAILED)


def say_error(text: str) -> None:
    """What went wrong, in the form that usage errors have."""
    say(f"Error: {text}")


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Make sure, before anything is spent, that images can be written there; a folder that stays empty goes again.

    Raises: InvalidRequestError.
    """
    made = _missing(folder)
    try:
        _try_to_write(folder)
        yield folder
    finally:
        _remove_empty(made)


def _missing(folder: Path) -> list[Path]:
    """The folders that have to be made for this one, the deepest first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]


def _try_to_write(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".nanobanana-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidRequestError(f"can't write to {folder} ({reason}); choose another folder with -o") from error


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # not empty, or never made
            return


def _report_bug(error: Exception, *, verbose: bool) -> int:
    """Something we did not think of: still a message, and the traceback for whoever asks for it."""
    if verbose:
        traceback.print_exception(error)
    say_error(f"unexpected {type(error).__name__}: {error}")
    say("This is a bug. A batch that runs again goes on where it was; -v shows the traceback for a report.")
    return SOME_FAILED


class _StderrHandler(logging.Handler):
    """Log lines go where words go, so that they don't tear the live display."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _configure_logging(verbose: bool) -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    logging.getLogger("nanobanana_async").setLevel(logging.DEBUG if verbose else logging.ERROR)
