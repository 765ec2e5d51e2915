"""A disk that fills up in the middle: told clearly, and after space is freed nothing is paid again."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections import Counter
from contextlib import contextmanager

import pytest
from patience import PATIENCE
from running import manifest, run, runner, statuses

from nanobanana_async import BatchError, JournalError
from nanobanana_async.batch import JobState

pytestmark = pytest.mark.usefixtures("leaks_nothing")

FREE = 700_000  # bytes: room for the journal, the ballast and some images


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True)
    if mounting.returncode != 0:
        pytest.skip("a small disk can't be mounted here; a limit on the size of files stands in for it below")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk, leave=0):
    """Take all of a disk's space but so many bytes."""
    space = os.statvfs(disk)
    (disk / "filler").write_bytes(b"x" * max(0, space.f_bavail * space.f_frsize - leave))


async def test_images_that_fill_the_disk_stop_the_batch(online, small_disk):
    """No more is paid than can be stored, but for what ran already; the next run completes for the rest's price."""
    folder = small_disk / "batch"
    folder.mkdir()
    fill(small_disk, leave=FREE)
    async with online(limit=3, image_size=512) as (emulator, client):
        summary = await run(client, folder, 40)
        assert isinstance(summary.stopped_by, BatchError)
        assert "free space" in str(summary.stopped_by)
        assert "run the same command again" in str(summary.stopped_by)
        charged = emulator.ledger.charges
        assert charged < 40
        (small_disk / "filler").unlink()
        summary = await run(client, folder)
        assert summary.all_stored
        assert set(Counter(emulator.ledger.charged_prompts()).values()) == {1}
        assert emulator.ledger.charges == sum(row.credits for row in manifest(folder)) == 40


async def test_a_disk_that_is_full_when_an_answer_comes_loses_no_id(online, small_disk):
    """The ballast makes room for it: a paid id must be on disk before anything else."""
    folder = small_disk / "batch"
    async with online(limit=2, latency=0.3) as (emulator, client):
        async with runner(client, folder) as batch:
            await batch.add(f"cat {number}" for number in range(4))
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.charges == 1)
            fill(small_disk)
            summary = await running
            assert summary.stopped_by is not None
            counts = (await batch._journal.counts()).by_state
            assert counts[JobState.INTENT].rows == counts[JobState.LOST].rows == 0
        assert emulator.ledger.charges == 1
        (small_disk / "filler").unlink()
        emulator.latency = 0.0
        assert (await run(client, folder)).all_stored
        assert emulator.ledger.charges == 4


async def test_a_disk_that_is_full_at_the_start_spends_nothing(online, small_disk):
    """There is no room even for the ballast."""
    folder = small_disk / "batch"
    async with online() as (emulator, client):
        async with runner(client, folder) as batch:
            await batch.add(["a cat"])
            fill(small_disk)
            summary = await batch.run()
        assert summary.stopped_by is not None
        assert "free space" in str(summary.stopped_by)
        assert emulator.ledger.requests["POST /generate"] == 0
        (small_disk / "filler").unlink()
        assert (await run(client, folder)).all_stored


@contextmanager
def file_size_limit(size):
    """No file may grow beyond this (the ballast is smaller): what a full disk is to a journal that grows."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_journal_that_can_not_grow_stops_the_batch(online, tmp_path):
    """Whichever step it fails at; an id that is still to be recorded waits for the space to be freed."""
    async with online(limit=2) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(f"cat {number}" for number in range(30))
            with file_size_limit(300_000):
                running = asyncio.create_task(batch.run())
                await asyncio.wait_for(batch._brake._pulled.wait(), PATIENCE)
            summary = await running
        assert isinstance(summary.stopped_by, JournalError)
        assert "run the same command again" in str(summary.stopped_by)
        assert 0 < emulator.ledger.charges < 30
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 30


async def test_a_folder_that_can_not_be_written_to_is_told(online, tmp_path):
    """Something else stands where the images go."""
    (tmp_path / "images").write_text("not a folder")
    async with online(limit=1) as (emulator, client):
        summary = await run(client, tmp_path, 5)
        assert isinstance(summary.stopped_by, BatchError)
        charged = emulator.ledger.charges
        assert charged <= 2
        (tmp_path / "images").unlink()
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 5


async def test_a_manifest_that_can_not_be_written_is_told(online, tmp_path):
    """The batch itself is done; the old manifest still stands."""
    (tmp_path / "manifest.jsonl").mkdir()
    async with online() as (_, client):
        summary = await run(client, tmp_path, 1)
        assert summary.all_stored
        assert "manifest could not be written" in str(summary.stopped_by)
        (tmp_path / "manifest.jsonl").rmdir()
        assert (await run(client, tmp_path)).stopped_by is None
        assert statuses(tmp_path) == {"stored": 1}


async def test_a_page_that_can_not_be_written_leaves_the_manifest(online, tmp_path):
    """It is what other programs read. The limit on file sizes stands for the full disk."""
    async with online(limit=4) as (_, client):
        await run(client, tmp_path, 4)
        for name in ("manifest.jsonl", "index.html"):
            (tmp_path / name).unlink()
        async with runner(client, tmp_path) as batch:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
            try:
                with pytest.raises(OSError, match="File too large"):
                    await batch.write_outputs()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert statuses(tmp_path) == {"stored": 4}
        assert not (tmp_path / "index.html").exists()
