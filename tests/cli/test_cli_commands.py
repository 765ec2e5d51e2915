"""`generate`, `get`, `models`, `credits`, `emulator`: data on stdout, words on stderr."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import POLLS, Outcome, Running, submit
from patience import PATIENCE

from nanobanana_async.emulator import Fault, FaultPlan, ThreadedEmulator


def test_generate_prints_the_path_of_a_whole_image(run: Callable[..., Outcome], emulator: ThreadedEmulator) -> None:
    """The path is all that stdout gets, so that a program can use it."""
    told = run("generate", "a fox", "-o", "out", *POLLS)
    assert told.code == 0
    assert [Path(line).stat().st_size > 0 for line in told.out.splitlines()] == [True]
    assert told.err == "queued\ndownloading 1 image\n"


def test_generate_needs_no_open_stderr(emulator: ThreadedEmulator) -> None:
    """Some daemons close what they don't need: then words are dropped, and data is still data."""
    command = shlex.join([sys.executable, "-m", "nanobanana_async", "generate", "a fox", "-o", "out", *POLLS])
    told = subprocess.run(["sh", "-c", f"{command} <&- 2>&-"], stdout=subprocess.PIPE, timeout=PATIENCE, check=True)
    assert told.stdout.decode().splitlines() == list(map(str, Path("out").iterdir()))


@pytest.mark.parametrize("mode", ["sync", "stream"])
def test_generate_knows_the_other_modes(run: Callable[..., Outcome], emulator: ThreadedEmulator, mode: str) -> None:
    """Whatever the mode, the images are saved."""
    told = run("generate", "a fox", "-o", "out", "--mode", mode, "-n", "2")
    assert told.code == 0
    assert len(told.out.splitlines()) == len(list(Path("out").iterdir())) == 2
    assert ("100 %" in told.err) is (mode == "stream")


def test_generate_whose_answer_is_lost_says_where_the_balance_is(
    run: Callable[..., Outcome], emulator: ThreadedEmulator
) -> None:
    """The balance tells whether it is paid, and on a command line a command tells the balance."""
    emulator.faults = FaultPlan(Fault("submit", "reset_after"))
    told = run("generate", "a fox", "-o", "out", *POLLS)
    assert (told.code, told.err.splitlines()[-1]) == (1, "The balance tells: nanobanana credits")


def test_generate_as_json_has_files_and_credits(run: Callable[..., Outcome], emulator: ThreadedEmulator) -> None:
    """`--json` is one object."""
    told = json.loads(run("generate", "a fox", "-o", "out", "--json", *POLLS).out)
    assert told["credits_used"] == 1
    assert [Path(file).exists() for file in told["files"]] == [True]


@pytest.mark.parametrize(("prompt", "words"), [("x [fail]", "failed"), ("x [unsafe]", "rejected")])
def test_generate_without_images_is_1_and_tells_the_cost(
    run: Callable[..., Outcome], emulator: ThreadedEmulator, prompt: str, words: str
) -> None:
    """A failed generation is charged, so its id and cost are told."""
    told = run("generate", prompt, "-o", "out", *POLLS)
    assert told.code == 1
    assert words in told.err
    assert "1 credit charged" in told.err
    assert not Path("out").exists()


def test_get_shows_waits_and_saves(run: Callable[..., Outcome], emulator: ThreadedEmulator) -> None:
    """A generation is picked up by its id."""
    generation_id = json.loads(run("generate", "a fox", "-o", "out", "--json", *POLLS).out)["id"]
    assert "status: completed" in run("get", generation_id).out
    assert json.loads(run("get", generation_id, "--json").out)["id"] == generation_id
    saved = run("get", generation_id, "--wait", "-o", "again", *POLLS)
    assert saved.code == 0
    assert Path(saved.out.strip()).exists()


@pytest.mark.parametrize("generation_id", ["nosuch", " "])
def test_get_of_an_unknown_id_is_2(run: Callable[..., Outcome], emulator: ThreadedEmulator, generation_id: str) -> None:
    """An id that isn't one is bad input."""
    told = run("get", generation_id)
    assert told.code == 2
    assert "id" in told.err


def test_get_of_what_still_runs_says_how_to_wait(run: Callable[..., Outcome], emulator: ThreadedEmulator) -> None:
    """One look is not an error; a folder that got no image is."""
    emulator.emulator.duration = float("inf")
    generation_id = submit(emulator, "a fox")
    assert "status: processing" in run("get", generation_id).out
    told = run("get", generation_id, "-o", "out")
    assert told.code == 1
    assert f"nanobanana get {generation_id} --wait -o out" in told.err
    assert not Path("out").exists()


def test_models_and_credits_are_data(run: Callable[..., Outcome], emulator: ThreadedEmulator) -> None:
    """Tables for people, JSON for programs."""
    assert run("models").out.startswith("MODEL")
    assert "nano-banana" in [model["name"] for model in json.loads(run("models", "--json").out)]
    assert run("credits").out == "100\n"
    assert json.loads(run("credits", "--json").out) == {"credits": 100}


def test_models_need_no_key(
    run: Callable[..., Outcome], emulator: ThreadedEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API asks for none."""
    monkeypatch.delenv("NANO_BANANA_API_KEY")
    assert run("models").code == 0


def test_emulator_serves_until_interrupted(spawn: Callable[..., Running]) -> None:
    """What it prints can be pasted into a shell."""
    running = spawn("emulator", "--port", "0", "--limit", "2")
    running.until("Ctrl-C stops it")
    url = running.out.readline().strip().removeprefix("export NANO_BANANA_BASE_URL=")
    assert running.out.readline() == "export NANO_BANANA_API_KEY=nb_emulator\n"
    with urllib.request.urlopen(f"{url}/models", timeout=PATIENCE) as answer:
        assert json.load(answer)["data"]
    running.send(signal.SIGINT)
    ended = running.end()
    assert ended.code == 130
    assert "Traceback" not in ended.err


def test_emulator_on_a_taken_port_is_2(run: Callable[..., Outcome], emulator: ThreadedEmulator) -> None:
    """And says which option helps."""
    port = emulator.url.split(":")[2].split("/")[0]
    told = run("emulator", "--port", port)
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "--port" in told.err
