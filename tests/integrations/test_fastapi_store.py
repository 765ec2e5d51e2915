"""Several workers on one file of jobs: each finds the others', and takes over from those that have gone."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from web import SMALL, Caller, make_app, online, served

from nanobanana_async import JobStatus
from nanobanana_async.emulator import Emulator, Fault, FaultPlan
from nanobanana_async.integrations.fastapi import _adoption, _store
from nanobanana_async.integrations.fastapi._progress import FIRST_GUESS, Lengths
from nanobanana_async.integrations.fastapi._receipts import Receipts
from nanobanana_async.integrations.fastapi._records import JobRecord
from nanobanana_async.integrations.fastapi._store import JobStore

IDS = st.text(min_size=1, max_size=40)


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch):
    """Workers are heard often, and given up soon."""
    monkeypatch.setattr(_adoption, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(_store, "SILENCE_SECONDS", 20.0)


@asynccontextmanager
async def two_workers(tmp_path, **emulator: Any) -> AsyncIterator[tuple[Emulator, Caller, Caller, AsyncExitStack]]:
    """One caller at two workers; the stack ends the first of them."""
    async with (
        Emulator(**{**SMALL, **emulator}) as running,
        aiohttp.ClientSession() as session,
        AsyncExitStack() as first,
        served(make_app(running, jobs=tmp_path / "jobs.db")) as there,
    ):
        here = await first.enter_async_context(served(make_app(running, jobs=tmp_path / "jobs.db")))
        yield running, Caller(session, here), Caller(session, there), first


# ---- over HTTP


async def test_a_job_is_found_on_any_worker(tmp_path):
    """Its status, its events and its images; and only by its owner."""
    async with two_workers(tmp_path) as (_, here, there, _):
        job = await here.submit()
        done = await there.end(job)
        assert done["status"] == "completed"
        assert (await there.get(done["images"][0])).status == 200
        assert (await there.get("/generations")).json["jobs"] == [done]
        assert (await there.named("bob").get(job["links"]["status"])).status == 404


async def test_the_place_in_the_queue_is_told_by_any_worker(tmp_path):
    async with two_workers(tmp_path, duration=math.inf) as (_, here, there, _):
        first, second = await here.submit("a"), await here.submit("b")
        await here.until(first["links"]["status"], lambda job: job["status"] == "running")
        told = await there.until(second["links"]["status"], lambda job: "position" in job)
        assert (told["status"], told["position"]) == ("queued", 0)


async def test_a_job_is_cancelled_from_any_worker(tmp_path):
    """For free, as where it waits; its own worker hears of it before it submits."""
    async with two_workers(tmp_path, duration=math.inf) as (emulator, here, there, _):
        first, second = await here.submit("a"), await here.submit("b")
        await here.until(first["links"]["status"], lambda job: job["status"] == "running")
        assert (await there.ask("DELETE", second["links"]["status"])).json["status"] == "cancelled"
        emulator.finish()
        await here.end(first)
        assert (await here.end(second))["status"] == "cancelled"
        assert emulator.ledger.charges == 1
        assert (await there.ask("DELETE", first["links"]["status"])).status == 409


async def test_a_worker_that_stops_hands_its_jobs_over(tmp_path):
    """What runs is waited for elsewhere, what waits is queued elsewhere: nobody notices, and nothing is paid twice."""
    async with two_workers(tmp_path, duration=math.inf) as (emulator, here, there, first_worker):
        running, waiting = await here.submit("a"), await here.submit("b", aspect_ratio="1:1")
        before = await here.until(running["links"]["status"], lambda job: job["status"] == "running")
        await first_worker.aclose()
        seen = (await there.get(running["links"]["status"])).json
        assert (seen["status"], seen["generation_id"]) == ("running", before["generation_id"])
        emulator.finish()
        assert (await there.end(running))["status"] == "completed"
        after = await there.until(waiting["links"]["status"], lambda job: job["status"] == "running")
        emulator.finish(after["generation_id"])
        assert (await there.end(waiting))["status"] == "completed"
        assert emulator.ledger.charges == 2


async def test_a_restart_goes_on_where_it_stopped(tmp_path):
    """The only worker stops in the middle of a generation; the next one finds it."""
    async with Emulator(**{**SMALL, "duration": math.inf}) as emulator, aiohttp.ClientSession() as session:
        async with served(make_app(emulator, jobs=tmp_path / "jobs.db")) as url:
            job = await Caller(session, url).submit()
            await Caller(session, url).until(job["links"]["status"], lambda job: job["status"] == "running")
        async with served(make_app(emulator, jobs=tmp_path / "jobs.db")) as url:
            assert (await (ann := Caller(session, url)).get(job["links"]["status"])).json["status"] == "running"
            emulator.finish()
            assert (await ann.end(job))["status"] == "completed"
            assert emulator.ledger.charges == 1


async def test_the_answer_of_a_submission_is_written_down_while_closing(tmp_path):
    """The server is stopped between a POST and its answer: it waits for it, and the next one goes on by the id."""
    async with Emulator(**{**SMALL, "duration": 0.05, "latency": 0.3}) as emulator, aiohttp.ClientSession() as session:
        async with served(make_app(emulator, jobs=tmp_path / "jobs.db")) as url:
            job = await Caller(session, url).submit()
            await emulator.until(lambda: emulator.ledger.requests["POST /generate"] == 1)
        async with served(make_app(emulator, jobs=tmp_path / "jobs.db")) as url:
            assert (await Caller(session, url).end(job))["status"] == "completed"
        assert emulator.ledger.charges == 1


async def test_an_orphan_whose_answer_was_lost_is_told_as_uncertain(tmp_path):
    """Its worker died between the intent and the id: it may be paid, and is never sent again."""
    async with JobStore(tmp_path / "jobs.db", "dead", max_finished=9, keep_seconds=9) as store:
        record = JobRecord("x", "ann", {"prompt": "a"})
        await store.add(record)
        assert await store.begin(record)
    async with online(jobs=tmp_path / "jobs.db") as (emulator, ann):
        done = await ann.until("/generations/x", lambda job: job["ended"])
        assert (done["status"], done["error"]["paid"]) == ("uncertain", "maybe")
        assert emulator.ledger.charges == 0


async def test_an_orphan_that_ends_without_images_is_told_so(tmp_path):
    async with two_workers(tmp_path, duration=math.inf) as (emulator, here, there, first_worker):
        job = await here.submit("[fail]")
        await here.until(job["links"]["status"], lambda job: job["status"] == "running")
        await first_worker.aclose()
        emulator.finish()
        done = await there.end(job)
        assert (done["status"], done["error"]["paid"]) == ("failed", "yes")


async def test_a_full_disk_never_hides_a_paid_generation(tmp_path, caplog):
    """The id can't be written: it is told to its caller all the same, and logged."""

    class Full(JobStore):
        async def save(self, record: JobRecord) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanobanana_async.integrations.fastapi._lifespan.JobStore", Full)
        async with online(emulator={"duration": math.inf}) as (emulator, ann):
            job = await ann.submit()
            running = await ann.until(job["links"]["status"], lambda job: job["status"] == "running")
            assert running["generation_id"] in caplog.text
            emulator.finish()
            assert (await ann.end(job))["status"] == "completed"


# ---- the store itself


@asynccontextmanager
async def stores(tmp_path, *workers: str, **options: Any) -> AsyncIterator[list[JobStore]]:
    async with AsyncExitStack() as stack:
        settings = {"max_finished": 100, "keep_seconds": 3600, **options}
        opened = [JobStore(tmp_path / "jobs.db", worker, **settings) for worker in workers]
        yield [await stack.enter_async_context(store) for store in opened]


def record(name: str = "x") -> JobRecord:
    return JobRecord(name, "ann", {"prompt": "a"})


async def test_only_the_worker_that_holds_a_job_begins_it(tmp_path):
    """And only once: whatever another one thinks."""
    async with stores(tmp_path, "one", "two") as (one, two):
        await one.add(record())
        assert not await two.begin(record())
        assert await one.begin(record())
        assert not await one.begin(record())


async def test_what_was_cancelled_elsewhere_is_not_put_back_into_the_queue(tmp_path):
    """A worker that hears of it late withdraws an intent that it never had."""
    async with stores(tmp_path, "one", "two") as (one, two):
        await one.add(record())
        ended = record()
        ended.end(JobStatus.CANCELLED)
        assert await two.cancel(ended)
        assert not await one.begin(record())
        assert not await one.withdraw(record())
        [kept] = await one.newest("ann", 9)
        assert kept.status == "cancelled"


async def test_of_beginning_and_cancelling_one_wins(tmp_path):
    async with stores(tmp_path, "one", "two") as (one, two):
        for place in range(20):
            await one.add(record(str(place)))
            ended = record(str(place))
            ended.end(JobStatus.CANCELLED)
            begun, cancelled = await asyncio.gather(one.begin(record(str(place))), two.cancel(ended))
            assert begun is not cancelled


async def test_a_worker_that_beats_keeps_its_jobs(tmp_path):
    """One that is silent loses them, to one other only."""
    async with stores(tmp_path, "one", "two", "three") as (one, two, three):
        await one.beat({})
        await one.add(record())
        assert await two.adopt() == []
        one.leave()
        assert len(await one.newest("ann", 9)) == 1  # and by then it has left
        taken = await asyncio.gather(two.adopt(), three.adopt())
        assert sorted(len(records) for records in taken) == [0, 1]


async def test_what_has_ended_is_forgotten_in_time_and_number(tmp_path):
    """What has not ended never is."""
    async with stores(tmp_path, "one", max_finished=2, keep_seconds=100) as (store,):
        for place in range(4):
            old = record(str(place))
            old.ended_at, old.status = time.time() + place, "completed"
            await store.add(old)
        expired = record("expired")
        expired.ended_at = time.time() - 200
        await store.add(expired)
        await store.add(record("open"))
        assert {kept.id for kept in await store.newest("ann", 10)} == {"2", "3", "open"}


async def test_the_file_is_its_users_own(tmp_path):
    """Prompts are nobody else's business."""
    async with stores(tmp_path, "one"):
        assert (tmp_path / "jobs.db").stat().st_mode & 0o077 == 0


async def test_a_lost_answer_is_uncertain_in_the_store_too(tmp_path):
    """After a restart as before it."""
    faults = FaultPlan(Fault("submit", "reset_after", times=1))
    async with online(emulator={"faults": faults}, jobs=tmp_path / "jobs.db") as (_, ann):
        job = await ann.submit()
        await ann.end(job)
    async with online(jobs=tmp_path / "jobs.db") as (_, ann):
        assert (await ann.get(job["links"]["status"])).json["status"] == "uncertain"


# ---- pure


@given(IDS, IDS, IDS)
def test_a_receipt_is_its_owners_alone(generation_id, owner, other):
    """Whatever the ids are made of; it fits into a path."""
    receipts = Receipts("secret")
    receipt = receipts.write(generation_id, owner)
    assert set(receipt) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~.")
    assert receipts.read(receipt, owner) == generation_id
    assert receipts.read(receipt, other) == (generation_id if other == owner else None)
    assert Receipts("another").read(receipt, owner) is None


@given(IDS, IDS)
def test_no_text_is_taken_for_a_receipt(text, owner):
    assert Receipts("secret").read(text, owner) is None


@given(st.lists(st.floats(0, 1e4), max_size=80), st.floats(0, 1e5), st.floats(0, 1e5))
def test_progress_never_falls_and_never_arrives(lengths, one, other):
    seen = Lengths()
    for length in lengths:
        seen.add(length)
    early, late = sorted((one, other))
    assert 0 <= seen.progress(early) <= seen.progress(late) <= 99


def test_the_first_jobs_are_guessed_by_what_is_usual():
    seen = Lengths()
    assert seen.median == FIRST_GUESS
    for length in (1, 2, 3):
        seen.add(length)
    assert (seen.median, seen.wait(ahead=3, slots=2), seen.wait(ahead=0, slots=None)) == (2, 4, 2)
