"""The examples run as they are, against the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from nanobanana_async.emulator import Emulator

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(example: Path, tmp_path: Path) -> None:
    """Every example works unchanged, with nothing but the environment pointing at a server."""
    with Emulator(limit=4, duration=0.05, image_size=64).in_thread() as emulator:
        environment = os.environ | {"NANO_BANANA_API_KEY": "nb_examples", "NANO_BANANA_BASE_URL": emulator.url}
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", FAST, str(example)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert done.stdout
        assert emulator.ledger.credits_charged > 0


# A plan of an unknown kind of generation is patient; here they are quick.
FAST = """
import runpy, sys
import nanobanana_async._client as client
from nanobanana_async import PollPlan
client.plan_of = lambda poll: poll or PollPlan(initial_delay=0.05, interval=0.02)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
