"""What a batch would cost, and whether it may go ahead. Nothing is written to the batch's folder here.

Were a refused batch remembered, whoever mends its input after a look at the costs would be told that it differs from
what the batch was started with.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .._client import Client
from .._exceptions import JournalError
from ..batch import BatchRunner, Preflight, Row
from ..batch._budget import Prices
from ..batch._inputs import MAX_OWN, STDIN, InputCounts
from ..batch._journal_db import DB_FILE, copy_journal
from ..batch._runner import MAX_ATTEMPTS
from ._options import BatchOptions
from ._run import BAD_INPUT, OK, SOME_FAILED
from ._terminal import ask, say
from ._words import counted, told_seconds

GAVE_UP = f"gave up after {MAX_ATTEMPTS} attempts"
SHOWN_COLUMN = 40  # characters of a column's name


def is_known(folder: Path) -> bool:
    """Whether a batch was started there."""
    return (folder / DB_FILE).exists()


async def plan(client: Client, options: BatchOptions, counts: InputCounts, rows: Iterable[Row]) -> Preflight:
    """What would be submitted now. Asks for models and balance only."""
    if is_known(options.output) or options.dedupe:
        return await _tried_on_a_copy(client, options, rows)
    prices = Prices({model.name: model.credits_cost for model in await client.models()})
    balance = await client.credits()
    limit = client.limit
    return Preflight.of(counts.by_model, prices, balance=balance, limit=limit, max_credits=options.max_credits)


async def go_ahead(preflight: Preflight, options: BatchOptions, *, own: Sequence[str] = ()) -> int | None:
    """Say what it will cost, and ask. None to go on, else the exit code. Raises: the shortfall, unless partial.

    `own` are the input's own columns: told before money is spent, lest one was meant for something else.
    """
    _tell(preflight)
    if own and preflight.rows:
        say(f"own columns: {', '.join(name[:SHOWN_COLUMN] for name in own)}{', …' if len(own) == MAX_OWN else ''}")
    shortfall = preflight.shortfall()
    if options.dry_run:
        if shortfall is not None:
            say(f"It would be refused: {shortfall}")
        return OK
    if shortfall is not None and not options.partial:
        raise shortfall
    if options.yes or preflight.rows == preflight.judged == 0:
        return None
    if options.source == STDIN or not sys.stdin.isatty():
        say("Nothing was spent. Add --yes to run it without being asked.")
        return BAD_INPUT
    if await ask("Go ahead?"):
        return None
    say("Nothing was spent.")
    return SOME_FAILED


async def _tried_on_a_copy(client: Client, options: BatchOptions, rows: Iterable[Row]) -> Preflight:
    with _copy(options.output) as folder:
        runner = BatchRunner(
            client,
            folder,
            max_credits=options.max_credits,
            retry_failed=options.retry_failed,
            uncertain=options.uncertain,
        )
        async with runner:
            await runner.add(rows, dedupe=options.dedupe, source=options.source_name)
            return await runner.preflight()


@contextmanager
def _copy(folder: Path) -> Iterator[Path]:
    """A folder with a copy of the batch's journal, if there is one. Raises: JournalError."""
    with tempfile.TemporaryDirectory(prefix="nanobanana-") as scratch:
        if is_known(folder):
            copy_journal(folder, Path(scratch))
        try:
            yield Path(scratch)
        except JournalError as error:  # what is wrong with the copy is wrong with the journal
            raise JournalError(str(error).replace(scratch, str(folder))) from error


def _tell(preflight: Preflight) -> None:
    if preflight.given_up:
        say(f"{counted(preflight.given_up, 'row')} {GAVE_UP}")
    if preflight.judged:
        say(f"{counted(preflight.judged, 'row')} to be judged by the balance first, and sent again if not taken")
    if preflight.rows == 0:
        if not preflight.judged:
            say("Nothing is left to submit.")
        return
    if len(preflight.models) > 1:
        _tell_models(preflight)
    cost = "an unknown number of credits" if preflight.credits is None else counted(preflight.credits, "credit")
    of = "" if preflight.balance is None else f" of the account's {preflight.balance:,}"
    say(f"{counted(preflight.rows, 'row')}, {counted(preflight.images, 'image')}, {cost}{of}")
    if preflight.looked_at:
        failed = "row that failed is" if preflight.looked_at == 1 else "rows that failed are"
        say(f"at most: {preflight.looked_at:,} {failed} looked at first, and what has its images by now costs nothing")
    if preflight.limit:
        say(f"about {told_seconds(preflight.seconds)} with {counted(preflight.limit, 'slot')}")
    else:
        say(f"about {told_seconds(preflight.seconds)} with one slot; how many the account has is learned on the way")
    if preflight.outlives_links:
        say("That is longer than the 15 days that image links live; images are saved as they come.")


def _tell_models(preflight: Preflight) -> None:
    cells = [("MODEL", "ROWS", "IMAGES", "CREDITS")]
    for model in preflight.models:
        credits_told = "?" if model.credits is None else f"{model.credits:,}"
        cells.append((model.model, f"{model.rows:,}", f"{model.images:,}", credits_told))
    name, *widths = (max(len(row[column]) for row in cells) for column in range(4))
    for row in cells:
        numbers = "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        say(f"{row[0]:<{name}}{numbers}")
