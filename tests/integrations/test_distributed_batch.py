"""The coordinator: hands out, goes away, comes back, and ends with a folder like any other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from draining import HURRY, KEY, TERMS, compare, coordinated, handed_out, leave_alone, working
from hypothesis import given
from hypothesis import strategies as st
from taskiq import InMemoryBroker

from nanobanana_async import BatchError, BudgetExceededError, Client, GenerateRequest, InsufficientCreditsError
from nanobanana_async.batch import BatchRunner, JobState, Journal, read_manifest
from nanobanana_async.emulator import Emulator, Fault, FaultPlan
from nanobanana_async.integrations._account import account_id
from nanobanana_async.integrations.distributed import DistributedBatch, Worker, _handing
from nanobanana_async.integrations.distributed._handing import from_ranges, shard_rows, to_ranges
from nanobanana_async.integrations.distributed._late import PAST
from nanobanana_async.integrations.distributed._rows import RowRecord, ShardRow, decode_shard, encode_shard
from nanobanana_async.integrations.taskiq import drain_on, open_worker, serve

SERVICE = {"limit": 8, "duration": 0.02, "image_size": 48, "image_format": "png", "credits": 1000}


@pytest.fixture
async def emulator():
    async with Emulator(**SERVICE) as emulator:
        yield emulator


def statuses(folder: Path) -> dict[str, int]:
    return dict(compare_free(folder))


def compare_free(folder: Path) -> list[tuple[str, int]]:
    rows = [row.status.value for row in read_manifest(folder)]
    return sorted((status, rows.count(status)) for status in set(rows))


def cats(number: int) -> list[str]:
    return [f"cat {index}" for index in range(number)]


async def test_a_coordinator_goes_away_and_comes_back(redis_server, emulator, tmp_path):
    """The workers go on without it; the next run takes over what they did, and pays nothing again."""
    summary = await leave_alone(redis_server.url, emulator.url, tmp_path, cats(30))
    assert summary.interrupted
    assert not summary.all_stored
    async with working(redis_server.url, emulator.url):
        await emulator.ledger.until(lambda: emulator.ledger.credits_charged == 30)
        async with coordinated(redis_server.url, emulator.url, tmp_path) as batch:
            assert (await batch.add(cats(30))).known == 30
            summary = await batch.run()
    assert summary.all_stored
    assert summary.credits_used == 30 == emulator.ledger.credits_charged
    assert statuses(tmp_path) == {"stored": 30}


async def test_rows_that_workers_have_are_sent_by_no_other_run(redis_server, emulator, tmp_path):
    """A plain run would pay for them twice."""
    await leave_alone(redis_server.url, emulator.url, tmp_path, cats(3))
    async with Client(KEY, base_url=emulator.url) as client, BatchRunner(client, tmp_path) as plain:
        summary = await plain.run()
    assert isinstance(summary.stopped_by, BatchError)
    assert "--distributed" in str(summary.stopped_by)
    assert emulator.ledger.credits_charged == 0


async def test_a_batch_that_was_begun_without_workers_goes_on_with_them_and_back(redis_server, emulator, tmp_path):
    """What ran is picked up, what was stored stays, and afterwards it is a plain batch again."""
    async with (
        Client(KEY, base_url=emulator.url, poll=0.01) as client,
        BatchRunner(client, tmp_path, max_credits=4, patience=HURRY) as plain,
    ):
        await plain.add(cats(10))
        await plain.run()
    async with (
        working(redis_server.url, emulator.url),
        coordinated(redis_server.url, emulator.url, tmp_path, max_credits=7) as batch,
    ):
        summary = await batch.run()
    assert isinstance(summary.stopped_by, BudgetExceededError)
    assert emulator.ledger.credits_charged == 7
    async with (
        working(redis_server.url, emulator.url),
        coordinated(redis_server.url, emulator.url, tmp_path) as batch,
    ):
        assert (await batch.run()).all_stored
    async with Client(KEY, base_url=emulator.url) as client, BatchRunner(client, tmp_path) as plain:
        await plain.add(cats(10))
        assert (await plain.run()).all_stored
    assert emulator.ledger.credits_charged == 10


async def test_slots_that_an_earlier_run_left_taken_are_filled_one_by_one(redis_server, tmp_path, monkeypatch):
    """All rows of a shard that run are watched at once, and the first slot that comes free is used."""
    monkeypatch.setattr(_handing, "LEAST_SHARD_ROWS", 40)
    left = 20
    silent = {"announce": "never", "retry_after": 0.01}
    service = {**SERVICE, **silent, "limit": left, "duration": float("inf")}
    async with Emulator(**service) as emulator:
        async with Client(KEY, base_url=emulator.url) as client, BatchRunner(client, tmp_path) as plain:
            await plain.add(cats(left + 1))
            running = asyncio.create_task(plain.run())
            await emulator.ledger.until(lambda: emulator.ledger.active == left)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        async with (
            working(redis_server.url, emulator.url),
            handed_out(redis_server.url, emulator.url, tmp_path, []) as (_, running),
        ):
            emulator.finish(emulator.ledger.charged()[0].generation_id)
            try:
                async with asyncio.timeout(10):
                    await emulator.ledger.until(lambda: emulator.ledger.charges == left + 1)
            finally:
                emulator.duration = 0.01
                emulator.finish()
            assert (await running).all_stored
    assert emulator.ledger.charges == left + 1


async def test_an_empty_account_stops_the_batch_at_all_workers(redis_server, tmp_path):
    """What runs is brought home, and topped up it goes on."""
    async with Emulator(**{**SERVICE, "credits": 5}) as emulator:
        async with working(redis_server.url, emulator.url), working(redis_server.url, emulator.url):
            async with coordinated(redis_server.url, emulator.url, tmp_path) as batch:
                await batch.add(cats(12))
                summary = await batch.run()
            assert isinstance(summary.stopped_by, InsufficientCreditsError)
            assert summary.rows(JobState.STORED) == 5
            emulator.account(KEY).credits += 20
            async with coordinated(redis_server.url, emulator.url, tmp_path) as batch:
                assert (await batch.run()).all_stored
        assert emulator.ledger.credits_charged == 12


async def test_lost_answers_are_judged_over_all_workers(redis_server, tmp_path):
    """Dropped before they were taken: sent again. Taken, and the answer lost: `lost`, and paid again on request."""
    faults = FaultPlan(
        Fault("submit", "reset_before", times=2, after=4), Fault("submit", "reset_after", times=1, after=12)
    )
    room = {**SERVICE, "limit": 24}  # for all: an answer that was a refusal would be lost without a trace
    async with Emulator(**room, faults=faults) as emulator:
        async with working(redis_server.url, emulator.url), working(redis_server.url, emulator.url):
            async with coordinated(redis_server.url, emulator.url, tmp_path) as batch:
                await batch.add(cats(24))
                await batch.run()
            found = compare(tmp_path, emulator.ledger)
            assert found.statuses == {"stored": 23, "lost": 1}
            assert found.credits_told == found.credits_charged == 24
            async with coordinated(redis_server.url, emulator.url, tmp_path, retry_failed=True) as batch:
                summary = await batch.run()
        assert summary.all_stored
        assert summary.credits_used == 1
        assert emulator.ledger.credits_charged == 25


@pytest.mark.parametrize("is_over", [True, False])
async def test_failed_rows_are_looked_at_before_they_are_paid_again(redis_server, tmp_path, is_over):
    """By the coordinator: images that came late are fetched, what runs is left to workers, the rest is sent again.

    Whether Redis has the batch still, or it was over.
    """
    faults = FaultPlan(Fault("submit", "fail_generation", times=3))
    async with Emulator(**SERVICE, faults=faults) as emulator, working(redis_server.url, emulator.url):
        budget = None if is_over else 4
        async with coordinated(redis_server.url, emulator.url, tmp_path, max_credits=budget) as batch:
            await batch.add(cats(6))
            summary = await batch.run()
        assert (summary.rows(JobState.FAILED), summary.stopped_by is None) == (3, is_over)
        came, runs, _ = failed = [entry for entry in emulator.ledger.charged() if entry.state == "failed"]
        came.state, came.error = "completed", None
        runs.state, runs.error = "processing", None
        posts, looks = emulator.ledger.requests["POST /generate"], runs.polls
        async with coordinated(redis_server.url, emulator.url, tmp_path, retry_failed=True) as batch:
            running = asyncio.create_task(batch.run())
            while runs.polls < looks + 3 and not running.done():
                await asyncio.wait((running,), timeout=0.02)
            runs.state = "completed"
            summary = await running
        assert summary.all_stored
        assert emulator.ledger.requests["POST /generate"] == posts + 1 + (0 if is_over else 2)
        found = compare(tmp_path, emulator.ledger)
        assert found.charged_twice == [failed[2].prompt]
        assert found.credits_told == found.credits_charged == 7
        assert found.files == 6


async def test_an_answer_that_comes_when_all_is_over_is_taken_over(redis_server, tmp_path):
    """Its worker slept, and wakes with the id of a row that was judged lost: it is fetched, for no further credit."""
    faults = FaultPlan(Fault("submit", "reset_after", times=1, after=3))
    async with (
        Emulator(**SERVICE, faults=faults) as emulator,
        working(redis_server.url, emulator.url) as worker,
        coordinated(redis_server.url, emulator.url, tmp_path, retry_failed=True) as batch,
    ):
        await batch.add(cats(8))
        assert (await batch.run()).rows(JobState.LOST) == 1
        [lost] = [row for row in read_manifest(tmp_path) if row.status.value == "lost"]
        [entry] = [entry for entry in emulator.ledger.charged() if entry.prompt == lost.prompt]
        [name] = json.loads(Journal.peek_setting(tmp_path, PAST))
        assert await worker.book.accept(name, 0, lost.index, "nonce", (entry.generation_id, 1, None)) == "late"
        assert (await batch.run()).all_stored
    assert emulator.ledger.credits_charged == 8
    [row] = [row for row in read_manifest(tmp_path) if row.prompt == lost.prompt]
    assert (row.generation_id, row.credits, len(row.files)) == (entry.generation_id, 1, 1)


async def test_new_rows_are_handed_out_beside_the_old_ones(redis_server, emulator, tmp_path):
    """An input may grow while workers are at it."""
    await leave_alone(redis_server.url, emulator.url, tmp_path, cats(5))
    async with (
        working(redis_server.url, emulator.url),
        coordinated(redis_server.url, emulator.url, tmp_path) as batch,
    ):
        assert (await batch.add(cats(9))).added == 4
        assert (await batch.run()).all_stored
    assert statuses(tmp_path) == {"stored": 9}


async def test_a_redis_that_has_forgotten_makes_rows_uncertain(redis_server, emulator, tmp_path):
    """If the balance can't tell that nothing was taken: none is sent again unasked."""
    await leave_alone(redis_server.url, emulator.url, tmp_path, cats(6))
    redis_server.run("FLUSHALL")
    emulator.account(KEY).credits -= 1  # for a worker that died, or somebody else
    async with working(redis_server.url, emulator.url):
        async with coordinated(redis_server.url, emulator.url, tmp_path, answer_timeout=0.1) as batch:
            summary = await batch.run()
        assert summary.rows(JobState.UNCERTAIN) == 6
        assert emulator.ledger.credits_charged == 0
        async with coordinated(redis_server.url, emulator.url, tmp_path, uncertain="retry") as batch:
            assert (await batch.run()).all_stored


async def test_pictures_travel_with_their_rows(redis_server, emulator, tmp_path):
    """A worker may be where the input's files are not."""
    async with (
        Client(KEY, base_url=emulator.url, poll=0.01) as client,
        BatchRunner(client, tmp_path / "first") as plain,
    ):
        await plain.add(["cat"])
        await plain.run()
    [row] = read_manifest(tmp_path / "first")
    picture = tmp_path / "first" / row.files[0]
    request = GenerateRequest(prompt="the same, at night", reference_images=[picture])
    async with handed_out(redis_server.url, emulator.url, tmp_path / "out", [request]) as (_, running):
        picture.unlink()
        async with working(redis_server.url, emulator.url):
            assert (await running).all_stored


async def test_a_worker_that_lost_its_lease_takes_a_new_one(redis_server, tmp_path, caplog):
    """It slept too long, say. It goes on with the same shards, while what it had running ends and is told."""
    ended = []
    async with (
        Emulator(**{**SERVICE, "duration": 1.5, "sigma": 0.0}) as emulator,
        working(redis_server.url, emulator.url, on_slice=ended.append) as worker,
        coordinated(redis_server.url, emulator.url, tmp_path) as batch,
    ):
        await batch.add(cats(10))
        running = asyncio.create_task(batch.run())
        await emulator.ledger.until(lambda: emulator.ledger.credits_charged >= 4)
        first = worker.lease
        await worker.book.bury(first.name)
        summary = await running
        assert worker.lease is not first
    assert summary.all_stored
    assert emulator.ledger.credits_charged == 10
    shards = [end.shard for end in ended]
    assert len(shards) > len(set(shards))  # some of them twice
    assert "Exception" not in caplog.text


async def test_images_gather_in_an_object_store(redis_server, emulator, tmp_path):
    """With the manifest and the gallery beside them; nothing is left where they went through."""
    (tmp_path / "bucket").mkdir()
    async with (
        working(redis_server.url, emulator.url),
        coordinated(redis_server.url, emulator.url, tmp_path / "out", store=f"file://{tmp_path}/bucket") as batch,
    ):
        await batch.add(cats(12))
        summary = await batch.run()
    assert summary.all_stored
    assert sorted(path.name for path in (tmp_path / "bucket").iterdir() if path.name != "shards") == [
        *("images", "index.html", "manifest.jsonl")
    ]
    assert {f"images/{path.name}" for path in (tmp_path / "bucket" / "images").iterdir()} == {
        name for row in read_manifest(tmp_path / "bucket") for name in row.files
    }
    assert not (tmp_path / "out" / "images").exists()


async def test_an_image_that_came_late_gathers_there_too(redis_server, tmp_path):
    """Fetched by the coordinator, for a failed row that was to be paid again."""
    (tmp_path / "bucket").mkdir()
    options = {"store": f"file://{tmp_path}/bucket", "retry_failed": True}
    faults = FaultPlan(Fault("submit", "fail_generation", times=1))
    async with Emulator(**SERVICE, faults=faults) as emulator, working(redis_server.url, emulator.url):
        for rows in (0, 1):
            async with coordinated(redis_server.url, emulator.url, tmp_path / "out", **options) as batch:
                await batch.add(["a cat"])
                assert (await batch.run()).rows(JobState.STORED) == rows
            [entry] = emulator.ledger.charged()
            entry.state, entry.error = "completed", None
    [row] = read_manifest(tmp_path / "bucket")
    assert (tmp_path / "bucket" / row.files[0]).stat().st_size


async def test_any_taskiq_broker_will_do(redis_server, emulator, tmp_path, monkeypatch):
    """It only carries messages; the worker opens with the broker's own start."""
    monkeypatch.setenv("NANO_BANANA_API_KEY", KEY)
    monkeypatch.setenv("NANO_BANANA_BASE_URL", emulator.url)
    broker = InMemoryBroker()
    kick = drain_on(broker, lambda: open_worker(redis_server.url, terms=TERMS))
    await broker.startup()
    try:
        async with (
            Client() as client,
            DistributedBatch(
                client, tmp_path, redis_server.url, account=account_id(), kick=kick, patience=HURRY
            ) as batch,
        ):
            await batch.add(cats(20))
            assert (await batch.run()).all_stored
    finally:
        await broker.shutdown()
    assert emulator.ledger.credits_charged == 20


async def test_a_worker_with_a_wrong_key_leaves_and_the_batch_goes_on(redis_server, tmp_path):
    """It concerns that worker alone."""
    async with (
        Emulator(**SERVICE, keys=[KEY]) as emulator,
        Client("nb_wrong", base_url=emulator.url) as client,
        Worker(client, redis_server.url, account=account_id(KEY, emulator.url), terms=TERMS) as wrong,
        coordinated(redis_server.url, emulator.url, tmp_path) as batch,
    ):
        await batch.add(cats(6))
        running = asyncio.create_task(batch.run())
        with pytest.raises(Exception, match="key"):
            await serve(wrong, redis_server.url)
        async with working(redis_server.url, emulator.url):
            assert (await running).all_stored


@given(st.lists(st.integers(0, 3000), min_size=1, unique=True))
def test_shards_keep_their_rows(indexes):
    """As texts and back."""
    assert list(from_ranges(to_ranges(sorted(indexes)))) == sorted(indexes)


@given(st.integers(0, 1_000_000))
def test_shards_are_neither_large_nor_many(rows):
    """A worker holds one in memory, and Redis has an entry for each."""
    assert 8 <= shard_rows(rows) <= 500
    assert rows / shard_rows(rows) <= 2000


def test_a_shards_file_and_a_rows_record_come_back_as_they_were():
    """Whatever stands in them."""
    row = ShardRow(3, "a cat\u2028 and\n a \U0001f600", "m", "16:9", 2, ("data:image/png;base64,AA",))
    [back] = decode_shard(encode_shard([row]), "file")
    assert (back.index, back.request.prompt, back.request.quantity) == (3, row.prompt, 2)
    record = RowRecord(state=JobState.STORED, attempts=2, credits=0, urls=("https://x",), files=("images/a.png",))
    assert RowRecord.from_json(record.to_json()) == record
    assert json.loads(record.to_json())["k"] == 0
