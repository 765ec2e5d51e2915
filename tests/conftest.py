"""What the tests share: an emulator and a client of it, over real sockets, both in a hurry."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import browser
import pytest
from hypothesis import settings

from nanobanana_async import AccountLimiter, Backoff, Client, GenerateRequest, Job, RetryPolicy
from nanobanana_async.emulator import Emulator

Online: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Emulator, Client]]]

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("untimed")

MORE_WORKERS = 2  # than processors for `-n auto`: tests wait for timers and other processes more than they compute
KEY = "nb_test"
IN_A_HURRY: dict[str, Any] = {
    "poll": 0.01,
    "retry": RetryPolicy(backoff=Backoff(initial_delay=0.01, max_delay=0.05)),
}
SMALL: dict[str, Any] = {"duration": 0.015, "retry_after": 0.01, "image_size": 48, "image_format": "png"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """The number for `-n auto`; None leaves it to the environment."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else usable + MORE_WORKERS


@pytest.fixture
def online() -> Online:
    """`async with online(limit=3, client={"max_concurrency": 2}) as (emulator, client)`."""

    @asynccontextmanager
    async def open_both(*, client: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Any]:
        options = {**IN_A_HURRY, **(client or {})}
        if "max_concurrency" not in options:
            options.setdefault("limiter", AccountLimiter(uniform=lambda low, high: 0.05))  # cools down in no time
        async with (
            Emulator(**{**SMALL, **settings}) as emulator,
            Client(KEY, base_url=emulator.url, **options) as opened,
        ):
            yield emulator, opened

    return open_both


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where to drive the session's browser."""
    with browser.chromium(tmp_path_factory.mktemp("browser")) as address:
        yield address


@pytest.fixture
async def leaks_nothing() -> AsyncIterator[None]:
    """The test leaves no task and no file descriptor behind."""
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    yield
    left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    assert not left
    assert _descriptors() <= descriptors


def _descriptors() -> int:
    """Open ones of this process, where the system tells."""
    listing = Path("/proc/self/fd")
    return sum(1 for _ in listing.iterdir()) if listing.exists() else 0


class Recorder:
    """A ledger that writes down which hook was called, and what the service knew at that moment."""

    def __init__(self, emulator: Emulator | None = None) -> None:
        self.hooks: list[str] = []
        self.posts: list[int] = []
        self.generation_id: str | None = None
        self._emulator = emulator
        self._called = asyncio.Event()

    async def until(self, hook: str) -> None:
        """Wait until `hook` was called."""
        while hook not in self.hooks:
            self._called.clear()
            await self._called.wait()

    async def intend(self, job: Job) -> None:
        self._note("intend")

    async def withdrawn(self, job: Job) -> None:
        self._note("withdrawn")

    async def accepted(self, job: Job, submission: Any) -> None:
        self.generation_id = submission.generation_id
        self._note("accepted")

    async def finished(self, job: Job, generation: Any) -> None:
        self._note("finished")

    async def stored(self, job: Job, files: list[Path]) -> None:
        self._note("stored")

    def _note(self, hook: str) -> None:
        self.hooks.append(hook)
        self._called.set()
        if self._emulator is not None:
            self.posts.append(self._emulator.ledger.requests["POST /generate"])


@pytest.fixture
def recorder() -> type[Recorder]:
    """The class: a test may need several."""
    return Recorder


@pytest.fixture
def new_job() -> Callable[..., Job]:
    """A job for `Client.enqueue`, by its prompt."""
    return lambda prompt="a cat", **options: Job(GenerateRequest(prompt=prompt), **options)


@pytest.fixture
def own_logging() -> Iterator[None]:
    """What a command sets of the log, for its process, does not outlive the test."""
    root, ours = logging.getLogger(), logging.getLogger("nanobanana_async")
    handlers, level = root.handlers[:], ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)
