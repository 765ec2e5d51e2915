"""Workers in processes of their own on one batch: killed, stopped, added; nothing is paid twice, nothing is hidden."""

from __future__ import annotations

import asyncio
import os
import signal

from draining import Nursery, compare, coordinated

from nanobanana_async.emulator import Emulator

SERVICE = {"limit": 12, "duration": 0.1, "latency": 0.002, "image_size": 48, "image_format": "png", "credits": 1000}


async def test_one_worker_is_killed_and_one_is_added(redis_server, tmp_path):
    """Every prompt is stored once and charged once, and the folder is that of any batch."""
    async with Emulator(**SERVICE) as emulator, Nursery(redis_server.url, emulator.url) as nursery:
        first, *_ = await asyncio.gather(*(nursery.start() for _ in range(3)))
        async with coordinated(redis_server.url, emulator.url, tmp_path / "out") as batch:
            await batch.add(f"cat {number}" for number in range(64))
            running = asyncio.create_task(batch.run())
            await emulator.ledger.until(lambda: emulator.ledger.credits_charged >= 16)
            await nursery.kill_between_submissions(first)
            await nursery.start()
            summary = await running
        codes = [await nursery.end(pid) for pid in list(nursery.alive)]
        found = compare(tmp_path / "out", emulator.ledger)
    assert summary.all_stored
    assert summary.credits_used == 64
    assert found.statuses == {"stored": 64}
    assert (found.credits_charged, found.files, found.charged_twice) == (64, 64, [])
    assert emulator.ledger.peak_active <= SERVICE["limit"]
    assert codes == [0, 0, 0]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["batch.db", "batch.lock", "images", "index.html", "manifest.jsonl"]


async def test_kills_and_pauses_at_any_moment(redis_server, tmp_path):
    """A kill leaves one doubt at most; a worker that slept through its lease does no harm when it wakes."""
    async with Emulator(**SERVICE) as emulator, Nursery(redis_server.url, emulator.url, lease_seconds=2.0) as nursery:
        first, second, _ = await asyncio.gather(*(nursery.start() for _ in range(3)))
        async with coordinated(redis_server.url, emulator.url, tmp_path / "out") as batch:
            await batch.add(f"cat {number}" for number in range(48))
            running = asyncio.create_task(batch.run())
            await emulator.ledger.until(lambda: emulator.ledger.credits_charged >= 10)
            os.kill(second, signal.SIGSTOP)
            await emulator.ledger.until(lambda: emulator.ledger.credits_charged >= 20)
            await nursery.kill(first)
            await asyncio.wait((running,), timeout=3.5)  # longer than its lease, which others can only wait for
            os.kill(second, signal.SIGCONT)
            await running
            assert await nursery.end(second) == 0  # what it had running is at home
            await batch.run()  # takes over what it told when the batch was over
        found = compare(tmp_path / "out", emulator.ledger)
    assert not found.charged_twice
    assert not found.untold
    assert found.doubts <= 2
    assert found.statuses["stored"] + found.doubts == 48
    assert found.files == found.statuses["stored"]
