"""The command line as a person runs it: the outcome of a command, and one that runs in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nanobanana_async
from nanobanana_async.emulator import ThreadedEmulator

KEY = "nb_secret_of_the_tests"
POLLS = ("--first-poll", "0.02", "--poll-interval", "0.02")
ROOT = Path(nanobanana_async.__file__).parents[1]


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

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.err = ""

    def until(self, text: str) -> str:
        """The first line of stderr with `text`."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.err += line
            if text in line:
                return line
        raise AssertionError(f"ended without saying {text!r}:\n{self.err}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> Outcome:
        """Wait for its end."""
        out, rest = self.process.communicate(timeout=20)
        return Outcome(self.process.returncode, out or "", self.err + (rest or ""))


def submit(emulator: ThreadedEmulator, prompt: str) -> str:
    """The id of a generation that somebody else started."""
    body = json.dumps({"prompt": prompt, "mode": "async"}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{emulator.url}/generate", body, headers), timeout=5) as answer:
        return str(json.load(answer)["generationId"])
