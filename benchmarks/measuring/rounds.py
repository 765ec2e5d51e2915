"""Contenders, each in a process of its own, take turns at the same work; medians and ratios come out.

The server is pinned to one core and the contenders to another where there are two. Only one contender works at a
time, and the turns alternate, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

HERE = Path(__file__).resolve().parent.parent
WORK_CORE, SERVER_CORE = 0, -1


class Server:
    """The server's address, and its world to be set."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self._opener = build_opener(ProxyHandler({}))

    def set(self, *, looks: int = 1, limit: int | None = None, image_bytes: int = 200_000) -> None:
        """What it answers from now on."""
        world = json.dumps({"looks": looks, "limit": limit, "image_bytes": image_bytes}).encode()
        self._opener.open(Request(f"{self.origin}/world", data=world)).read()


@contextmanager
def serving() -> Iterator[Server]:
    """The server, in another process and on another core."""
    with child(["-m", "measuring.server"], SERVER_CORE) as server:
        yield Server(int(_line(server)))


@contextmanager
def child(arguments: list[str], core: int) -> Iterator[subprocess.Popen[str]]:
    """A Python process in this folder, on one core. It ends when its input does."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(HERE)},
    )
    pin(core, process.pid)
    try:
        yield process
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class Contender:
    """A process that works when told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, **work: Any) -> dict[str, float]:
        """One turn. Returns what was measured. Raises: RuntimeError when it failed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        return json.loads(_line(self._process))


@contextmanager
def contending(names: Sequence[str], server: Server) -> Iterator[dict[str, Contender]]:
    """Contenders by name, without those whose package isn't installed: a line on stderr tells of each."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            process = stack.enter_context(child(["-m", "measuring.contender", name, server.origin], WORK_CORE))
            missing = json.loads(_line(process))["missing"]
            if missing:
                print(f"without {name}: {missing} is not installed", file=sys.stderr)
            else:
                found[name] = Contender(process)
        yield found


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some rounds, and their spread: half the range of the middle half, as a share of the median."""

    median: float
    spread: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        median = statistics.median(values)
        if len(values) < 4 or not median:
            return cls(median, 0.0)
        low, _, high = statistics.quantiles(values, n=4)
        return cls(median, (high - low) / 2 / median)


Rounds = Mapping[str, Sequence[Mapping[str, float]]]


def alternate(contenders: Mapping[str, Contender], rounds: int, work: Callable[[str], dict[str, Any]]) -> Rounds:
    """Let each have a turn, `rounds` times over, the order turning; `work` says what to do,
    by name, before each turn."""
    results: dict[str, list[Mapping[str, float]]] = {name: [] for name in contenders}
    names = list(contenders)
    for place in range(rounds):
        shift = place % len(names)
        for name in names[shift:] + names[:shift]:
            results[name].append(contenders[name].run(**work(name)))
    return results


def ratios(rounds: Rounds, base: str, what: str) -> dict[str, Figure]:
    """Each contender's `what` over `base`'s of the same round."""
    return {
        name: Figure.of([turn[what] / other[what] for turn, other in zip(turns, rounds[base], strict=True)])
        for name, turns in rounds.items()
    }


def figures(rounds: Rounds, what: str) -> dict[str, Figure]:
    """Each contender's `what`."""
    return {name: Figure.of([turn[what] for turn in turns]) for name, turns in rounds.items()}


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended with {process.wait()}")
    return line


def pin(core: int, pid: int = 0) -> None:
    """Keep a process to one core, where there are at least two and the system can."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(pid))
        if len(cores) > 1:
            os.sched_setaffinity(pid, {cores[core]})
