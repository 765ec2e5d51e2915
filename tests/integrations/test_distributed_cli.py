"""`batch --distributed` and `worker` as people run them; those that get signals in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from redis import Redis

from nanobanana_async.cli import main
from nanobanana_async.emulator import Emulator, ThreadedEmulator

KEY = "nb_secret_of_the_tests"
POLLS = ("--first-poll", "0.02", "--poll-interval", "0.02")


class Command:
    """One in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        program = [sys.executable, "-m", "nanobanana_async", *arguments, *POLLS]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        self._process = subprocess.Popen(program, cwd=folder, text=True, **pipes)
        self.said = ""

    def until(self, text: str) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said += line
            if text in line:
                return
        raise AssertionError(f"ended without saying {text!r}:\n{self.said}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, out, self.said + err

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedEmulator]:
    settings: dict[str, Any] = {"limit": 4, "duration": 0.05, "sigma": 0.0, "image_size": 32, "credits": 100}
    with Emulator(**settings, keys=[KEY]).in_thread() as running:
        monkeypatch.setenv("NANO_BANANA_BASE_URL", running.url)
        monkeypatch.setenv("NANO_BANANA_API_KEY", KEY)
        yield running


@pytest.fixture
def start(emulator, tmp_path) -> Iterator[Any]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(Command(tmp_path, *arguments))
        return started[-1]

    yield start
    for command in started:
        command.close()


@pytest.fixture
def run(own_logging, monkeypatch, capfd, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """`run("worker", url)` in this process: exit code, and what it said on both streams."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["nanobanana", *arguments, *POLLS])
        with pytest.raises(SystemExit) as left:
            main()
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def test_a_batch_is_left_to_its_worker_and_watched_again(start, run, redis_server, emulator, tmp_path):
    """Ctrl-C leaves the worker at work and says how to come back; SIGTERM lets a worker finish."""
    url = redis_server.url
    (tmp_path / "prompts.txt").write_text("".join(f"cat {number}\n" for number in range(30)))
    batch = ("batch", "prompts.txt", "-o", "out", "--yes", "--distributed", url)
    first = start(*batch)
    first.until("no worker is there")
    worker = start("worker", url)
    worker.until("is ready")
    first.send(signal.SIGINT)
    code, out, err = first.end()
    assert code == 130
    assert "Run the same command again" in err
    assert "stored so far" in out

    code, out, err = run(*batch)
    assert code == 0, err
    assert "30 of 30 rows stored" in out
    assert "30 rows known" in err
    worker.send(signal.SIGTERM)
    code, _, err = worker.end()
    assert (code, "30 rows stored by this worker" in err) == (0, True)
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["stored"] * 30
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("batch.db", "batch.lock", "images", "index.html", "manifest.jsonl")
    ]
    with Redis.from_url(url) as redis:
        assert not [key for key in redis.scan_iter() if b":batches:b:" in key or b":batches:r:" in key]
    assert KEY not in err


def test_what_goes_wrong_at_the_start_is_told_in_a_line(run, emulator, redis_server, tmp_path, monkeypatch):
    """No Redis: 2. A wrong key: 3, from the worker too."""
    (tmp_path / "prompts.txt").write_text("cat\n")
    nowhere = f"unix://{tmp_path}/nothing"
    batch = ("batch", "prompts.txt", "-o", "out", "--yes", "--distributed", nowhere)
    for command in [batch, ("worker", nowhere)]:
        code, _, err = run(*command)
        assert (code, "Redis can't be reached" in err, "Traceback" in err) == (2, True, False), err
    monkeypatch.setitem(os.environ, "NANO_BANANA_API_KEY", "nb_wrong")
    code, _, err = run("worker", redis_server.url)
    assert (code, "Traceback" in err) == (3, False), err
