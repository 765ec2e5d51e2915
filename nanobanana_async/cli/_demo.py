"""`demo`: the whole way from prompts to a gallery, with the emulator in this process. No key, no network."""

from __future__ import annotations

from pathlib import Path

from .._client import Client
from .._polling import PollPlan
from ..emulator import Emulator
from ._batch import BatchOptions, run_batch
from ._run import say, writable_folder

LIMIT = 4
MEDIAN_SECONDS = 1.2  # of a generation: ten times as fast as the service


def prompts() -> Path:
    """The example prompts: beside this file once installed, in `examples/` in a checkout."""
    installed = Path(__file__).with_name("prompts.jsonl")
    return installed if installed.exists() else Path(__file__).parents[2] / "examples" / "prompts.jsonl"


async def demo(output: Path) -> int:
    """Run the example prompts through the same code as `nanobanana batch`."""
    folder = writable_folder(output)
    say(f"an emulator of the API starts in this process: {LIMIT} slots, {MEDIAN_SECONDS:g} s a generation")
    async with Emulator(limit=LIMIT, duration=MEDIAN_SECONDS, credits=200) as emulator:
        plan = PollPlan(initial_delay=0.8, interval=0.2)
        async with Client("nb_demo", base_url=emulator.url, poll=plan) as client:
            options = BatchOptions(source=str(prompts()), output=folder, yes=True, title="Nano Banana demo")
            code = await run_batch(client, options)
        ledger = emulator.ledger
        print(f"the emulator saw {ledger.peak_active} generations at once and charged {ledger.credits_charged} credits")
    return code
