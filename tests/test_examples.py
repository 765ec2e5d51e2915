"""The examples run as they are, against the emulator."""

from __future__ import annotations

import ast
import builtins
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from nanobanana_async import Client
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(example: Path, tmp_path: Path) -> None:
    """Every example works unchanged, with nothing but the environment pointing at a server."""
    with Emulator(limit=4, duration=0.05, image_size=64).in_thread() as emulator:
        assert run(example, tmp_path, emulator)
        assert emulator.ledger.credits_charged > 0


@pytest.mark.parametrize(
    "prompts", ['["a fox", "an owl", "a whale"]', '["a fox", " ", "[fail]", "an owl", None, "a whale"]']
)
def test_the_first_program_of_the_readme(prompts: str, tmp_path: Path) -> None:
    """As it stands there; and with prompts that can't be sent, or fail, it tells of them and goes on."""
    (program,) = (block for block in python_blocks((ROOT / "README.md").read_text()) if "asyncio.run(main())" in block)
    assert '["a fox", "an owl", "a whale"]' in program
    readme = tmp_path / "readme.py"
    readme.write_text(program.replace('["a fox", "an owl", "a whale"]', prompts))
    with Emulator(limit=4, duration=0.05, image_size=64).in_thread() as emulator:
        told = run(readme, tmp_path, emulator).splitlines()
    assert len(told) == 1 + len(ast.literal_eval(prompts))


@pytest.mark.parametrize(
    "about", ["client.stream(", "BatchRunner", "DistributedBatch", "FastAPI(", "SQLiteLimiter", "Emulator("]
)
async def test_a_block_of_the_readme(about: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as it stands, where `client` is open; but for the one that needs brokers, whose imports do."""
    (block,) = (block for block in python_blocks((ROOT / "README.md").read_text()) if about in block)
    if about == "DistributedBatch":
        imports = [line for line in block.splitlines() if line.startswith("from nanobanana_async")]
        exec("\n".join(imports), names := {"client": None, "AioPikaBroker": None})
        assert used_names(block) <= names.keys() | vars(builtins).keys()
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("NANO_BANANA_API_KEY", "nb_examples")
    async with Emulator(limit=4, duration=0.01, image_size=64) as emulator:
        monkeypatch.setenv("NANO_BANANA_BASE_URL", emulator.url)
        async with Client(poll=0.01) as client:
            code = compile(block, about, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            running = eval(code, {"client": client})
            if running is not None:
                await running


def used_names(block: str) -> set[str]:
    """Those that it reads and does not bind by itself."""
    names = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return {node.id for node in names if isinstance(node.ctx, ast.Load)} - bound


def test_many_prompts_goes_on_after_a_download_that_fails(tmp_path: Path) -> None:
    """The others are told and saved, and the one that is not, by its id."""
    faults = FaultPlan(Fault("image", "expire", times=1))
    with Emulator(limit=4, duration=0.05, image_size=64, faults=faults).in_thread() as emulator:
        told = run(ROOT / "examples" / "many_prompts.py", tmp_path, emulator).splitlines()
        (unsaved,) = (line for line in told if "is not saved" in line)
        assert sum(": out/" in line for line in told) == 8
        assert any(generation.generation_id in unsaved for generation in emulator.ledger.charged())


def python_blocks(markdown: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)


def run(program: Path, folder: Path, emulator: Emulator) -> str:
    """Its standard output, once it has ended well."""
    environment = os.environ | {"NANO_BANANA_API_KEY": "nb_examples", "NANO_BANANA_BASE_URL": emulator.url}
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", FAST, str(program)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


# A plan of an unknown kind of generation is patient; here they are quick.
FAST = """
import runpy, sys
import nanobanana_async._client as client
from nanobanana_async import PollPlan
client.plan_of = lambda poll: poll or PollPlan(initial_delay=0.05, interval=0.02)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
