"""`batch` and `gallery`: a file of prompts to a folder of images."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, cast

from .._client import Client
from .._exceptions import InputError, JournalError
from .._models import DEFAULT_MODEL
from ..batch import (
    BatchProgress,
    BatchRunner,
    BatchSummary,
    JobState,
    Journal,
    Row,
    check_input,
    read_rows,
    rebuild_gallery,
    write_gallery,
    write_manifest,
)
from ..batch._inputs import STDIN, spool
from ..batch._keys import KeyHashes, name_keys
from ..batch._preflight import TYPICAL_SECONDS
from ._distributed import coordinator, has_workers, tell_gathered, tell_left
from ._interrupts import INTERRUPTED, interrupts
from ._options import BatchOptions
from ._plan import GAVE_UP, go_ahead, plan
from ._progress import BatchDisplay
from ._run import OK, SOME_FAILED, Connection, code_of, output_folder, say_error
from ._terminal import keyboard_interrupts, out, say
from ._words import counted, told_seconds

GO_ON = "left; run the same command again"
SHOWN_KEY = 60  # characters of a key that a warning repeats


async def batch(connection: Connection, options: BatchOptions) -> int:
    """Check everything, say what it costs, then run it."""
    with _spooled() if options.source == STDIN else nullcontext() as stdin:
        counts = await asyncio.to_thread(check_input, options.source, defaults=options.defaults(), stdin=stdin)
        await asyncio.to_thread(_tell_repeated_keys, options, counts.keys, stdin)
        client_of = connection.client if options.dry_run or options.distributed else connection.sharing_client
        opened = client_of(max_concurrency=options.max_concurrency)
        with nullcontext() if options.dry_run else output_folder(options.output):
            async with opened as client:
                await _check_models(client, options, set(counts.by_model), stdin)
                code = None
                if not has_workers(options, counts.rows):
                    preflight = await plan(client, options, counts, _rows(options, stdin))
                    code = await go_ahead(preflight, options, own=counts.own)
                return await run_batch(client, options, stdin, connection=connection) if code is None else code


async def run_batch(
    client: Client, options: BatchOptions, stdin: BinaryIO | None = None, *, connection: Connection | None = None
) -> int:
    """The batch itself, asked and paid for; the exit code tells how it ended."""
    display = BatchDisplay()
    async with _opened(client, connection or Connection(), options, display) as runner:
        added = await runner.add(_rows(options, stdin), dedupe=options.dedupe, source=options.source_name)
        if added.known:
            new = f", {added.added:,} new" if added.added else ""
            say(f"{options.output} goes on: {counted(added.known, 'row')} known{new}")
        summary = await _run(runner, display, options)
    if options.distributed and summary.interrupted:
        tell_gathered(summary)
    else:
        _tell_end(summary, options.output)
    return _exit_code(summary)


def _opened(
    client: Client, connection: Connection, options: BatchOptions, display: BatchDisplay
) -> AbstractAsyncContextManager[BatchRunner]:
    if options.distributed is not None:
        return coordinator(client, connection, options, display)
    return BatchRunner(
        client,
        options.output,
        max_credits=options.max_credits,
        retry_failed=options.retry_failed,
        uncertain=options.uncertain,
        title=options.title,
        on_event=display.tell,
    )


async def _run(runner: BatchRunner, display: BatchDisplay, options: BatchOptions) -> BatchSummary:
    """The run under its display. The first Ctrl-C finishes what runs, the second, or SIGTERM, leaves at once.

    Where workers do the work, the first leaves them to it.
    """

    def stop() -> None:
        display.finishing()
        runner.stop()
        if options.distributed:
            tell_left(runner.progress(), options)
        else:
            _tell_finishing(runner.progress())

    def leave() -> None:
        display.close()
        if not options.distributed:
            _tell_left(runner.progress(), options.output)

    with display, interrupts().gently(stop, on_leave=leave):
        return await runner.run()


async def gallery(folder: Path) -> int:
    """Write the page anew: from the journal, which may be of a running batch, else from the manifest."""
    out(str(await asyncio.to_thread(_write_gallery, folder)))
    return OK


def _write_gallery(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of a batch", source=str(folder))
    try:
        write_manifest(folder, Journal.read(folder))
        return write_gallery(folder, Journal.read(folder))
    except JournalError:
        return rebuild_gallery(folder)


# ---- before


def _rows(options: BatchOptions, stdin: BinaryIO | None) -> Iterator[Row]:
    if stdin is not None:
        stdin.seek(0)
    yield from read_rows(options.source, defaults=options.defaults(), stdin=stdin)


def _spooled() -> AbstractContextManager[BinaryIO]:
    """Standard input, read to its end. Raises: CancelledError for Ctrl-C."""
    if sys.stdin.isatty():
        say("Type a prompt a line; Ctrl-D ends them.")
    try:
        with keyboard_interrupts():
            return cast("AbstractContextManager[BinaryIO]", spool())
    except KeyboardInterrupt:
        raise asyncio.CancelledError from None


async def _check_models(client: Client, options: BatchOptions, wanted: set[str], stdin: BinaryIO | None) -> None:
    """Refuse, before anything is spent, a row whose model does not exist."""
    known = {model.name for model in await client.models()}
    unknown = wanted - known
    if not known or not unknown:
        return
    for row in _rows(options, stdin):
        if (row.request.model or DEFAULT_MODEL) in unknown:
            raise InputError(
                f"{options.source_name}, line {row.line}, model: there is no model {row.request.model!r}; "
                f"choose one of {', '.join(sorted(known))}",
                source=options.source_name,
                line=row.line,
                column="model",
            )


def _tell_repeated_keys(options: BatchOptions, keys: KeyHashes, stdin: BinaryIO | None) -> None:
    number, some = keys.repeated()
    if not number:
        return
    named = [
        f"{key.key[:SHOWN_KEY]!r} (lines {', '.join(map(str, key.lines))}{', …' if key.times > len(key.lines) else ''})"
        for key in name_keys(((row.key, row.line) for row in _rows(options, stdin)), some)
    ]
    more = ", …" if number > len(named) else ""
    stand = "key stands" if number == 1 else "keys stand"
    say(f"Warning: {options.source_name}: {number:,} {stand} on more than one line: {', '.join(named)}{more}")
    say("Each line is drawn; the manifest tells them apart by their index.")


# ---- when interrupted


def _tell_finishing(now: BatchProgress) -> None:
    if not now.running:
        say("Submitting nothing more. Ctrl-C again leaves at once.")
        return
    left = now.rows - now.done
    seconds = TYPICAL_SECONDS if now.eta is None or not left else now.running * now.eta / left
    about = told_seconds(max(1, seconds))
    say(f"Finishing {now.running} that run, about {about}, and nothing more. Ctrl-C again leaves at once.")


def _tell_left(now: BatchProgress, folder: Path) -> None:
    running = f"; {now.running} run at the service and are paid" if now.running else ""
    say(f"Left at once with {now.done:,} of {counted(now.rows, 'row')} done{running}.")
    say(f"Run the same command again: it goes on in {folder} and picks up what runs.")


# ---- after


def _tell_end(summary: BatchSummary, folder: Path) -> None:
    stored = summary.rows(JobState.STORED)
    out(f"{stored:,} of {counted(summary.counts.rows, 'row')} stored in {folder / 'images'}")
    for states, told in (
        ((JobState.FAILED,), "failed; --retry-failed looks at them once more, and sends again what has no images"),
        ((JobState.REJECTED,), "rejected by the safety check"),
        ((JobState.COMPLETED,), "made but not downloaded; run the same command again"),
        ((JobState.EXPIRED,), "expired before they were downloaded"),
        ((JobState.LOST,), "lost: charged, but their ids never came; --retry-failed pays for them again"),
        ((JobState.UNCERTAIN,), "uncertain: they may be charged; --uncertain retry sends them again"),
        # What ended it early is told last, and says what to do.
        ((JobState.READY, JobState.INTENT, JobState.RUNNING), "left" if summary.stopped_by else GO_ON),
    ):
        if number := summary.rows(*states) - sum(summary.given_up.get(state, 0) for state in states):
            out(f"{number:,} {told}")
    if given_up := sum(summary.given_up.values()):
        out(f"{given_up:,} {GAVE_UP}")
    in_all = "" if summary.credits_used == summary.counts.credits else f", {summary.counts.credits:,} in all"
    out(f"{counted(summary.credits_used, 'credit')} in {told_seconds(summary.seconds)}{in_all}")
    if summary.doubtful_credits:
        told = counted(summary.doubtful_credits, "credit")
        out(f"{told} more may have been taken by uncertain attempts that were sent again")
    out(f"{folder / 'manifest.jsonl'}\n{folder / 'index.html'}")
    if summary.stopped_by is not None:
        say_error(str(summary.stopped_by))


def _exit_code(summary: BatchSummary) -> int:
    if summary.stopped_by is not None:
        return code_of(summary.stopped_by)
    if summary.all_stored:
        return OK
    return INTERRUPTED if summary.interrupted else SOME_FAILED
