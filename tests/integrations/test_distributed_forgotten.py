"""Redis forgets a batch between any two steps of a worker: what it told is known in the end, with all its facts."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from itertools import permutations

import pytest
from draining import HURRY, coordinated, leave_alone, working
from redis.asyncio import Redis

from nanobanana_async._answers import Submission
from nanobanana_async.batch import JobState
from nanobanana_async.emulator import Emulator
from nanobanana_async.integrations.distributed import Book, Terms
from nanobanana_async.integrations.distributed._book import connect
from nanobanana_async.integrations.distributed._late import with_known
from nanobanana_async.integrations.distributed._lease import Lease
from nanobanana_async.integrations.distributed._retelling import Recollection
from nanobanana_async.integrations.distributed._rows import RowRecord, ShardRow
from nanobanana_async.integrations.distributed._scripts import _source
from nanobanana_async.integrations.distributed._shard import Claim, Shard
from nanobanana_async.integrations.distributed._storage import FolderStorage

SERVICE = {"limit": 8, "duration": 0.02, "image_size": 48, "image_format": "png", "credits": 1000}
LONG = Terms(lease_seconds=30.0, answer_timeout=0.2, patience=HURRY)  # a loss of Redis's is seen by nobody meanwhile
RUNNING = RowRecord(state=JobState.RUNNING, generation_id="g", credits=1)
COMPLETED = RowRecord(state=JobState.COMPLETED, generation_id="g", urls=("https://x/0.png",))
STORED = RowRecord(state=JobState.STORED, generation_id="g", files=("images/0.png",))
FAILED = RowRecord(state=JobState.FAILED, generation_id="g", error="gone")


@pytest.fixture
async def book(redis_server):
    redis = connect(redis_server.url)
    yield Book(redis, "account")
    await redis.aclose()


@pytest.fixture
async def shard(book, tmp_path):
    """Of one row, and what is recollected of it."""
    told, lease = Recollection(), Lease(book)
    await book.begin("b", {}, fresh=True)
    await book.hand_out("b", 0, 1, {}, 0.0)
    rows = {0: ShardRow(0, "cat").to_row()}
    claim = Claim("b", 0, "1", lease, lease.name, 1.0)
    return Shard(book, claim, FolderStorage(tmp_path), rows, 3, told=told.page("b")), told


async def nothing():
    pass


def around(monkeypatch, name, before=nothing, after=nothing):
    """Do this before and after the first run of a script; its answer is not read before that."""
    run, wanted = Redis.evalsha, {hashlib.sha1(_source(name).encode()).hexdigest()}

    async def watched(self, sha, *arguments):
        if sha not in wanted:
            return await run(self, sha, *arguments)
        await before()
        answer = await run(self, sha, *arguments)  # raises where it is not known yet, and comes again
        wanted.clear()
        await after()
        return answer

    monkeypatch.setattr(Redis, "evalsha", watched)


async def test_what_is_told_in_any_order_ends_in_the_same(book):
    """A worker's steps and what it tells again overtake each other, for they come over several connections."""
    for index, order in enumerate(permutations((RUNNING, COMPLETED, STORED))):
        for record in order:
            await book.tell_again("b", {index: record})
    for index, order in enumerate(permutations((RUNNING, FAILED)), start=6):
        for record in order:
            await book.record("b", 0, index, record)
    told = await book.late("b")
    assert [told[index] for index in range(6)] == [replace(STORED, credits=1, urls=COMPLETED.urls)] * 6
    assert [told[6], told[7]] == [replace(FAILED, credits=1)] * 2


async def test_an_id_that_redis_forgets_before_its_answer_is_read_is_told_again(redis_server, book, shard, monkeypatch):
    """Redis had it; the worker would not know that it has told it."""
    rows, told = shard

    async def forgotten():
        redis_server.run("FLUSHALL")
        await told.tell(book)

    around(monkeypatch, "accept", after=forgotten)
    await rows.accept(0, "", Submission.model_validate({"generationId": "g", "creditsUsed": 1}))
    assert await book.late("b") == {0: RUNNING}


async def test_an_image_that_comes_home_while_redis_forgets_is_told_with_its_price(
    redis_server, book, shard, monkeypatch
):
    """The new Redis hears of it first, and of the acceptance afterwards."""
    rows, told = shard

    async def forget():
        redis_server.run("FLUSHALL")

    await rows.accept(0, "", Submission.model_validate({"generationId": "g", "creditsUsed": 1}))
    around(monkeypatch, "record", before=forget, after=lambda: told.tell(book))
    await rows.stored(0, STORED.files)
    assert await book.late("b") == {0: replace(STORED, credits=1)}


async def test_a_worker_that_dies_has_told_an_image_with_its_price(redis_server, book, shard):
    """It tells nothing again."""
    rows, _ = shard
    await rows.accept(0, "", Submission.model_validate({"generationId": "g", "creditsUsed": 1}))
    redis_server.run("FLUSHALL")
    await rows.stored(0, STORED.files)
    assert await book.late("b") == {0: replace(STORED, credits=1)}


async def test_a_second_generation_of_a_row_is_not_told_again_as_the_rows(redis_server, book, shard):
    """The first one is; the other one was reported."""
    rows, told = shard
    for name in ("g", "other"):
        submission = Submission.model_validate({"generationId": name, "creditsUsed": 1})
        word = await rows.accept(0, "", submission)
    assert word == "twice"
    redis_server.run("FLUSHALL")
    await told.tell(book)
    assert await book.late("b") == {0: RUNNING}


def test_the_journal_keeps_what_comes_late_does_not_tell():
    """Of the same generation; else it is another one's."""
    row = RUNNING.upon(ShardRow(0, "cat").to_row())
    assert with_known(row, STORED) == replace(STORED, credits=1)
    assert with_known(row, replace(STORED, credits=2)) == replace(STORED, credits=2)
    assert with_known(ShardRow(0, "cat").to_row(), STORED) == STORED


@pytest.fixture
async def emulator():
    async with Emulator(**SERVICE) as emulator:
        yield emulator


async def test_a_worker_that_leaves_tells_a_redis_that_has_forgotten(redis_server, emulator, tmp_path):
    """It was stopped before it saw that."""
    done = asyncio.Event()
    await leave_alone(redis_server.url, emulator.url, tmp_path, [f"cat {number}" for number in range(6)])
    async with working(redis_server.url, emulator.url, terms=LONG, on_slice=lambda _: done.set()) as worker:
        await done.wait()
        assert worker.stored == 6
        redis_server.run("FLUSHALL")
    await assert_known(redis_server, emulator, tmp_path)


async def test_a_redis_that_forgets_while_a_lease_is_taken_anew_is_told(redis_server, emulator, tmp_path, monkeypatch):
    """The new lease would look good, and the loss would be seen by nobody."""
    done, told = asyncio.Event(), asyncio.Event()
    await leave_alone(redis_server.url, emulator.url, tmp_path, [f"cat {number}" for number in range(6)])

    async def forget():
        redis_server.run("FLUSHALL")

    async def hear():
        told.set()

    async with working(redis_server.url, emulator.url, on_slice=lambda _: done.set()) as worker:
        await done.wait()
        around(monkeypatch, "join", before=forget)
        around(monkeypatch, "tell_again", after=hear)
        await worker.book.bury(worker.lease.name)
        await told.wait()
        await assert_known(redis_server, emulator, tmp_path)


async def assert_known(redis_server, emulator, folder):
    """All six are stored, whatever became of Redis."""
    async with coordinated(redis_server.url, emulator.url, folder, answer_timeout=0.5) as batch:
        summary = await batch.run()
    assert summary.all_stored
    assert summary.credits_used == emulator.ledger.credits_charged == 6
