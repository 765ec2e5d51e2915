"""The command line as a person runs it: the outcome of a command, and one that runs in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forks import Forks
from patience import PATIENCE

import nanobanana_async
from nanobanana_async.emulator import ThreadedEmulator

KEY = "nb_secret_of_the_tests"
POLLS = ("--first-poll", "0.02", "--poll-interval", "0.02")
ROOT = Path(nanobanana_async.__file__).parents[1]
HEAVY = ("aiohttp", "anyio", "pydantic", "rich", "PIL")
TELLING_WHAT_IT_LOADS = f"""
import sys
from nanobanana_async.cli import main
try:
    main()
finally:
    sys.stderr.write(" ".join(name for name in {HEAVY!r} if name in sys.modules))
"""


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def manifest(folder: str = "out") -> list[dict[str, Any]]:
    """The rows of a batch's manifest."""
    return [json.loads(line) for line in (Path(folder) / "manifest.jsonl").read_text().splitlines()]


class Running:
    """A command in a process of its own."""

    def __init__(self, forks: Forks, arguments: list[str], streams: dict[str, int]) -> None:
        self._forks = forks
        reading_out, writing_out = os.pipe()
        reading_err, writing_err = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        ours = {"stdin": nothing, "stdout": writing_out, "stderr": writing_err}
        self._pid: int | None = forks.start(arguments, list((ours | streams).values()))
        for stream in ours.values():
            os.close(stream)
        self.out = os.fdopen(reading_out)
        self.err = os.fdopen(reading_err)
        self.said = ""

    def until(self, text: str) -> str:
        """The first line of stderr with `text`."""
        for line in self.err:
            self.said += line
            if text in line:
                return line
        raise AssertionError(f"ended without saying {text!r}:\n{self.said}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._pid is not None  # it has not ended
        os.kill(self._pid, number)

    def end(self) -> Outcome:
        """Wait for its end."""
        assert self._pid is not None  # nobody waited for it before
        code = self._forks.wait(self._pid)
        self._pid = None
        with self.out, self.err:
            return Outcome(code, self.out.read(), self.said + self.err.read())

    def close(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self._pid is not None:
            self.send(signal.SIGKILL)
            self.end()


def submit(emulator: ThreadedEmulator, prompt: str) -> str:
    """The id of a generation that somebody else started."""
    body = json.dumps({"prompt": prompt, "mode": "async"}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{emulator.url}/generate", body, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return str(json.load(answer)["generationId"])
