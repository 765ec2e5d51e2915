"""Processes that share an account: each works on a batch of its own, through one shared limiter; the emulator watches.

Run as a program it is a nursery: it has everything imported, and forks a process for each line that it reads, which
saves a start of Python each.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from nanobanana_async import Client
from nanobanana_async.batch import BatchRunner, read_manifest
from nanobanana_async.emulator import Ledger
from nanobanana_async.integrations.redis import RedisLimiter
from nanobanana_async.integrations.sqlite import SQLiteLimiter

KEY = "nb_test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one process does. `store` is a Redis URL, or a file for SQLite."""

    store: str
    url: str
    folder: str
    rows: int
    lease_seconds: float = 30.0
    submit_seconds: float = 120.0
    poll: float = 0.05
    alone_after: float | None = None


async def work(task: Work) -> None:
    """The process itself."""
    terms = {"account": KEY, "lease_seconds": task.lease_seconds, "submit_seconds": task.submit_seconds}
    limiter = (
        RedisLimiter(task.store, **terms)
        if "://" in task.store
        else SQLiteLimiter(task.store, **terms, alone_after=task.alone_after)
    )
    async with (
        limiter,
        Client(KEY, base_url=task.url, limiter=limiter, poll=task.poll) as client,
        BatchRunner(client, task.folder) as batch,
    ):
        await batch.add(f"{Path(task.folder).name} {number}" for number in range(task.rows))
        await batch.run()


def nurse() -> None:
    """Fork a process for each line, which is its work; tell when it is born, and when it is gone."""
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                asyncio.run(work(Work(**json.loads(line))))
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        _say("born", pid)


def _reap(*_: object) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say("gone", pid, os.waitstatus_to_exitcode(status))


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece, whoever else writes


@dataclass(frozen=True, slots=True)
class Worker:
    """One process, from outside. `gone` is its exit code."""

    pid: int
    gone: asyncio.Future[int]

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """As a debugger, or a laptop's lid."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Nursery:
    """`async with Nursery() as nursery`: everything is imported once, and processes are forked from there."""

    async def __aenter__(self) -> Self:
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        self._process = await asyncio.create_subprocess_exec(sys.executable, __file__, **pipes)
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._gone: dict[int, asyncio.Future[int]] = {}
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        for pid, gone in self._gone.items():
            if not gone.done():
                os.kill(pid, signal.SIGKILL)
        self._process.stdin.close()
        await self._reading
        await self._process.wait()

    async def start(self, *works: Work) -> list[Worker]:
        """A process for each, already at work."""
        assert self._process.stdin is not None
        for task in works:
            self._process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
        return [Worker(pid := await self._born.get(), self._told(pid)) for _ in works]

    def _told(self, pid: int) -> asyncio.Future[int]:
        return self._gone.setdefault(pid, asyncio.get_running_loop().create_future())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            match line.decode().split():
                case ["born", pid]:
                    self._born.put_nowait(int(pid))
                case ["gone", pid, code]:
                    self._told(int(pid)).set_result(int(code))


async def ended(workers: Iterable[Worker]) -> None:
    """All of them, well."""
    codes = await asyncio.gather(*(worker.gone for worker in workers))
    assert not any(codes), codes


@dataclass(frozen=True, slots=True)
class Findings:
    """What the service's ledger and the batches' manifests say."""

    peak: int
    busy: float  # share of the slots, from the first submission to the last end
    refusals: int
    charged: int
    charged_twice: list[str]
    statuses: Counter[str]


def is_settled(ledger: Ledger, limit: int) -> bool:
    """All slots are taken, and all answers of that are known: whoever is killed now leaves no doubt behind."""
    running = [entry for entry in ledger.charged() if entry.finished_at is None]
    return len(running) == limit and all(entry.polls for entry in running)


def find(ledger: Ledger, limit: int, folders: Iterable[str]) -> Findings:
    """Compare."""
    entries = ledger.charged()
    prompts = Counter(entry.prompt for entry in entries)
    began, over = (min(e.created_at for e in entries), max(e.finished_at or 0.0 for e in entries))
    held = sum((entry.finished_at or over) - entry.created_at for entry in entries)
    return Findings(
        peak=ledger.peak_active,
        busy=held / limit / (over - began),
        refusals=ledger.refusals.total(),
        charged=len(entries),
        charged_twice=[prompt for prompt, times in prompts.items() if times > 1],
        statuses=Counter(str(row.status) for folder in folders for row in read_manifest(Path(folder))),
    )


if __name__ == "__main__":
    nurse()
