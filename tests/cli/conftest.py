"""Fixtures that run commands: in this process where that is enough, in their own for signals and pipes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import KEY, POLLS, ROOT, Outcome, Running
from forks import Forks

from nanobanana_async.cli import main
from nanobanana_async.emulator import Emulator, ThreadedEmulator


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedEmulator]:
    """A fast service, and the environment that leads to it."""
    settings: dict[str, Any] = {"limit": 4, "duration": 0.02, "sigma": 0.0, "image_size": 32, "credits": 100}
    with Emulator(**settings, keys=[KEY]).in_thread() as running:
        monkeypatch.setenv("NANO_BANANA_BASE_URL", running.url)
        monkeypatch.setenv("NANO_BANANA_API_KEY", KEY)
        yield running


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder, with no key and no service of the developer's."""
    for name in ("NANO_BANANA_API_KEY", "NB_API_KEY", "NANO_BANANA_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(
    own_logging: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """`run("credits", "--json")` in this process."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["nanobanana", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as left:
            main()
        said = capfd.readouterr()
        return Outcome(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def batch(run: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """`batch("prompts.txt")`: a batch into `out` that polls fast and does not ask."""
    return lambda source, *options, **more: run("batch", source, "-o", "out", "--yes", *POLLS, *options, **more)


@pytest.fixture
def write() -> Callable[[str, str | bytes], Path]:
    """Write a file into the folder of the test."""

    def write(name: str, text: str | bytes) -> Path:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return Path(name)

    return write


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Where the processes of `spawn` come from."""
    forks = Forks(ROOT)
    yield forks
    forks.close()


@pytest.fixture
def spawn(forks: Forks) -> Iterator[Callable[..., Running]]:
    """`spawn("batch", ...)` in a process of its own, which a failing test does not leave behind."""
    started: list[Running] = []

    def spawn(*arguments: str | Path, **streams: int) -> Running:
        started.append(Running(forks, [*map(str, arguments)], streams))
        return started[-1]

    yield spawn
    for running in started:
        running.close()


@pytest.fixture
def account(emulator: ThreadedEmulator) -> Any:
    """The account of the key."""
    return emulator.account(KEY)
