"""Opening, closing, threads, the fixture, and independence of the client."""

from __future__ import annotations

import ast
import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import requests
from calling import Open
from patience import PATIENCE

import nanobanana_async.emulator
from nanobanana_async.emulator import Emulator, Fault, FaultPlan, ThreadedEmulator

pytest_plugins = ["nanobanana_async.testing"]

PACKAGE = Path(nanobanana_async.emulator.__file__).parent
QUICK_CLOSE_SECONDS = 10.0
"""About 0.1 s on an idle machine; aiohttp left to itself waits for a minute."""


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("**/*.py")), ids=lambda path: path.stem)
def test_the_witness_imports_nothing_of_the_client(path: Path) -> None:
    """An emulator that shared the client's code would share its mistakes."""
    for name in imports(path):
        assert not name.startswith(("..", "nanobanana_async"))
        assert name.startswith(".") or name.partition(".")[0] != "pydantic"


async def test_close_is_quick_with_everything_open(calling: Open) -> None:
    """A sync call, a stream and a stall: all are cut."""
    faults = FaultPlan(Fault("submit", "stall", prompt="stall"))
    async with calling(limit=None, duration=math.inf, faults=faults) as caller:
        kinds = [("x", "sync"), ("x", "stream"), ("stall", "async")]
        posts = [asyncio.create_task(caller.post(prompt, mode=mode)) for prompt, mode in kinds]
        await caller.emulator.until(lambda: caller.emulator.ledger.open_requests == 3)
        start = time.perf_counter()
        await caller.emulator.aclose()
        assert time.perf_counter() - start < QUICK_CLOSE_SECONDS
        assert all(await asyncio.gather(*posts, return_exceptions=True))


async def test_serve_runs_until_cancelled_and_tells_when_it_is_ready() -> None:
    """What the command line awaits."""
    ready: asyncio.Future[Emulator] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(Emulator().serve(ready.set_result))
    emulator = await ready
    async with aiohttp.request("GET", f"{emulator.url}/models") as response:
        assert response.status == 200
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection(*_address(emulator.url))


async def test_a_taken_port_fails_at_once() -> None:
    """And leaves nothing open."""
    async with Emulator() as emulator:
        port = _address(emulator.url)[1]
        with pytest.raises(OSError, match="address already in use"):
            await Emulator(port=port).start()


@pytest.mark.parametrize("nonsense", [{"scope": "world"}, {"announce": "loudly"}, {"url_style": "short"}])
def test_options_without_sense_are_refused(nonsense: dict[str, str]) -> None:
    """With those that have it."""
    with pytest.raises(ValueError, match="must be one of"):
        Emulator(**nonsense)  # type: ignore[arg-type]  # the point of the test


def test_a_thread_can_be_waited_for_and_hurried(threaded: Callable[..., ThreadedEmulator]) -> None:
    """`until`, `finish` and `idle` from outside the loop."""
    emulator = threaded(duration=math.inf)
    headers, body = {"Authorization": "Bearer nb_a"}, {"prompt": "a cat", "mode": "async"}
    requests.post(f"{emulator.url}/generate", headers=headers, json=body, timeout=PATIENCE)
    emulator.until(lambda: emulator.ledger.active == 1)
    with pytest.raises(TimeoutError):
        emulator.idle(timeout=0.01)
    emulator.finish()
    emulator.idle()
    assert emulator.ledger.states["completed"] == 1


def test_a_thread_that_cannot_start_says_why(threaded: Callable[..., ThreadedEmulator]) -> None:
    """The error arrives where the emulator was asked for."""
    with pytest.raises(OSError, match="address already in use"):
        threaded(port=_address(threaded().url)[1])


def test_the_fixture_points_the_environment_at_an_emulator(nanobanana_emulator: ThreadedEmulator) -> None:
    """Programs that read key and base URL from the environment need no change."""
    headers = {"Authorization": f"Bearer {os.environ['NANO_BANANA_API_KEY']}"}
    response = requests.get(f"{os.environ['NANO_BANANA_BASE_URL']}/credits", headers=headers, timeout=PATIENCE)
    assert response.json()["data"]["credits"] == 1000
    assert nanobanana_emulator.ledger.requests["GET /credits"] == 1


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    return host, int(port)
