"""Workers in processes of their own, to be killed, stopped and woken; the emulator and the coordinator live here.

Run as a program it is a nursery: it has everything imported, and forks a worker for each line that it reads, which
saves a start of Python each. A line is `REDIS URL ACCOUNT LEASE`. A worker tells when it has begun; SIGTERM lets it
finish.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis

from nanobanana_async import Client
from nanobanana_async.batch import BatchEvent, BatchSummary, Patience, read_manifest
from nanobanana_async.emulator import Ledger
from nanobanana_async.integrations._account import account_id
from nanobanana_async.integrations.distributed import DistributedBatch, Terms, Worker
from nanobanana_async.integrations.redis import RedisLimiter
from nanobanana_async.integrations.taskiq import drain_on, redis_broker, serve

KEY = "nb_test"
HURRY = Patience(
    confirm_delay=0.05, network_interval=0.05, answer_timeout=2.0, overtake_delay=2.0, outputs_interval=1.0
)
TERMS = Terms(lease_seconds=1.0, answer_timeout=0.2, patience=HURRY)
LEASE_SECONDS = 5.0  # a lease that is too short for a busy machine is lost again and again
ANSWER_SECONDS = 1.0
DOUBTFUL = ("lost", "uncertain")
MOST_SECONDS = 120.0  # for what takes some: a test that hangs tells nothing
PR_SET_PDEATHSIG = 1  # a nursery that is killed leaves nobody behind
BORN: set[int] = set()  # the nursery's workers that live
TOLD = {"stored", "completed", "failed", "rejected", *DOUBTFUL}


# ---- the workers


def nurse() -> None:
    """Fork a worker for each line, and tell when it is born, has begun, and is gone."""
    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with suppress(AttributeError):  # only Linux has it
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            try:
                asyncio.run(work(*line.split()))
            finally:
                os._exit(0)
        BORN.add(pid)
        say("born", pid)
    for pid in list(BORN):  # whoever watched is gone, and left these behind
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def reap(*_: object) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        BORN.discard(pid)
        say("gone", pid, os.waitstatus_to_exitcode(status))


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece, whoever else writes


async def work(redis: str, url: str, account: str, lease: str) -> None:
    """One worker, until SIGTERM."""
    terms = Terms(slice_seconds=30.0, lease_seconds=float(lease), answer_timeout=ANSWER_SECONDS, patience=HURRY)
    async with (
        RedisLimiter(redis, account=account, lease_seconds=3.0, submit_seconds=1.0) as limiter,
        Client(KEY, base_url=url, poll=0.02, limiter=limiter) as client,
        Worker(client, redis, account=account, terms=terms) as worker,
    ):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        say("begun", os.getpid())
        await serve(worker, redis)


# ---- who watches


class Nursery:
    """`async with Nursery(redis, url) as nursery`, then `await nursery.start()`."""

    def __init__(self, redis: str, url: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.redis, self.url, self.account = redis, url, account_id(KEY, url)
        self._lease_seconds = lease_seconds

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._news: dict[tuple[str, int], asyncio.Future[int]] = {}
        self._asking = asyncio.Lock()
        self.alive: list[int] = []
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        for pid in list(self.alive):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.kill(pid, signal.SIGCONT)
            await self._told("gone", pid)
        self._process.stdin.close()
        await self._reading
        await self._process.wait()

    async def start(self) -> int:
        """A worker more; its pid, once it takes messages."""
        assert self._process.stdin is not None
        async with self._asking:
            self._process.stdin.write(f"{self.redis} {self.url} {self.account} {self._lease_seconds}\n".encode())
            pid = await self._born.get()
        self.alive.append(pid)
        begun, gone = self._told("begun", pid), self._told("gone", pid)
        await asyncio.wait((begun, gone), timeout=MOST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            raise RuntimeError(f"worker {pid} did not begin; it ended: {gone.done()}")
        return pid

    async def kill(self, pid: int) -> None:
        """With SIGKILL, whatever it does."""
        self.alive.remove(pid)
        os.kill(pid, signal.SIGKILL)
        await self._told("gone", pid)

    async def kill_between_submissions(self, pid: int) -> None:
        """With SIGKILL, at a moment when no answer of it is outstanding: then nothing can be in doubt."""
        async with Redis.from_url(self.redis, decode_responses=True) as redis:
            while True:
                os.kill(pid, signal.SIGSTOP)
                intents: Any = await redis.hvals(f"nanobanana:{{{self.account}}}:batches:intents")
                if not any(f"|{pid}|" in json.loads(text)["w"] for text in intents):
                    break
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.005)
        await self.kill(pid)

    async def end(self, pid: int) -> int:
        """Let it finish; its exit code."""
        self.alive.remove(pid)
        os.kill(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                return await asyncio.shield(self._told("gone", pid))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise

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


@asynccontextmanager
async def coordinated(
    redis: str, url: str, folder: Path, *, most_seconds: float | None = MOST_SECONDS, **options: Any
) -> AsyncIterator[DistributedBatch]:
    """A coordinator in this process. Raises: TimeoutError for a block that does not end."""
    account = account_id(KEY, url)
    broker = redis_broker(redis, account)
    kick = drain_on(broker)
    await broker.startup()
    try:
        async with Client(KEY, base_url=url) as client:
            given = {"patience": HURRY, "kick": kick, "answer_timeout": LEASE_SECONDS + ANSWER_SECONDS, **options}
            async with DistributedBatch(client, folder, redis, account=account, **given) as batch:
                async with asyncio.timeout(most_seconds):
                    yield batch
    finally:
        await broker.shutdown()


@asynccontextmanager
async def handed_out(
    redis: str, url: str, folder: Path, prompts: Iterable[Any]
) -> AsyncIterator[tuple[DistributedBatch, asyncio.Task[BatchSummary]]]:
    """A coordinator that has handed these prompts out; it has a run to be awaited."""
    watching = asyncio.Event()

    def tell(event: BatchEvent) -> None:
        if event.progress.workers is not None:
            watching.set()

    async with coordinated(redis, url, folder, on_event=tell) as batch:
        await batch.add(prompts)
        running = asyncio.create_task(batch.run())
        await watching.wait()
        yield batch, running


async def leave_alone(redis: str, url: str, folder: Path, prompts: Iterable[Any]) -> BatchSummary:
    """Hand these prompts out, and go away; what the run tells then."""
    async with handed_out(redis, url, folder, prompts) as (batch, running):
        batch.stop()
        return await running


@asynccontextmanager
async def working(redis: str, url: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker in this process, until the end of the block."""
    async with (
        Client(KEY, base_url=url, poll=0.01) as client,
        Worker(client, redis, account=account_id(KEY, url), **{"terms": TERMS, **options}) as worker,
    ):
        serving = asyncio.create_task(serve(worker, redis))
        try:
            yield worker
        finally:
            worker.stop()
            async with asyncio.timeout(MOST_SECONDS):
                await serving


@dataclass(slots=True)
class Findings:
    """What the service's book and the manifest say of the same prompts."""

    charged_twice: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    doubts: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    credits_charged: int = 0
    credits_told: int = 0
    files: int = 0


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
        files=sum(1 for path in (folder / "images").iterdir() if not path.name.startswith(".")),
    )


if __name__ == "__main__":
    nurse()
