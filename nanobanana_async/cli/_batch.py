"""`batch` and `gallery`: a file of prompts to a folder of images."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from .._client import Client
from .._exceptions import InputError, JournalError
from ..batch import BatchRunner, BatchSummary, JobState, Journal, Preflight, rebuild_gallery, write_gallery
from ..batch._inputs import STDIN, RowDefaults, check_input, read_rows, spool
from ._progress import BatchDisplay, told_seconds
from ._run import BAD_INPUT, INTERRUPTED, OK, SOME_FAILED, Connection, code_of, say, writable_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What the options say."""

    source: str
    output: Path
    model: str | None = None
    aspect_ratio: str | None = None
    quantity: int | None = None
    max_credits: int | None = None
    max_concurrency: int | None = None
    dry_run: bool = False
    yes: bool = False
    partial: bool = False
    dedupe: bool = False
    retry_failed: bool = False
    uncertain: Literal["hold", "retry"] = "hold"
    title: str | None = None

    def defaults(self) -> RowDefaults:
        """What rows get that name none of their own."""
        return RowDefaults(model=self.model, aspect_ratio=self.aspect_ratio, quantity=self.quantity)


async def batch(connection: Connection, options: BatchOptions) -> int:
    """Check everything, say what it costs, then run it."""
    with spool() if options.source == STDIN else nullcontext() as spooled:
        stdin = cast("BinaryIO | None", spooled)
        counts = await asyncio.to_thread(check_input, options.source, defaults=options.defaults(), stdin=stdin)
        client = connection.client(max_concurrency=options.max_concurrency)
        writable_folder(options.output)
        async with client:
            await _check_models(client, options, set(counts.by_model), stdin)
            return await run_batch(client, options, stdin)


async def run_batch(client: Client, options: BatchOptions, stdin: BinaryIO | None = None) -> int:
    """The batch itself, with its display; the exit code tells how it ended."""
    display = BatchDisplay()
    runner = BatchRunner(
        client,
        options.output,
        max_credits=options.max_credits,
        retry_failed=options.retry_failed,
        uncertain=options.uncertain,
        title=options.title,
        on_event=display.tell,
    )
    async with runner:
        if stdin is not None:
            stdin.seek(0)
        rows = read_rows(options.source, defaults=options.defaults(), stdin=stdin)
        added = await runner.add(rows, dedupe=options.dedupe, source=options.source)
        if added.known:
            say(f"{options.output} goes on: {added.known} rows known, {added.added} new")
        if not await _go_ahead(await runner.preflight(), options):
            return OK if options.dry_run else BAD_INPUT
        with display, _stopped_by_signals(runner):
            summary = await runner.run()
    _tell_end(summary, options.output)
    return _exit_code(summary)


async def gallery(folder: Path) -> int:
    """Write the page anew: from the journal, which may be of a running batch, else from the manifest."""
    try:
        path = await asyncio.to_thread(lambda: write_gallery(folder, Journal.read(folder)))
    except JournalError:
        path = await asyncio.to_thread(rebuild_gallery, folder)
    print(path)
    return OK


# ---- before


async def _check_models(client: Client, options: BatchOptions, wanted: set[str], stdin: BinaryIO | None) -> None:
    """Refuse, before anything is spent, a row whose model does not exist."""
    known = {model.name for model in await client.models()}
    unknown = {name for name in wanted - known if name}
    if not known or not unknown:
        return
    if stdin is not None:
        stdin.seek(0)
    for row in read_rows(options.source, defaults=options.defaults(), stdin=stdin):
        if row.request.model in unknown:
            name = "standard input" if options.source == STDIN else options.source
            raise InputError(
                f"{name}, line {row.line}, model: there is no model {row.request.model!r}; "
                f"choose one of {', '.join(sorted(known))}",
                source=name,
                line=row.line,
                column="model",
            )


async def _go_ahead(preflight: Preflight, options: BatchOptions) -> bool:
    """Say what it will cost; False when it should not run."""
    _tell_preflight(preflight)
    if options.dry_run:
        return False
    shortfall = preflight.shortfall()
    if shortfall is not None and not options.partial:
        raise shortfall
    if options.yes or preflight.rows == 0:
        return True
    if not sys.stdin.isatty() or options.source == STDIN:
        say("nothing was spent: add --yes to run it without being asked")
        return False
    answer = await asyncio.to_thread(input, "Go ahead? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _tell_preflight(preflight: Preflight) -> None:
    for model in preflight.models:
        cost = "unknown price" if model.credits is None else f"{model.credits} credits"
        say(f"  {model.model}: {model.rows} rows, {model.images} images, {cost}")
    cost = "?" if preflight.credits is None else str(preflight.credits)
    slots = f"{preflight.limit} slots" if preflight.limit else "one slot"
    say(
        f"{preflight.rows} rows, {preflight.images} images, {cost} credits of {preflight.balance}; "
        f"about {told_seconds(preflight.seconds)} at {slots}"
    )
    if preflight.outlives_links:
        say("this takes longer than the 15 days that image links live; images are saved as they come")


# ---- while


@contextmanager
def _stopped_by_signals(runner: BatchRunner) -> Iterator[None]:
    """The first Ctrl-C finishes what runs; the second, or SIGTERM, leaves at once. Either way a next run goes on."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    seen = 0

    def interrupt() -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            task.cancel()
            return
        now = runner.progress()
        say(f"finishing {now.running} that run, submitting nothing more; Ctrl-C again leaves at once")
        runner.stop()

    handled: list[Any] = []
    try:
        for number, action in ((signal.SIGINT, interrupt), (signal.SIGTERM, task.cancel)):
            loop.add_signal_handler(number, action)
            handled.append(number)
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


# ---- after


def _tell_end(summary: BatchSummary, folder: Path) -> None:
    stored = summary.rows(JobState.STORED)
    print(f"{stored} of {summary.counts.rows} rows stored in {folder / 'images'}")
    for states, told in (
        ((JobState.FAILED,), "failed; --retry-failed sends them again"),
        ((JobState.REJECTED,), "rejected by the safety check"),
        ((JobState.COMPLETED,), "made but not downloaded; run the same command again"),
        ((JobState.EXPIRED,), "expired before they were downloaded"),
        ((JobState.LOST,), "lost: charged, but their ids never came; --retry-failed pays for them again"),
        ((JobState.UNCERTAIN,), "uncertain: they may be charged; --uncertain retry sends them again"),
        ((JobState.READY, JobState.INTENT, JobState.RUNNING), "left; run the same command again"),
    ):
        if number := summary.rows(*states):
            print(f"{number} {told}")
    print(f"{summary.credits_used} credits in {told_seconds(summary.seconds)}, {summary.counts.credits} in all")
    print(f"{folder / 'manifest.jsonl'}\n{folder / 'index.html'}", flush=True)
    if summary.stopped_by is not None:
        say(f"error: {summary.stopped_by}")


def _exit_code(summary: BatchSummary) -> int:
    if summary.stopped_by is not None:
        return code_of(summary.stopped_by)
    if summary.interrupted:
        return INTERRUPTED
    return OK if summary.all_stored else SOME_FAILED
