"""What happens to disks and processes: full, read-only, broken, newer, killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nanobanana_async import GenerateRequest, JournalError
from nanobanana_async.batch._inputs import Row
from nanobanana_async.batch._journal import Journal
from nanobanana_async.batch._journal_rows import JobState
from nanobanana_async.batch._manifest import ManifestStatus

NOBODY = 65534
PRELUDE = """
import asyncio, resource, sys
from pathlib import Path
from nanobanana_async import GenerateRequest, JournalError
from nanobanana_async.batch._inputs import Row
from nanobanana_async.batch._journal import Journal
from nanobanana_async.batch._journal_rows import JobState
folder = Path(sys.argv[1])
rows = [Row(index, index + 1, None, GenerateRequest(prompt="a cat"), {}) for index in range(20_000)]
"""

# Sixteen producers that say what was answered, until they are killed.
SPEND = """
async def spend(journal, rows):
    for row in rows:
        await journal.intend(row.index, 4)
        print("intend", row.index, flush=True)
        await journal.accepted(row.index, f"g{row.index}", 4, None)
        print("accepted", row.index, flush=True)

async def main():
    async with Journal.open(folder) as journal, asyncio.TaskGroup() as group:
        await journal.add_rows(rows)
        ready = iter(rows)
        for _ in range(16):
            group.create_task(spend(journal, ready))

asyncio.run(main())
"""

# The same against a limit on the size of a file, lifted afterwards: a disk that fills up and is freed.
FILL = """
async def spend(journal, index):
    await journal.intend(index, 4)
    return index

async def main():
    async with Journal.open(folder) as journal:
        await journal.add_rows(rows[:400])
        room = (folder / "batch.db-wal").stat().st_size + 60_000  # some single commits, not one of all
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        outcomes = await asyncio.gather(*(spend(journal, row.index) for row in rows[:400]), return_exceptions=True)
        failed = [outcome for outcome in outcomes if not isinstance(outcome, int)]
        assert 0 < len(failed) < 400 and all(isinstance(error, JournalError) for error in failed), failed[:1]
        written = {row.index for row in await journal.unfinished(JobState.INTENT, limit=9999)}
        assert written == {outcome for outcome in outcomes if isinstance(outcome, int)}
        print(failed[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for row in await journal.take(9999):
            await journal.intend(row.index, 4)
        print((await journal.counts()).by_state[JobState.INTENT].rows)

asyncio.run(main())
"""


def script(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PRELUDE + code, folder], stdout=subprocess.PIPE, text=True)


def row(index: int) -> Row:
    return Row(index, index + 1, None, GenerateRequest(prompt="a cat"), {})


async def opened(folder: Path) -> None:
    async with Journal.open(folder):
        pass


@contextmanager
def as_nobody():
    """Root may write anywhere, so the tests of read-only folders step down."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shelf():
    """A folder that nobody may read and not write, with a batch of one stored row."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


# ---- kill -9


def test_what_was_answered_survives_kill_9(tmp_path):
    """Every intent and every id that a producer was told of is there; what else is there is an intent a producer."""
    with script(SPEND, tmp_path) as process:
        said = [process.stdout.readline().split() for _ in range(500)]
        process.send_signal(signal.SIGKILL)
        said += [line.split() for line in process.stdout if line.endswith("\n")]
    told = {
        step: {int(index) for name, index in filter(lambda words: len(words) == 2, said) if name == step}
        for step in ("intend", "accepted")
    }

    async def check():
        async with Journal.open(tmp_path) as journal:
            running = {found.index for found in await journal.unfinished(JobState.RUNNING, limit=99999)}
            intents = {found.index for found in await journal.unfinished(JobState.INTENT, limit=99999)}
            assert told["accepted"] <= running
            assert told["intend"] <= running | intents
            assert len(intents) <= 16
            assert await journal.doubt_intents() == len(intents)
            assert (await journal.counts()).rows == 20_000

    asyncio.run(check())


# ---- full


async def test_a_full_disk_is_told_to_every_producer_and_loses_nothing(tmp_path):
    async with Journal.open(tmp_path) as journal:
        await journal.add_rows([row(index) for index in range(50)])
        pages = await journal._writer.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await journal._writer.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        told = await asyncio.gather(
            *(journal.ended(n, JobState.FAILED, "x" * 9000) for n in range(5)), return_exceptions=True
        )
        for error in told:
            assert isinstance(error, JournalError)
            assert "full; free space, then run the same command again: nothing committed is lost" in str(error)
        assert (await journal.counts()).by_state[JobState.READY].rows == 50
        await journal._writer.run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
        await journal.ended(0, JobState.FAILED, "x" * 9000)


def test_a_file_system_that_fills_up_and_is_freed(tmp_path):
    """Answered writes are there, refused ones are not, and the same journal goes on."""
    with script(FILL, tmp_path) as process:
        told, count = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert "run the same command again: nothing committed is lost" in told
    assert int(count) == 400


# ---- not ours to write to


async def test_a_read_only_folder_is_refused(shelf):
    shelf.chmod(0o555)
    with as_nobody(), pytest.raises(JournalError, match=r"can't be locked.*that it can write to"):
        await opened(shelf)
    with as_nobody(), pytest.raises(JournalError, match=r"can't be made \(Permission denied\)"):
        await opened(shelf / "new")


async def test_a_read_only_file_is_refused_before_anything_is_spent(shelf):
    await opened(shelf)
    (shelf / "batch.db").chmod(0o444)
    shelf.chmod(0o777)
    (shelf / "batch.lock").chmod(0o666)
    with as_nobody(), pytest.raises(JournalError, match="read-only; make the folder and the file writable"):
        await opened(shelf)


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
async def test_a_read_only_folder_can_be_read(shelf, tmp_path, killed):
    """A batch on a share or a burnt disc: closed well, or as kill -9 leaves it, with its newest rows in the log."""
    async with Journal.open(tmp_path) as journal:
        await journal.add_rows([row(0)])
        if killed:
            copy(tmp_path, shelf)
    if not killed:
        copy(tmp_path, shelf)
    shelf.chmod(0o555)
    with as_nobody():
        [found] = Journal.read(shelf)
    assert found.status is ManifestStatus.PENDING


async def test_rows_in_a_log_that_cannot_be_read_are_not_left_out(shelf, tmp_path):
    """Without its index and without leave to make one, the log can't be read: better no manifest than an old one."""
    async with Journal.open(tmp_path) as journal:
        await journal.add_rows([row(0)])
        copy(tmp_path, shelf)
    (shelf / "batch.db-shm").unlink()
    shelf.chmod(0o555)
    with as_nobody(), pytest.raises(JournalError, match="can't be opened"):
        list(Journal.read(shelf))


def copy(folder: Path, target: Path) -> None:
    for path in folder.iterdir():
        shutil.copyfile(path, target / path.name)


# ---- not ours to read


async def test_a_newer_schema_asks_for_an_upgrade_and_is_left_alone(tmp_path):
    await opened(tmp_path)
    with closing(sqlite3.connect(tmp_path / "batch.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (tmp_path / "batch.db").read_bytes()
    with pytest.raises(JournalError, match=r"newer version.*99.*upgrade with pip"):
        await opened(tmp_path)
    with pytest.raises(JournalError, match="newer version"):
        list(Journal.read(tmp_path))
    assert (tmp_path / "batch.db").read_bytes() == before


async def test_another_programs_database_is_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "batch.db")) as connection:
        connection.execute("CREATE TABLE t (n)")
    with pytest.raises(JournalError, match="another program's database"):
        await opened(tmp_path)


async def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "batch.db").write_bytes(b"Dear diary," * 1000)
    with pytest.raises(JournalError, match="no batch's journal or is broken"):
        await opened(tmp_path)
    with pytest.raises(JournalError, match="no batch's journal or is broken"):
        list(Journal.read(tmp_path))


async def test_a_damaged_file_is_told(tmp_path):
    async with Journal.open(tmp_path) as journal:
        await journal.add_rows([row(index) for index in range(2000)])
    with (tmp_path / "batch.db").open("r+b") as file:
        file.seek(4096 * 20)
        file.write(os.urandom(4096 * 30))
    with pytest.raises(JournalError, match="broken; restore a copy"):
        list(Journal.read(tmp_path))


async def test_an_empty_file_is_begun_anew(tmp_path):
    """What a crash at the very first moment may leave."""
    (tmp_path / "batch.db").touch()
    with pytest.raises(JournalError, match="empty; start the batch first"):
        list(Journal.read(tmp_path))
    await opened(tmp_path)


async def test_a_folder_in_the_journals_place_is_told(tmp_path):
    (tmp_path / "batch.db").mkdir()
    with pytest.raises(JournalError, match="can't be opened"):
        await opened(tmp_path)


async def test_a_second_journal_on_the_folder_is_refused(tmp_path, leaks_nothing):
    async with Journal.open(tmp_path) as journal:
        with pytest.raises(JournalError, match="already works on"):
            await opened(tmp_path)
        await journal.add_rows([row(0)])


async def test_closing_leaves_one_file_and_a_free_lock(tmp_path):
    await opened(tmp_path / "deep" / "new")
    left = sorted(path.name for path in (tmp_path / "deep" / "new").iterdir())
    assert left == ["batch.db", "batch.lock"]


async def test_an_unknown_durability_is_refused(tmp_path):
    with pytest.raises(ValueError, match="synchronous is one of"):
        async with Journal.open(tmp_path, synchronous="MAYBE"):
            pass
