"""Kill -9 in the middle of a batch: processes to be killed, and the comparison with the service's own book.

Run as a program it is a nursery: it has everything imported, and forks a process for each line that it reads, which
saves a start of Python each. A line is `FOLDER URL ROWS POINT RETRY`; the process works on that batch until it is done
or killed. The point "before:accepted:3" lets it kill itself at the third such step of the journal, "-" never. The
emulator lives in the process that watches, and survives.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from nanobanana_async import Client
from nanobanana_async.batch import BatchEvent, BatchRunner, Journal, read_manifest
from nanobanana_async.batch._outputs import Outputs
from nanobanana_async.batch._patience import Patience
from nanobanana_async.batch._submitting import RowLedger
from nanobanana_async.emulator import Ledger

HURRY = Patience(
    confirm_delay=0.05,
    network_interval=0.02,
    answer_timeout=5.0,
    overtake_delay=5.0,
    outputs_interval=0.05,
    memory_interval=0.5,
)
DOUBTFUL = ("lost", "uncertain")
TOLD = {"stored", "completed", "failed", "rejected", *DOUBTFUL}


# ---- the processes


def nurse() -> None:
    """Fork a process for each line, and tell when it is born, has begun, and is gone."""
    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                live(*line.split())
            finally:
                os._exit(0)
        say("born", pid)


def reap(*_: object) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        say("gone", pid, os.waitstatus_to_exitcode(status))


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece, whoever else writes


def live(folder: str, url: str, rows: str, point: str, retry: str) -> None:
    if point != "-":
        arm(*point.split(":"))
    begun = partial(say, "begun", os.getpid())
    asyncio.run(work(Path(folder), url, int(rows), retry_failed=retry == "retry", begun=begun))


async def work(
    folder: Path, url: str, rows: int, *, retry_failed: bool = False, begun: Callable[[], None] = lambda: None
) -> None:
    """Run the batch as far as it goes."""
    told = False

    def tell(_: BatchEvent) -> None:
        nonlocal told
        if not told:
            told = True
            begun()

    async with (
        Client("nb_test", base_url=url, poll=0.02) as client,
        BatchRunner(client, folder, retry_failed=retry_failed, patience=HURRY, on_event=tell) as batch,
    ):
        await batch.add(f"cat {number}" for number in range(rows))
        await batch.run()


def arm(when: str, name: str, number: str) -> None:
    """Die before or after the n-th time that a step is taken."""
    owner: Any = {"write": Outputs, "finished": RowLedger}.get(name, Journal)
    step, left = getattr(owner, name), int(number)

    def deadly(*args: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left != 0:
            return step(*args, **named)
        if when == "before":
            die()
        taken = asyncio.ensure_future(step(*args, **named))
        taken.add_done_callback(die)
        return taken

    setattr(owner, name, deadly)


def die(taken: asyncio.Future[Any] | None = None) -> None:
    if taken is None or (not taken.cancelled() and taken.exception() is None):
        os.kill(os.getpid(), signal.SIGKILL)


# ---- who watches


class Nursery:
    """`async with Nursery() as nursery`, then `await nursery.crash(...)`, many at once."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._news: dict[tuple[str, int], asyncio.Future[int]] = {}
        self._asking = asyncio.Lock()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._reading
        await self._process.wait()

    async def crash(
        self,
        folder: Path,
        url: str,
        rows: int,
        *,
        at: str = "-",
        after: float | None = None,
        retry_failed: bool = False,
    ) -> bool:
        """Work on a batch until killed: at a step, or so many seconds after it has begun. False: done before that."""
        pid = await self._bear(f"{folder} {url} {rows} {at} {'retry' if retry_failed else '-'}")
        if after is not None:
            await asyncio.wait((self._told("begun", pid), self._told("gone", pid)), return_when="FIRST_COMPLETED")
            gone, _ = await asyncio.wait((self._told("gone", pid),), timeout=after)
            if not gone:
                with suppress(ProcessLookupError):  # done in this very moment
                    os.kill(pid, signal.SIGKILL)
        return await self._told("gone", pid) == -signal.SIGKILL

    async def _bear(self, line: str) -> int:
        assert self._process.stdin is not None
        async with self._asking:
            self._process.stdin.write(line.encode() + b"\n")
            return await self._born.get()

    def _told(self, what: str, pid: int) -> asyncio.Future[int]:
        return self._news.setdefault((what, pid), asyncio.get_running_loop().create_future())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            what, pid, *code = line.split()
            if what == b"born":
                self._born.put_nowait(int(pid))
            else:
                self._told(what.decode(), int(pid)).set_result(int(code[0]) if code else 0)


@dataclass(slots=True)
class Findings:
    """What the service's book and the manifest say of the same prompts."""

    charged_twice: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    doubts: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    credits_charged: int = 0
    credits_told: int = 0

    @property
    def clean(self) -> bool:
        """Nothing was paid twice, and nothing that was paid is hidden."""
        return not self.charged_twice and not self.untold


def compare(folder: Path, ledger: Ledger) -> Findings:
    """Hold the manifest against the ledger."""
    rows = {row.prompt: row for row in read_manifest(folder)}
    charged = Counter(ledger.charged_prompts())
    statuses = Counter(row.status.value for row in rows.values())
    return Findings(
        charged_twice=[prompt for prompt, times in charged.items() if times > 1],
        untold=[prompt for prompt in charged if rows[prompt].status.value not in TOLD],
        doubts=sum(statuses[status] for status in DOUBTFUL),
        statuses=statuses,
        credits_charged=ledger.credits_charged,
        credits_told=sum(row.credits or 0 for row in rows.values()),
    )


if __name__ == "__main__":
    nurse()
