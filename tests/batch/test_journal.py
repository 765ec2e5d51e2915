"""The journal: rows in, the steps of a job, what it costs, what comes out."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from nanobanana_async import GenerateRequest, Generation, InputError, JournalError
from nanobanana_async.batch._inputs import ModelCounts, Row
from nanobanana_async.batch._journal import Journal
from nanobanana_async.batch._journal_rows import Added, JobState
from nanobanana_async.batch._manifest import ManifestStatus

MADE = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
async def journal(tmp_path):
    async with Journal.open(tmp_path, synchronous="OFF") as journal:
        yield journal


def row(index: int, prompt: str = "a cat", *, key: str | None = None, extra: dict | None = None, **fields) -> Row:
    return Row(index, index + 1, key, GenerateRequest(prompt=prompt, **fields), extra or {})


def generation(name: str = "g1", **fields) -> Generation:
    made = {"image_urls": ["https://e.com/1.png"], **fields}
    return Generation(id=name, prompt="a cat", model="nano-banana", **made)


async def only(journal: Journal, state: JobState):
    [found] = await journal.unfinished(state, limit=2)
    return found


def tally_from_scratch(folder: Path) -> list[tuple]:
    """What the triggers should have added up."""
    with closing(sqlite3.connect(folder / "batch.db")) as connection:
        kept = "SELECT * FROM tally WHERE jobs > 0 ORDER BY 1, 2"
        fresh = (
            "SELECT state, ifnull(model, ''), count(*), sum(quantity), sum(surcharge), sum(spent), sum(reserved) "
            "FROM job GROUP BY 1, 2 ORDER BY 1, 2"
        )
        assert connection.execute(kept).fetchall() == connection.execute(fresh).fetchall()
        return connection.execute(fresh).fetchall()


# ---- rows in


async def test_a_path_whose_name_is_no_text_comes_back_as_it_was(journal, tmp_path):
    """File names are bytes; what Python makes of odd ones is half a surrogate pair."""
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes(PIXEL)
    await journal.add_rows([row(0, reference_images=[odd])])
    assert (await only(journal, JobState.READY)).request.reference_images == (str(odd),)


async def test_a_row_comes_back_as_it_went_in(journal):
    """Every field of the request, the key and the row's own columns survive."""
    given = row(
        3, "a\0 “fox”\u2028", key="k", extra={"set": "ä", "n": [1, None]}, model="m", aspect_ratio="16:9", quantity=2
    )
    await journal.add_rows([given])
    found = await only(journal, JobState.READY)
    assert (found.index, found.line, found.key, found.extra) == (3, 4, "k", given.extra)
    assert found.request == given.request


async def test_references_come_back_as_strings(journal):
    """Links and paths by their text, bytes as a data URI, so that a resumed batch needs nothing but its folder."""
    await journal.add_rows([row(0, reference_images=["https://e.com/a.png", Path("/pics/b.png"), PIXEL])])
    found = await only(journal, JobState.READY)
    link, path, uri = found.request.reference_images
    assert (link, path) == ("https://e.com/a.png", "/pics/b.png")
    assert base64.b64decode(uri.removeprefix("data:image/png;base64,")) == PIXEL


async def test_a_picture_in_memory_is_refused(journal):
    """Encoded by another release of Pillow it might differ, and the row would look changed."""
    with pytest.raises(InputError, match=r"row 0.*save it and give its path"):
        await journal.add_rows([row(0, reference_images=[Image.new("RGB", (2, 2))])])


async def test_bytes_that_are_no_image_are_refused(journal):
    with pytest.raises(InputError, match="no image"):
        await journal.add_rows([row(0, reference_images=[b"hello, I am text"])])


async def test_adding_the_same_rows_again_adds_only_what_is_new(journal):
    """Resuming with a longer input."""
    rows = [row(index, f"cat {index}") for index in range(5)]
    assert await journal.add_rows(rows[:3]) == Added(added=3)
    assert await journal.add_rows(iter(rows)) == Added(added=2, known=3)


async def test_a_shorter_input_leaves_the_rows_there(journal):
    await journal.add_rows([row(0), row(1)])
    await journal.add_rows([row(0)])
    assert (await journal.counts()).rows == 2


async def test_rows_may_come_in_any_order(journal):
    assert await journal.add_rows([row(5), row(2), row(5), row(0)]) == Added(added=3, known=1)
    assert [found.index for found in await journal.take(9)] == [0, 2, 5]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (row(7, "a dog"), "prompt"),
        (row(7, quantity=2), "quantity"),
        (row(7, model="m"), "model"),
        (row(7, key="k"), "key"),
        (row(7, aspect_ratio="1:1", quantity=2), "aspect ratio, quantity"),
        (row(7, reference_images=["https://e.com/a.png"]), "reference images"),
    ],
)
async def test_a_changed_row_is_refused_with_its_line_and_nothing_is_written(journal, changed, what):
    """It is told in what: an option of the command may have changed, and no line of the input."""
    await journal.add_rows([row(7)])
    told = rf"p\.csv: row 7 \(line 8\) differs in its {what} from the one this batch"
    with pytest.raises(InputError, match=told) as caught:
        await journal.add_rows([row(8), changed], source="p.csv")
    assert (caught.value.source, caught.value.line) == ("p.csv", 8)
    assert (await journal.counts()).rows == 1


async def test_own_columns_and_lines_follow_the_input(journal):
    """They cost nothing, so they may change."""
    await journal.add_rows([row(0, extra={"set": "a"})])
    await journal.add_rows([Row(0, 9, None, row(0).request, {"set": "b"})])
    found = await only(journal, JobState.READY)
    assert (found.line, found.extra) == (9, {"set": "b"})


async def test_a_fault_in_the_middle_of_an_input_leaves_nothing_of_it(journal):
    def rows():
        yield from (row(index) for index in range(2500))
        raise InputError("line 2501 is bad")

    with pytest.raises(InputError, match="2501"):
        await journal.add_rows(rows())
    assert (await journal.counts()).rows == 0


@pytest.mark.parametrize("bad", [row(1, quantity=10**30), row(1, key="\ud83d")], ids=["number", "surrogate"])
async def test_what_sqlite_cannot_hold_is_told_by_its_row(journal, bad):
    with pytest.raises(InputError, match=r"row 1 \(line 2\) holds a number too large, or half a character"):
        await journal.add_rows([row(0), bad])


async def test_duplicates_are_kept_unless_asked_otherwise(journal):
    assert await journal.add_rows([row(0), row(1)]) == Added(added=2)


async def test_dedupe_leaves_out_later_rows_with_the_same_key_and_request(journal):
    """A key of its own makes a wanted duplicate another row."""
    await journal.add_rows([row(0)])
    rows = [row(0), row(1), row(2, "a dog"), row(3, "a dog"), row(4, key="again")]
    assert await journal.add_rows(rows, dedupe=True) == Added(added=2, known=1, duplicates=2)
    assert await journal.add_rows(rows, dedupe=True) == Added(added=0, known=3, duplicates=2)


async def test_a_cancelled_import_writes_nothing(journal):
    """The endless input is not read on either, or closing would never end."""
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless():
        for index in range(10**9):
            if index == 1000:
                loop.call_soon_threadsafe(started.set)
            yield row(index)

    task = asyncio.create_task(journal.add_rows(endless()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await journal.counts()).rows == 0


# ---- the steps of a job


async def test_a_job_from_ready_to_stored(journal):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    assert (await only(journal, JobState.INTENT)).cost == 4
    await journal.accepted(0, "g1", 4, 96)
    assert (await only(journal, JobState.RUNNING)).generation_id == "g1"
    await journal.completed(0, generation(image_urls=["https://e.com/1.png"], created_at=MADE))
    found = await only(journal, JobState.COMPLETED)
    assert (found.urls, found.created_at) == (("https://e.com/1.png",), MADE)
    assert found.expires_at == MADE + timedelta(days=15)
    await journal.stored(0, ["images/0.png"])
    found = await only(journal, JobState.STORED)
    assert (found.files, found.credits, found.attempts, found.error) == (("images/0.png",), 4, 1, None)


async def test_only_a_ready_row_can_be_sent(journal):
    """Two intents for one row could be two charges."""
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    with pytest.raises(RuntimeError, match="row 0 is intent"):
        await journal.intend(0, 4)
    assert (await only(journal, JobState.INTENT)).attempts == 1


async def test_a_row_that_is_not_there_is_told(journal):
    with pytest.raises(RuntimeError, match="no row 5"):
        await journal.stored(5, [])


async def test_a_withdrawn_intent_costs_neither_credits_nor_an_attempt(journal):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.withdrawn(0)
    found = await only(journal, JobState.READY)
    assert (found.attempts, found.cost) == (0, None)
    assert (await journal.counts()).reserved == 0


async def test_withdrawing_an_intent_that_was_never_written_does_nothing(journal):
    """Who fails to write an intent withdraws it to be sure, and should see the first error, not a second."""
    await journal.add_rows([row(0)])
    await journal.withdrawn(0)
    assert (await only(journal, JobState.READY)).attempts == 0


@pytest.mark.parametrize(
    ("reason", "state"), [("out of memory", JobState.FAILED), ("safety filter", JobState.REJECTED)]
)
async def test_a_generation_that_ended_without_images_is_put_aside_at_once(journal, reason, state):
    """Or a crash would leave it to be downloaded, with nothing to download."""
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.accepted(0, "g1", 4, None)
    await journal.completed(0, generation(image_urls=[], status="failed", error_message=reason))
    found = await only(journal, state)
    assert reason in found.error
    assert (found.generation_id, found.credits) == ("g1", 4)


async def test_what_was_accepted_cannot_be_withdrawn(journal):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.accepted(0, "g1", 4, None)
    with pytest.raises(RuntimeError, match="row 0 is running"):
        await journal.withdrawn(0)


async def test_an_id_that_comes_late_is_recorded_all_the_same(journal):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.ended(0, JobState.UNCERTAIN, "no answer")
    await journal.accepted(0, "g1", 4, None)
    found = await only(journal, JobState.RUNNING)
    assert (found.generation_id, found.error) == ("g1", None)


async def test_odd_text_from_the_service_does_not_keep_an_id_from_being_recorded(journal):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.accepted(0, "g\ud800", 4, None)
    await journal.ended(0, JobState.FAILED, "why \udfff")
    found = await only(journal, JobState.FAILED)
    assert (found.generation_id, found.error) == ("g?", "why ?")


async def test_a_job_ends_only_in_a_state_that_is_an_end(journal):
    await journal.add_rows([row(0)])
    with pytest.raises(ValueError, match="does not end ready"):
        await journal.ended(0, JobState.READY, "")


async def test_intents_that_a_crash_left_become_uncertain(tmp_path):
    """Their credits stay reserved: they may be paid. What was accepted without an id is lost."""
    async with Journal.open(tmp_path) as journal:
        await journal.add_rows([row(0), row(1), row(2)])
        for index in (0, 1):
            await journal.intend(index, 4)
        await journal.accepted(1, None, None, None)
    async with Journal.open(tmp_path) as journal:
        assert await journal.doubt_intents() == 1
        found = await only(journal, JobState.UNCERTAIN)
        assert found.index == 0
        assert "before the answer" in found.error
        assert (await only(journal, JobState.LOST)).credits == 4
        counts = await journal.counts()
        assert (counts.credits, counts.reserved) == (4, 4)


async def test_every_step_is_logged_and_the_log_can_only_grow(journal, tmp_path):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.withdrawn(0)
    await journal.intend(0, 4)
    await journal.accepted(0, "g1", 4, 96)
    with closing(sqlite3.connect(tmp_path / "batch.db")) as connection:
        log = connection.execute("SELECT number, state, generation_id, remaining FROM attempt").fetchall()
        assert [step[:2] for step in log] == [(1, "intent"), (1, "ready"), (1, "intent"), (1, "running")]
        assert log[-1][2:] == ("g1", 96)
        for statement in ("DELETE FROM attempt", "UPDATE attempt SET state = ''", "DELETE FROM job"):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)


# ---- taking


async def test_take_goes_on_behind_the_last_row(journal):
    await journal.add_rows([row(index) for index in range(5)])
    await journal.intend(1, None)
    first = await journal.take(2)
    rest = await journal.take(9, after=first[-1].index)
    assert [[found.index for found in part] for part in (first, rest)] == [[0, 2], [3, 4]]


async def test_unfinished_merges_states_in_index_order(journal):
    await journal.add_rows([row(index) for index in range(4)])
    for index in (0, 2, 3):
        await journal.intend(index, None)
    await journal.accepted(2, "g", None, None)
    both = (JobState.INTENT, JobState.RUNNING)
    assert [found.index for found in await journal.unfinished(*both, limit=9)] == [0, 2, 3]
    assert [found.index for found in await journal.unfinished(*both, limit=1, after=0)] == [2]


async def test_take_reads_only_the_rows_it_returns(journal, tmp_path):
    """A plan of seeks: however many rows are done, none of them is looked at."""
    await journal.add_rows([row(0)])
    with closing(sqlite3.connect(tmp_path / "batch.db")) as connection:
        from nanobanana_async.batch._journal_steps import _SELECT

        plan = [step[-1] for step in connection.execute(f"EXPLAIN QUERY PLAN {_SELECT}", ("ready", 0, 1))]
    assert plan == [
        "SEARCH job USING INDEX job_by_state (state=? AND rowid>?)",
        "SEARCH input USING INTEGER PRIMARY KEY (rowid=?)",
    ]


# ---- credits


async def test_credits_are_reserved_with_the_intent_and_settled_with_the_answer(journal):
    await journal.add_rows([row(0), row(1)])
    await journal.intend(0, 4)
    await journal.intend(1, 4)
    await journal.accepted(0, "g", 3, None)
    counts = await journal.counts()
    assert (counts.credits, counts.reserved) == (3, 4)


async def test_credits_that_were_never_told_stay_reserved(journal):
    """A budget must not be exceeded because an answer was short."""
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.accepted(0, "g", None, None)
    await journal.completed(0, generation())
    await journal.stored(0, [])
    assert (await journal.counts()).reserved == 4


async def test_a_refusal_frees_what_was_reserved_and_a_failure_does_not(journal):
    await journal.add_rows([row(0), row(1)])
    await journal.intend(0, 4)
    await journal.ended(0, JobState.FAILED, "400: no such model")
    await journal.intend(1, 4)
    await journal.accepted(1, "g", None, None)
    await journal.ended(1, JobState.FAILED, "it failed")
    assert (await journal.counts()).reserved == 4


async def test_what_is_lost_counts_as_paid(journal):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.ended(0, JobState.UNCERTAIN, "no answer")
    await journal.ended(0, JobState.LOST, "the balance says that it was taken")
    assert (await journal.counts()).by_state[JobState.LOST].credits == 4


async def test_requeue_makes_failed_jobs_ready_and_keeps_count_of_what_they_took(journal):
    """The manifest tells what a row cost in all, the journal what the present attempt did."""
    await journal.add_rows([row(0)])
    for name in ("g1", "g2"):
        await journal.intend(0, 4)
        await journal.accepted(0, name, 4, None)
        await journal.ended(0, JobState.FAILED, "it failed")
        assert await journal.requeue(JobState.FAILED) == 1
    found = await only(journal, JobState.READY)
    assert (found.attempts, found.generation_id, found.credits, found.error) == (2, None, None, None)
    [told] = journal.manifest_rows()
    assert (told.status, told.credits) == (ManifestStatus.PENDING, 8)
    assert (await journal.counts()).credits == 8


async def test_requeue_counts_a_price_that_was_never_told_as_expected(journal):
    """An id was told, so it was paid; a failed attempt is not refunded."""
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.accepted(0, "g1", None, None)
    await journal.ended(0, JobState.FAILED, "it failed")
    await journal.requeue(JobState.FAILED)
    counts = await journal.counts()
    assert (counts.credits, counts.reserved) == (4, 0)


async def test_requeue_minds_attempts_and_indexes(journal):
    await journal.add_rows([row(index) for index in range(4)])
    for index in range(3):
        await journal.intend(index, 4)
        await journal.ended(index, JobState.FAILED, "no")
    assert await journal.requeue(JobState.FAILED, max_attempts=1) == 0
    assert await journal.requeue(JobState.FAILED, indexes=[]) == 0
    assert await journal.requeue(JobState.FAILED, JobState.REJECTED, max_attempts=2, indexes=[1, 3]) == 1
    assert [found.index for found in await journal.take(9)] == [1, 3]


async def test_an_uncertain_job_is_sent_again_without_ever_being_merely_ready(journal):
    """Refused, it is as uncertain as before: a run that was not asked to must not send it."""
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.ended(0, JobState.UNCERTAIN, "who knows")
    await journal.intend_again(0, 4)
    assert (await only(journal, JobState.INTENT)).index == 0
    await journal.put_back(0, "who knows")
    assert (await only(journal, JobState.UNCERTAIN)).error == "who knows"
    await journal.put_back(0, "already")
    assert (await only(journal, JobState.UNCERTAIN)).error == "who knows"
    assert await journal.take(9) == []


async def test_only_an_uncertain_job_is_sent_again_that_way(journal):
    """A stored one would be paid twice."""
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.accepted(0, "g1", 4, None)
    with pytest.raises(RuntimeError):
        await journal.intend_again(0, 4)


async def test_running_and_stored_jobs_are_never_queued_again(journal):
    for state in (JobState.INTENT, JobState.RUNNING, JobState.COMPLETED, JobState.STORED):
        with pytest.raises(ValueError, match="can't be queued again"):
            await journal.requeue(state)


async def test_open_by_model_counts_what_is_still_to_be_sent(journal):
    await journal.add_rows(
        [
            row(0, quantity=2),
            row(1, model="nano-banana", quantity=3, reference_images=["https://e.com/a", "https://e.com/b"]),
            row(2, model="pro"),
            row(3, model="pro"),
        ]
    )
    await journal.intend(3, 1)
    assert await journal.open_by_model() == {
        "nano-banana": ModelCounts(rows=2, images=5, surcharge=3),
        "pro": ModelCounts(rows=1, images=1),
    }


async def test_sums_follow_every_step(journal, tmp_path):
    await journal.add_rows([row(0, quantity=2), row(1, model="pro")])
    await journal.intend(0, 8)
    await journal.intend(1, 2)
    await journal.accepted(1, "g", 2, None)
    assert tally_from_scratch(tmp_path) == [("intent", "", 1, 2, 0, 0, 8), ("running", "pro", 1, 1, 0, 2, 0)]
    counts = await journal.counts()
    assert (counts.rows, counts.images, counts.by_state[JobState.INTENT].images) == (2, 3, 2)


# ---- the balance


async def test_the_balance_is_what_the_service_last_told(journal):
    await journal.add_rows([row(0), row(1)])
    assert await journal.balance() is None
    await journal.intend(0, 4)
    await journal.accepted(0, "g", 4, 96)
    assert await journal.balance() == 96
    await journal.intend(1, 4)
    await journal.accepted(1, "h", 4, None)
    assert await journal.balance() == 92


async def test_answers_that_overtake_each_other_leave_the_lower_balance(journal):
    """The service charged 0, then 1; the answers are read the other way round."""
    await journal.add_rows([row(0), row(1)])
    await journal.intend(0, 4)
    await journal.intend(1, 4)
    await journal.accepted(1, "h", 4, 92)
    await journal.accepted(0, "g", 4, 96)
    assert await journal.balance() == 92


async def test_a_rejection_at_once_is_charged_to_the_balance(journal):
    """It was never accepted, but its price was told."""
    await journal.add_rows([row(0), row(1)])
    await journal.set_balance(100)
    await journal.intend(0, 4)
    await journal.ended(0, JobState.REJECTED, "unsafe", credits=4)
    assert await journal.balance() == 96
    await journal.intend(1, 4)
    await journal.ended(1, JobState.REJECTED, "unsafe", credits=4, remaining=91)
    assert await journal.balance() == 91


async def test_a_loss_was_told_by_the_balance_and_leaves_it_alone(journal):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    await journal.set_balance(96)
    await journal.ended(0, JobState.LOST, "taken", credits=4)
    assert await journal.balance() == 96


async def test_a_recharge_is_seen_with_the_next_job(journal):
    """Sent after the balance was known, so nothing overtook it: the higher balance is true."""
    await journal.add_rows([row(0), row(1)])
    await journal.set_balance(5)
    await journal.intend(0, 4)
    await journal.accepted(0, "g", 4, 1001)
    assert await journal.balance() == 1001


# ---- settings and the manifest


async def test_settings_are_remembered(tmp_path):
    async with Journal.open(tmp_path) as journal:
        assert await journal.get_setting("input") is None
        await journal.set_setting("input", "a.csv")
        await journal.set_setting("input", "b.csv")
    async with Journal.open(tmp_path) as journal:
        assert await journal.get_setting("input") == "b.csv"


async def test_the_manifest_tells_every_state_in_index_order(journal):
    ends = [JobState.FAILED, JobState.REJECTED, JobState.UNCERTAIN, JobState.LOST, JobState.EXPIRED]
    await journal.add_rows([row(index) for index in range(10)])
    for index in range(1, 10):
        await journal.intend(index, 4)
    for index in (2, 3, 4):
        await journal.accepted(index, f"g{index}", 4, None)
    for index in (3, 4):
        await journal.completed(index, generation(f"g{index}"))
    await journal.stored(4, ["images/4.png"])
    for index, state in enumerate(ends, 5):
        await journal.ended(index, state, "why")
    told = [found.status.value for found in journal.manifest_rows()]
    assert told == ["pending", "pending", "pending", "completed", "stored", *(state.value for state in ends)]


async def test_a_manifest_row_has_all_that_is_known(journal):
    await journal.add_rows([row(0, key="k", model="pro", extra={"set": 1})])
    await journal.intend(0, 4)
    await journal.accepted(0, "g", 4, None)
    await journal.completed(0, generation("g", image_urls=["https://e.com/1"], created_at=MADE))
    await journal.stored(0, ["images/1.png"])
    [found] = journal.manifest_rows()
    assert found.to_json() == {
        "index": 0,
        "key": "k",
        "prompt": "a cat",
        "model": "pro",
        "status": "stored",
        "generation_id": "g",
        "credits": 4,
        "files": ["images/1.png"],
        "urls": ["https://e.com/1"],
        "expires_at": "2026-01-17T03:04:05.678000+00:00",
        "error": None,
        "set": 1,
    }


async def test_a_manifest_is_of_one_moment(journal):
    """Rows written while it is read don't appear in it, and don't wait for it."""
    await journal.add_rows([row(0), row(1)])
    rows = journal.manifest_rows()
    next(rows)
    await journal.intend(1, 4)
    await journal.ended(1, JobState.FAILED, "no")
    assert [found.status for found in rows] == [ManifestStatus.PENDING]


async def test_reading_needs_no_lock(journal, tmp_path):
    await journal.add_rows([row(0)])
    await journal.intend(0, 4)
    [found] = Journal.read(tmp_path)
    assert found.status is ManifestStatus.PENDING  # a batch runs: the answer will come


async def test_an_intent_without_a_process_is_read_as_uncertain(tmp_path):
    async with Journal.open(tmp_path) as journal:
        await journal.add_rows([row(0)])
        await journal.intend(0, 4)
    [found] = Journal.read(tmp_path)
    assert found.status is ManifestStatus.UNCERTAIN
    assert "before the answer" in found.error


def test_reading_a_folder_without_a_batch_says_so(tmp_path):
    with pytest.raises(JournalError, match=r"has no batch\.db"):
        next(Journal.read(tmp_path))
