"""`demo`: the whole way from prompts to a gallery, with the emulator in this process. No key, no network."""

from __future__ import annotations

from pathlib import Path

from .._client import Client
from .._exceptions import InvalidRequestError
from .._polling import PollPlan
from ..batch import Journal
from ..batch._journal_db import DB_FILE
from ..batch._lock import is_locked
from ..emulator import Emulator
from ._batch import run_batch
from ._options import BatchOptions
from ._plan import is_known
from ._run import output_folder
from ._terminal import out, say

LIMIT = 4
MEDIAN_SECONDS = 1.2  # of a generation: ten times as fast as the service
FIRST_POLL, POLL_INTERVAL = 0.8, 0.2
MARK = ".nanobanana-demo"  # says that a folder's batch is ours to draw again


def prompts() -> Path:
    """The example prompts: beside this file once installed, in `examples/` in a checkout."""
    installed = Path(__file__).with_name("prompts.jsonl")
    return installed if installed.exists() else Path(__file__).parents[2] / "examples" / "prompts.jsonl"


async def demo(output: Path) -> int:
    """Run the example prompts through the same code as `nanobanana batch`."""
    with output_folder(output) as folder:
        _clear(folder)
        (folder / MARK).touch()
        options = BatchOptions(source=str(prompts()), output=folder, title="Nano Banana demo")
        say(f"An emulator of the API runs in this process: {LIMIT} slots, about {MEDIAN_SECONDS:g} s an image.")
        async with Emulator(limit=LIMIT, duration=MEDIAN_SECONDS, credits=200) as emulator:
            plan = PollPlan(initial_delay=FIRST_POLL, interval=POLL_INTERVAL)
            async with Client("nb_demo", base_url=emulator.url, poll=plan) as client:
                code = await run_batch(client, options)
            ledger = emulator.ledger
    refused = ledger.refusals.total() or "none"
    out(f"The emulator ran {ledger.peak_active} at once, refused {refused}, charged {ledger.credits_charged} credits.")
    out(f"Now open {folder / 'index.html'} in a browser.")
    return code


def _clear(folder: Path) -> None:
    """Remove what an earlier demo made: its emulator, and so everything that it could go on with, is gone.

    Raises: InvalidRequestError for a folder with a batch that is not a demo, or that is being worked on.
    """
    if not is_known(folder):
        return
    if not (folder / MARK).exists():
        raise InvalidRequestError(f"{folder} holds a batch that is not a demo; choose another folder with -o")
    if is_locked(folder):
        raise InvalidRequestError(f"a demo is running in {folder}; choose another folder with -o")
    say(f"{folder} holds an earlier demo; it is drawn again.")
    for row in Journal.read(folder):
        for name in row.files:
            (folder / name).unlink(missing_ok=True)
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{DB_FILE}{suffix}").unlink(missing_ok=True)
