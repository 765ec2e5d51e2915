"""Real processes on one account: never above the limit, no slot left idle, and what the killed ones ran is adopted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from patience import PATIENCE
from processes import Nursery, Work, ended, find, is_settled
from servers import RedisServer

from nanobanana_async.emulator import Emulator

LIMIT = 4
ROWS = 12  # of each process
pytestmark = pytest.mark.asyncio(loop_scope="module")
SHORT = {"lease_seconds": 2.0, "submit_seconds": 2.0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    """One for all tests: what it imports takes longer than some of them."""
    async with Nursery() as nursery:
        yield nursery


def works(store: str, url: str, tmp_path: Path, names: str, **more: Any) -> list[Work]:
    """One for each name."""
    return [Work(store=store, url=url, folder=str(tmp_path / name), rows=ROWS, **SHORT, **more) for name in names]


@pytest.mark.parametrize("place", ["sqlite", "redis"], indirect=True)
async def test_two_of_four_processes_are_killed(nursery: Nursery, place: str, tmp_path: Path) -> None:
    """Never above the limit, hardly a refusal; what they had running is looked at by the others, and paid once."""
    service = {"limit": LIMIT, "duration": 0.25, "sigma": 0.2, "image_size": 32, "image_format": "png"}
    async with Emulator(**service) as emulator, asyncio.timeout(PATIENCE):
        workers = await nursery.start(*works(place, emulator.url, tmp_path, "abcd"))
        await emulator.until(lambda: emulator.ledger.charges >= 16)
        emulator.duration = math.inf  # a busy machine may not come by while all four run
        await emulator.until(lambda: is_settled(emulator.ledger, LIMIT))
        for worker in workers[:2]:
            worker.kill()
        killed = {"a", "b"}
        left = [
            entry.generation_id
            for entry in emulator.ledger.charged()
            if entry.prompt[0] in killed and entry.finished_at is None
        ]
        emulator.duration = service["duration"]
        emulator.finish()
        await ended(workers[2:])
        again = await nursery.start(*works(place, emulator.url, tmp_path, "ab"))
        await ended(again)
        found = find(emulator.ledger, LIMIT, [str(tmp_path / name) for name in "abcd"])
    assert found.peak == LIMIT
    assert not found.charged_twice
    assert found.statuses == {"stored": 4 * ROWS}
    assert found.refusals <= 1
    assert all(emulator.ledger.find(identity).state == "completed" for identity in left)


async def test_a_process_that_was_suspended_for_too_long_gets_its_slots_back(nursery: Nursery, tmp_path: Path) -> None:
    """Ctrl-Z: others look after what it had running, and it goes on where it was.

    It may have stopped in the middle of a turn, with the file locked.
    """
    store = str(tmp_path / "slots.db")
    async with (
        Emulator(limit=2, duration=0.2, image_size=32, image_format="png") as emulator,
        asyncio.timeout(PATIENCE),
    ):
        workers = await nursery.start(*works(store, emulator.url, tmp_path, "ab", alone_after=0.5))
        await emulator.until(lambda: emulator.ledger.charges >= 6)
        workers[0].stop()
        await ended(workers[1:])
        workers[0].go_on()
        await ended(workers[:1])
        found = find(emulator.ledger, 2, [str(tmp_path / name) for name in "ab"])
    assert found.peak == 2
    assert not found.charged_twice
    assert found.statuses == {"stored": 2 * ROWS}


async def test_redis_forgets_everything_in_the_middle(
    nursery: Nursery, redis_server: RedisServer, tmp_path: Path
) -> None:
    """The run goes on, and at no time more than the limit runs."""
    async with (
        Emulator(limit=LIMIT, duration=0.2, image_size=32, image_format="png") as emulator,
        asyncio.timeout(PATIENCE),
    ):
        workers = await nursery.start(*works(redis_server.url, emulator.url, tmp_path, "abc"))
        for charges in (8, 16, 24):
            await emulator.until(lambda at=charges: emulator.ledger.charges >= at)
            await asyncio.to_thread(redis_server.run, "FLUSHALL")
        await ended(workers)
        found = find(emulator.ledger, LIMIT, [str(tmp_path / name) for name in "abc"])
    assert found.peak == LIMIT
    assert found.refusals <= 1
    assert found.statuses == {"stored": 3 * ROWS}
    assert emulator.ledger.charges == 3 * ROWS
