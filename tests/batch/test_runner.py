"""A run from beginning to end: in order, stopped, left, offline, resumed."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from patience import PATIENCE
from PIL import Image
from running import KEY, Events, Relay, manifest, run, runner, statuses
from watched import Watched

from nanobanana_async import (
    AccountLimiter,
    Backoff,
    Client,
    GenerateRequest,
    InputError,
    InvalidRequestError,
    RetryPolicy,
)
from nanobanana_async.batch import BatchRunner, JobState, read_rows
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")

HASTE = {"retry": RetryPolicy(backoff=Backoff(initial_delay=0.01, max_delay=0.02))}


def another_client(emulator):
    """As of another process: it knows nothing of the slots that are taken."""
    limiter = AccountLimiter(uniform=lambda low, high: 0.05)
    return Client(KEY, base_url=emulator.url, limiter=limiter, poll=0.01, **HASTE)


async def leave_running(emulator, batch, rows, running):
    """Begin the batch, and leave it when so many of its generations run."""
    await batch.add(f"cat {number}" for number in range(rows))
    task = asyncio.create_task(batch.run())
    await emulator.until(lambda: emulator.ledger.active == running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_every_row_is_stored_under_its_own_name(online, tmp_path):
    """Images that open, a manifest in the input's order, a page."""
    async with online(limit=4) as (emulator, client):
        summary = await run(client, tmp_path, 20)
        assert summary.all_stored
        assert (summary.credits_used, summary.stopped_by, summary.interrupted) == (20, None, False)
        assert emulator.ledger.charges == 20
        assert emulator.ledger.refusals.total() == 0
    rows = manifest(tmp_path)
    assert [row.prompt for row in rows] == [f"cat {number}" for number in range(20)]
    for row in rows:
        with Image.open(tmp_path / row.files[0]) as image:
            image.load()
    assert "cat 19" in (tmp_path / "index.html").read_text()
    assert not list(tmp_path.glob(".batch*"))


async def test_every_slot_is_filled(online, tmp_path):
    """One submission at a time is unanswered, and yet all slots are busy."""
    async with online(limit=8, duration=float("inf")) as (emulator, client), runner(client, tmp_path) as batch:
        await batch.add(f"cat {number}" for number in range(8))
        running = asyncio.create_task(batch.run())
        await asyncio.wait_for(emulator.until(lambda: emulator.ledger.active == 8), PATIENCE)
        emulator.finish()
        assert (await running).all_stored


async def test_slots_beyond_those_of_a_known_limit_are_filled(online, tmp_path):
    """Where no answer tells the limit, nothing but a refusal does: so there are always more rows than run."""
    forever = {"limit": 40, "announce": "never", "duration": float("inf")}
    async with online(**forever) as (emulator, client), runner(client, tmp_path) as batch:
        await batch.add(f"cat {number}" for number in range(50))
        running = asyncio.create_task(batch.run())
        await asyncio.wait_for(emulator.until(lambda: emulator.ledger.active == 40), PATIENCE)
        emulator.duration = 0.01
        emulator.finish()
        assert (await running).all_stored


async def test_a_second_run_does_nothing(online, tmp_path):
    """What is stored stays so, for no credit and without one POST."""
    async with online(limit=4) as (emulator, client):
        await run(client, tmp_path, 5)
        summary = await run(client, tmp_path, 5)
        assert summary.all_stored
        assert summary.credits_used == 0
        assert emulator.ledger.requests["POST /generate"] == 5


async def test_more_rows_than_may_be_under_way(online, tmp_path):
    """Each is handed out once, also across pages and refusals."""
    plan = FaultPlan(Fault("submit", "refuse", rate=0.05), seed=1)
    async with online(limit=30, duration=0.001, faults=plan, image_size=8) as (emulator, client):
        summary = await run(client, tmp_path, 80)
        assert summary.all_stored
        assert sorted(emulator.ledger.charged_prompts()) == sorted(f"cat {number}" for number in range(80))


async def test_bad_rows_do_not_hold_up_the_others(online, tmp_path):
    """Failed, rejected, refused: each is told with its reason; whoever wants them again has to say so."""
    async with online(limit=4) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            bad = GenerateRequest(prompt="a dog", model="no-such-model")
            await batch.add(["a cat", "a [fail] cat", "an [unsafe] cat", bad, "a bird"])
            summary = await batch.run()
        assert statuses(tmp_path) == {"stored": 2, "failed": 2, "rejected": 1}
        assert summary.stopped_by is None
        assert emulator.ledger.charges == summary.credits_used == 4
        errors = [row.error for row in manifest(tmp_path) if row.error]
        assert len(errors) == 3
        assert (await run(client, tmp_path)).credits_used == 0


async def test_failed_rows_are_sent_again_on_request_and_not_for_ever(online, tmp_path):
    """Three attempts in all; each was paid, and the manifest tells the sum."""
    async with online() as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(["a [fail] cat"])
            await batch.run()
        for _ in range(4):
            await run(client, tmp_path, retry_failed=True)
        assert emulator.ledger.charges == 3
        [row] = manifest(tmp_path)
        assert (row.status, row.credits) == ("failed", 3)


# ---- ended early, and taken up again


async def test_stop_finishes_what_runs_and_submits_nothing_more(online, tmp_path):
    """What was accepted is stored; the rest waits for the next run."""
    async with online(limit=3, duration=float("inf")) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(f"cat {number}" for number in range(10))
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.active == 3)
            batch.stop()
            batch.stop()
            emulator.finish()
            emulator.duration = 0.01
            summary = await running
        assert (summary.interrupted, summary.stopped_by) == (True, None)
        assert statuses(tmp_path) == {"stored": 3, "pending": 7}
        assert emulator.ledger.charges == 3
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 10


async def test_stop_also_ends_a_wait_for_refused_rows(online, tmp_path):
    """A row that was refused while the batch was stopping is not sent again."""
    async with online(limit=1, faults=FaultPlan(Fault("submit", "refuse")), retry_after=30) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(f"cat {number}" for number in range(3))
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.refusals[429] == 1)
            batch.stop()
            summary = await running
        assert summary.interrupted
        assert statuses(tmp_path) == {"pending": 3}


async def test_cancellation_leaves_at_once_and_the_next_run_pays_nothing_again(online, tmp_path):
    """The generations run on at the service; the next run polls them by id."""
    async with online(limit=3, duration=float("inf")) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await leave_running(emulator, batch, rows=10, running=3)
            counts = await batch._journal.counts()
            assert counts.by_state[JobState.RUNNING].rows == 3
        assert statuses(tmp_path) == {"pending": 10}
        emulator.finish()
        emulator.duration = 0.01
        await client.idle()
        assert emulator.ledger.charges == 3
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 10


@pytest.mark.parametrize("slots", [3, 40])
async def test_slots_that_an_earlier_run_left_taken_are_filled_one_by_one(online, tmp_path, slots):
    """The next run watches what is left running, and does not wait for the last of it to send more."""
    async with online(limit=slots, duration=float("inf")) as (emulator, _):
        async with another_client(emulator) as client, runner(client, tmp_path) as batch:
            await leave_running(emulator, batch, rows=slots + 3, running=slots)
        async with another_client(emulator) as client, runner(client, tmp_path) as batch:
            running = asyncio.create_task(batch.run())
            emulator.finish(emulator.ledger.charged()[0].generation_id)
            await asyncio.wait_for(emulator.until(lambda: emulator.ledger.charges == slots + 1), PATIENCE)
            emulator.duration = 0.01
            emulator.finish()
            assert (await running).all_stored
        assert emulator.ledger.charges == slots + 3


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_the_answer_on_its_way_is_recorded_before_a_cancelled_run_ends(online, tmp_path, times):
    """A POST under way is paid: its id must not be lost to an impatient user, or a timeout of a timeout."""
    async with online(limit=1, latency=0.3) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(["a cat", "a dog"])
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.charges == 1)
            for _ in range(times):
                running.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await running
            [row] = await batch._journal.unfinished(JobState.RUNNING, limit=9)
            assert row.generation_id == emulator.ledger.charged()[0].generation_id
        emulator.latency = 0.0
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 2


async def test_the_manifest_of_a_run_that_was_left_has_all_that_is_known(online, tmp_path):
    """Links that were told a moment before, too."""
    stalled = Watched(Fault("image", "stall"))
    async with online(limit=1, faults=stalled) as (_, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(["a cat"])
            running = asyncio.create_task(batch.run())
            await stalled.struck.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        [row] = manifest(tmp_path)
        assert (row.status, len(row.urls)) == ("completed", 1)


async def test_a_job_that_can_not_be_made_ends_the_run(online, tmp_path):
    """The summary has the error itself; all rows are where they were."""
    async with online() as (_, client), runner(client, tmp_path, priority=float("nan")) as batch:
        await batch.add(["a cat", "a dog"])
        summary = await batch.run()
        assert isinstance(summary.stopped_by, InvalidRequestError)
        assert "priority must be a number" in str(summary.stopped_by)
        assert statuses(tmp_path) == {"pending": 2}


async def test_images_that_were_not_stored_are_fetched_by_the_next_run(online, tmp_path):
    """Made and paid: another run downloads them for nothing."""
    async with online(limit=2, faults=FaultPlan(Fault("image", "error_500"))) as (emulator, client):
        summary = await run(client, tmp_path, 2)
        assert statuses(tmp_path) == {"completed": 2}
        assert summary.rows(JobState.COMPLETED) == 2
        emulator.faults = FaultPlan()
        summary = await run(client, tmp_path)
        assert summary.all_stored
        assert emulator.ledger.charges == 2


async def test_links_that_have_ended_are_told(online, tmp_path):
    """Fifteen days later there is nothing to fetch: expired, not failed, and not paid again."""
    async with online(faults=FaultPlan(Fault("image", "error_500"))) as (emulator, client):
        await run(client, tmp_path, 1)
        emulator.faults = FaultPlan()
        emulator.clock.advance(16 * 86400)
        await run(client, tmp_path, retry_failed=True)
        assert statuses(tmp_path) == {"expired": 1}
        assert emulator.ledger.charges == 1


async def test_another_accounts_key_gives_up_no_paid_row(online, tmp_path):
    """The service denies the ids, and the rows stay as they are until their own key is back."""
    async with online(limit=2, duration=float("inf")) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(["a cat", "a dog"])
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.active == 2)
            await asyncio.gather(_cancelled(running))
        emulator.finish()
        async with Client("nb_other", base_url=emulator.url, poll=0.01, **HASTE) as other:
            await run(other, tmp_path)
        assert statuses(tmp_path) == {"pending": 2}
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 2


async def _cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_batch_without_a_network_waits_and_says_so(online, tmp_path):
    """The network goes and comes back: what ran is fetched, what waited is sent, nothing is paid twice."""
    events = Events()
    async with online(limit=2) as (emulator, _), Relay(emulator.url) as network:
        async with (
            Client(KEY, base_url=network.url, poll=0.01, **HASTE) as client,
            runner(client, tmp_path, on_event=events.append) as batch,
        ):
            await batch.add(f"cat {number}" for number in range(12))
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.states["completed"] >= 4)
            await network.cut()
            await asyncio.wait_for(events.told("no network"), PATIENCE)
            assert "no network" in batch.progress().note
            await network.mend()
            summary = await asyncio.wait_for(running, PATIENCE)
            assert batch.progress().note == ""
        assert summary.stopped_by is None
        assert set(statuses(tmp_path)) <= {"stored", "lost"}
        assert emulator.ledger.charges == summary.credits_used == 12
        assert len(set(emulator.ledger.charged_prompts())) == 12


async def test_a_batch_without_a_network_can_be_left(online, tmp_path):
    """Stopped, it still waits for what runs, which is paid; cancelled, it leaves at once."""
    events = Events()
    async with (
        online(limit=1) as (emulator, _),
        Relay(emulator.url) as network,
        Client(KEY, base_url=network.url, poll=0.01, **HASTE) as client,
        runner(client, tmp_path, on_event=events.append) as batch,
    ):
        await batch.add(f"cat {number}" for number in range(12))
        running = asyncio.create_task(batch.run())
        await emulator.until(lambda: emulator.ledger.states["completed"] >= 2)
        await network.cut()
        await asyncio.wait_for(events.told("no network"), PATIENCE)
        batch.stop()
        assert not running.done()
        await asyncio.wait_for(_cancelled(running), PATIENCE)


async def test_the_client_closed_over_its_head_ends_the_run(online, tmp_path):
    """Clearly, and with every row where the journal has it."""
    async with online(limit=2, duration=float("inf")) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(f"cat {number}" for number in range(5))
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.active == 2)
            await client.aclose()
            summary = await running
        assert "closed" in str(summary.stopped_by)
        assert statuses(tmp_path) == {"pending": 5}


# ---- what it tells


async def test_events_add_up(online, tmp_path):
    """A row's end is told once, and the sums follow."""
    events = Events()
    async with online(limit=3) as (_, client), runner(client, tmp_path, on_event=events.append) as batch:
        await batch.add(["a cat", "a [fail] cat", "a dog"])
        await batch.run()
        last = batch.progress()
    ended = {event.index: event.state for event in events if event.kind == "row"}
    assert ended == {0: JobState.STORED, 1: JobState.FAILED, 2: JobState.STORED}
    assert (last.rows, last.stored, last.failed, last.queued, last.credits) == (3, 2, 1, 0, 3)
    assert last.done == 3


async def test_a_broken_listener_ends_the_run_and_is_raised(online, tmp_path):
    """An error of the user's own callback is not hidden; what runs is brought home all the same."""

    def broken(event):
        if event.state is JobState.STORED:
            raise LookupError("mine")

    async with online(limit=2) as (emulator, client):
        async with runner(client, tmp_path, on_event=broken) as batch:
            await batch.add(f"cat {number}" for number in range(6))
            with pytest.raises(LookupError, match="mine"):
                await batch.run()
        assert statuses(tmp_path)["stored"] == emulator.ledger.charges < 6


async def test_a_listener_that_breaks_at_a_note_ends_the_run_as_plainly(online, tmp_path):
    """A note is told by whoever notices that the network has gone, in no row's task."""

    def broken(event):
        if "no network" in event.message:
            told.set()
            raise LookupError("mine")

    told = asyncio.Event()

    async with online(duration=float("inf")) as (emulator, _), Relay(emulator.url) as relay:
        async with (
            Client(KEY, base_url=relay.url, poll=0.01, **HASTE) as client,
            runner(client, tmp_path, on_event=broken) as batch,
        ):
            await batch.add(["a cat"])
            running = asyncio.create_task(batch.run())
            while client.statistics().running == 0:  # noqa: ASYNC110  # its id is known, so that only looks are cut off
                await asyncio.sleep(0.01)
            await relay.cut()
            await told.wait()
            await relay.mend()
            emulator.finish()
            with pytest.raises(LookupError, match="mine"):
                await running
        assert statuses(tmp_path) == {"stored": 1}


async def test_the_manifest_is_fresh_while_the_batch_runs(online, tmp_path):
    """Now and then, and whole: whoever reads it never meets half of one."""
    async with online(limit=1, duration=float("inf")) as (emulator, client), runner(client, tmp_path) as batch:
        await batch.add(["a cat", "a dog"])
        running = asyncio.create_task(batch.run())
        await emulator.until(lambda: emulator.ledger.active == 1)
        emulator.finish()
        async with asyncio.timeout(PATIENCE):
            # A file tells nobody that it was written; the page is the later one.
            page = tmp_path / "index.html"
            while "stored" not in statuses(tmp_path, missing_ok=True) or not page.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await _cancelled(running)
        emulator.finish()


# ---- rows in


async def test_an_async_input_is_streamed(online, tmp_path):
    """As many rows are held as fit into a few handings-over, however many come."""
    taken = 0

    async def prompts():
        nonlocal taken
        for taken in range(3000):
            yield f"cat {taken}"

    async with online() as (_, client), runner(client, tmp_path) as batch:
        added = await batch.add(prompts())
        assert added.added == taken + 1 == 3000
        assert (await batch.add(prompts())).known == 3000


@pytest.mark.parametrize("kind", [LookupError, InputError])
async def test_an_input_that_breaks_off_adds_nothing(online, tmp_path, kind):
    """All rows or none, for async inputs too; the error comes out as it was raised."""

    async def prompts():
        for number in range(1000):
            yield f"cat {number}"
        raise kind("no more")

    async with online() as (_, client), runner(client, tmp_path) as batch:
        with pytest.raises(kind, match="no more"):
            await batch.add(prompts())
        assert (await batch._journal.counts()).rows == 0


async def test_an_input_that_was_changed_is_refused(online, tmp_path):
    """Also when it comes asynchronously, and much of it is still to come."""

    async def prompts(animal):
        for number in range(2000):
            yield f"{animal} {number}"

    async with online() as (_, client), runner(client, tmp_path) as batch:
        await batch.add(prompts("cat"))
        with pytest.raises(InputError, match="differs"):
            await batch.add(prompts("dog"))


async def test_an_import_can_be_cancelled(online, tmp_path):
    """Even one whose input never goes on: nothing hangs, nothing is added."""
    waiting = asyncio.Event()

    async def prompts():
        yield "a cat"
        waiting.set()
        await asyncio.get_running_loop().create_future()

    async with online() as (_, client), runner(client, tmp_path) as batch:
        adding = asyncio.create_task(batch.add(prompts()))
        await waiting.wait()
        await _cancelled(adding)
        assert (await batch._journal.counts()).rows == 0


async def test_own_columns_reach_the_manifest(online, tmp_path):
    """Rows of an input file keep what else they bring."""
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"prompt": "a cat", "key": "k1", "shelf": 4}) + "\n")
    async with online() as (_, client), BatchRunner(client, tmp_path / "out") as batch:
        await batch.add(read_rows(source))
        await batch.run()
    [row] = manifest(tmp_path / "out")
    assert (row.key, row.extra, row.status) == ("k1", {"shelf": 4}, "stored")


# ---- beside others on the same client


async def test_rows_that_wait_for_their_turn_hold_no_slot(online, tmp_path):
    """While one row's submission is unanswered, the slots of those behind it are there for others."""
    stalled = FaultPlan(Fault("submit", "stall", times=1, after=1, stall_seconds=0.5))
    async with online(limit=4, duration=float("inf"), faults=stalled) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(f"cat {number}" for number in range(8))
            running = asyncio.create_task(batch.run())
            await asyncio.wait_for(emulator.until(lambda: stalled.fired.total() == 1), PATIENCE)
            emulator.duration = 0.005
            assert (await client.generate("urgent")).image_urls
            assert client.statistics().submitting == 1  # the row's answer is still to come
            await asyncio.wait_for(emulator.until(lambda: emulator.ledger.active < 4), PATIENCE)
            while not running.done():
                emulator.finish()
                await asyncio.wait((running,), timeout=0.01)
            assert (await running).all_stored
        assert emulator.ledger.charges == 9


async def test_somebodys_job_beside_a_batch_gets_the_next_free_slot(online, tmp_path):
    """It waits behind no row, however many there are."""
    async with online(limit=2, duration=0.01) as (emulator, client), runner(client, tmp_path) as batch:
        await batch.add(f"cat {number}" for number in range(100))
        running, late = asyncio.create_task(batch.run()), []
        await emulator.until(lambda: emulator.ledger.charges > 5)
        for number in range(10):
            before = emulator.ledger.charges
            await client.generate(f"urgent {number}")
            late.append(emulator.ledger.charged_prompts().index(f"urgent {number}") - before)
        assert not running.done()
        assert (await running).all_stored
        assert max(late) <= 2  # a POST for each slot may have been on its way


async def test_two_batches_on_one_client_share_its_slots(online, tmp_path):
    """The one with fewer rows doesn't wait for the other's end."""
    async with online(limit=2, duration=0.005) as (emulator, client), AsyncExitStack() as stack:
        long, short = [await stack.enter_async_context(runner(client, tmp_path / name)) for name in ("long", "short")]
        await long.add(f"long {number}" for number in range(60))
        await short.add(f"short {number}" for number in range(12))
        summaries = await asyncio.gather(long.run(), short.run())
        assert all(summary.all_stored for summary in summaries)
        assert emulator.ledger.charged_prompts().index("short 11") < 2 * 12 + 6
