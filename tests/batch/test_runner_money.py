"""No credit twice, no paid image forgotten: lost answers, empty accounts, budgets, others who spend."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import pytest
from aiohttp import ClientSession, web
from patience import PATIENCE
from running import IN_A_HURRY, KEY, Events, manifest, run, runner, statuses
from watched import Watched

from nanobanana_async import (
    AuthenticationError,
    Backoff,
    BatchError,
    BlockedError,
    BudgetExceededError,
    Client,
    GenerateRequest,
    InsufficientCreditsError,
    PermissionDeniedError,
    RetryPolicy,
    Timeouts,
)
from nanobanana_async.batch import JobState, Journal, Row
from nanobanana_async.batch._patience import Patience
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")

TAKEN = ("reset_after", "error_500_after", "garbage_200", "truncate", "stall")
NOT_TAKEN = ("reset_before", "error_500")
SUBMIT_TIMEOUT = Timeouts().submit_timeout
IMPATIENT = {"timeout": Timeouts(submit_timeout=2.0)}  # more than an honest answer takes on a loaded machine


def told(folder):
    """Every charge that the manifest tells."""
    return sum(row.credits or 0 for row in manifest(folder))


def fired(plan, kinds):
    return sum(plan.fired[f"submit:{kind}"] for kind in kinds)


# ---- records


@pytest.mark.parametrize("new_task", [None, getattr(asyncio, "eager_task_factory", None)])  # Python 3.12 has one
async def test_when_a_post_may_go_out_every_answer_before_it_is_recorded(online, tmp_path, monkeypatch, new_task):
    """The turn ends before the id is on disk, and yet no other intent is there without it.

    Not even where the next row's task begins at once.
    """
    asyncio.get_running_loop().set_task_factory(new_task)
    step, intents = Journal.intend, []

    async def intend(journal, index, cost):
        await step(journal, index, cost)
        with closing(sqlite3.connect(tmp_path / "batch.db")) as connection:
            intents.append([row for (row,) in connection.execute("SELECT idx FROM job WHERE state = 'intent'")])

    monkeypatch.setattr(Journal, "intend", intend)
    async with online(limit=4) as (_, client):
        assert (await run(client, tmp_path, 12)).all_stored
    assert intents == [[row] for row in range(12)]


# ---- lost answers


async def test_each_lost_answer_is_settled_right(online, tmp_path):
    """A tenth of the answers lost, a tenth of the POSTs never taken: the first are told lost, the second run again."""
    taken = [Fault("submit", kind, rate=0.02) for kind in TAKEN]
    dropped = [Fault("submit", kind, rate=0.05) for kind in NOT_TAKEN]
    plan = FaultPlan(*taken, *dropped, seed=5)
    async with online(limit=8, faults=plan, client=IMPATIENT) as (emulator, client):
        summary = await run(client, tmp_path, 50)
        ledger = emulator.ledger
    lost = fired(plan, TAKEN)
    assert lost >= 4
    assert fired(plan, NOT_TAKEN) >= 4
    assert statuses(tmp_path) == {"stored": 50 - lost, "lost": lost}
    assert set(Counter(ledger.charged_prompts()).values()) == {1}
    assert ledger.credits_charged == told(tmp_path) == summary.credits_used == 50


@pytest.mark.parametrize("kind", TAKEN)
async def test_a_paid_answer_that_is_lost_is_told(online, tmp_path, kind):
    """The balance is lower by exactly its cost: lost, with what it cost; it is not sent again by itself."""
    plan = FaultPlan(Fault("submit", kind, times=1, after=1))
    async with online(limit=2, faults=plan, client=IMPATIENT) as (emulator, client):
        await run(client, tmp_path, 4)
        assert statuses(tmp_path) == {"stored": 3, "lost": 1}
        assert emulator.ledger.requests["POST /generate"] == told(tmp_path) == 4
        await run(client, tmp_path)
        assert emulator.ledger.charges == 4
        summary = await run(client, tmp_path, retry_failed=True)
        assert summary.all_stored
        assert emulator.ledger.charges == told(tmp_path) == 5


@pytest.mark.parametrize("kind", NOT_TAKEN)
async def test_a_submission_that_was_not_taken_is_sent_again(online, tmp_path, kind):
    """The balance is what it was, twice asked."""
    plan = FaultPlan(Fault("submit", kind, times=2, after=1))
    async with online(limit=2, faults=plan) as (emulator, client):
        summary = await run(client, tmp_path, 4)
        assert summary.all_stored
        assert emulator.ledger.charges == 4
        assert emulator.ledger.requests["POST /generate"] == 6


async def test_a_submission_that_is_taken_late_is_not_sent_again(online, tmp_path):
    """The connection broke, and the service went on for a while: an unchanged balance is not believed at once."""
    plan = FaultPlan(Fault("submit", "reset_late", times=1, after=1, stall_seconds=0.3))
    async with online(limit=1, faults=plan) as (emulator, client):
        summary = await run(client, tmp_path, 3, patience=replace(IN_A_HURRY, confirm_delay=2.0))
        assert statuses(tmp_path) == {"stored": 2, "lost": 1}
        assert emulator.ledger.charges == told(tmp_path) == summary.credits_used == 3


async def test_a_submission_that_is_taken_later_than_anybody_waits_is_told(online, tmp_path, caplog):
    """It was judged, and sent again: then the balance is lower by what it cost, and the summary says so."""
    plan = FaultPlan(Fault("submit", "reset_late", times=1, after=1, stall_seconds=0.5))
    async with online(limit=8, duration=0.2, faults=plan, client={"max_concurrency": 1}) as (emulator, client):
        summary = await run(client, tmp_path, 8)
        assert summary.all_stored
        assert emulator.ledger.charges == summary.credits_used + summary.doubtful_credits == 9
    assert "judged as not taken" in caplog.text


async def test_what_is_taken_late_counts_in_the_budget(online, tmp_path):
    """Eight credits are spent, though one of them for nothing."""
    plan = FaultPlan(Fault("submit", "reset_late", times=1, after=1, stall_seconds=0.5))
    async with online(limit=8, duration=0.2, faults=plan, client={"max_concurrency": 1}) as (emulator, client):
        summary = await run(client, tmp_path, 8, max_credits=8)
        assert isinstance(summary.stopped_by, BudgetExceededError)
        assert emulator.ledger.charges == 8


@pytest.mark.parametrize(
    ("seconds_ago", "confirm_delay", "expected"),
    [(0, 2.0, "lost"), (SUBMIT_TIMEOUT / 2, 2.0, "lost"), (SUBMIT_TIMEOUT + PATIENCE, PATIENCE, "stored")],
)
async def test_what_a_crash_left_is_believed_by_its_age(online, tmp_path, seconds_ago, confirm_delay, expected):
    """The POST may have hung until the process died, and still be on its way; later than that nobody waits."""
    async with online() as (emulator, client):
        async with Journal.open(tmp_path) as journal:
            await journal.add_rows([Row(0, 1, None, GenerateRequest(prompt="a cat"), {})])
            await journal.set_balance(emulator.account(KEY).credits)
            await journal.intend(0, 1)
        with closing(sqlite3.connect(tmp_path / "batch.db")) as book, book:
            book.execute("DROP TRIGGER attempt_fixed")
            book.execute(
                "UPDATE attempt SET at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?)", (f"-{seconds_ago} seconds",)
            )
        account = emulator.account(KEY)

        def take_late():
            account.credits -= 1

        if expected == "lost":
            asyncio.get_running_loop().call_later(0.3, take_late)
        async with asyncio.timeout(PATIENCE / 2):
            await run(client, tmp_path, patience=replace(IN_A_HURRY, confirm_delay=confirm_delay))
        assert statuses(tmp_path) == {expected: 1}


async def test_a_stop_does_not_wait_for_an_unchanged_balance(online, tmp_path):
    """What can't be believed yet is left to the next run."""
    events = Events()
    plan = FaultPlan(Fault("submit", "reset_before", times=1))
    async with online(faults=plan) as (emulator, client):
        patient = replace(IN_A_HURRY, confirm_delay=10 * PATIENCE)
        async with runner(client, tmp_path, on_event=events.append, patience=patient) as batch:
            await batch.add(["a cat"])
            running = asyncio.create_task(batch.run())
            await events.told("the balance is asked")
            batch.stop()
            assert (await asyncio.wait_for(running, PATIENCE)).rows(JobState.INTENT) == 1
        summary = await run(client, tmp_path)
        assert summary.all_stored
        assert emulator.ledger.charges == 1


async def test_an_account_that_others_spend_from_settles_nothing(online, tmp_path):
    """Even a difference that would fit proves nothing there."""
    plan = FaultPlan(Fault("submit", "reset_after", times=1, after=3))
    async with online(limit=1, faults=plan, latency=0.01) as (emulator, client):
        account = emulator.account("nb_test")

        def somebody_else(event):
            if event.state is JobState.STORED:
                account.credits -= 1

        async with runner(client, tmp_path, on_event=somebody_else) as batch:
            await batch.add(f"cat {number}" for number in range(6))
            await batch.run()
        assert statuses(tmp_path) == {"stored": 5, "uncertain": 1}
        assert emulator.ledger.charges == 6


async def test_a_balance_that_fits_nothing_leaves_it_uncertain(online, tmp_path):
    """Somebody spends in the very moment of doubt. It is not sent again, nor judged again by a later balance."""
    plan = FaultPlan(Fault("submit", "reset_after", times=1))
    async with online(faults=plan) as (emulator, client):
        account = emulator.account("nb_test")

        def somebody_else(event):
            if event.state is JobState.INTENT:
                account.credits -= 7

        await run(client, tmp_path, 2, on_event=somebody_else)
        assert statuses(tmp_path) == {"stored": 1, "uncertain": 1}
        account.credits += 8  # as it would be, had it not been taken
        await run(client, tmp_path)
        account.credits -= 1  # as if it had been taken just now
        await run(client, tmp_path)
        assert statuses(tmp_path) == {"stored": 1, "uncertain": 1}
        assert emulator.ledger.charges == 2
        await run(client, tmp_path, uncertain="retry")
        assert statuses(tmp_path) == {"stored": 2}
        assert emulator.ledger.charges == 3


async def test_retry_sends_uncertain_rows_again_in_the_same_run(online, tmp_path):
    """And not for ever: an attempt may be paid each time."""
    plan = FaultPlan(Fault("submit", "reset_after"))
    async with online(faults=plan) as (emulator, client):
        account = emulator.account("nb_test")

        def somebody_else(event):
            if event.state is JobState.INTENT:
                account.credits -= 7

        await run(client, tmp_path, 1, uncertain="retry", on_event=somebody_else)
        assert emulator.ledger.charges == 3
        assert statuses(tmp_path) == {"uncertain": 1}


async def test_a_retried_doubt_stays_in_the_budget(online, tmp_path):
    """What may have been paid counts, however often the row is sent again."""
    plan = FaultPlan(Fault("submit", "reset_after", times=1))
    async with online(faults=plan) as (emulator, client):
        account = emulator.account("nb_test")

        def somebody_else(event):
            if event.state is JobState.INTENT:
                account.credits -= 7

        await run(client, tmp_path, 2, on_event=somebody_else, max_credits=2)
        summary = await run(client, tmp_path, uncertain="retry", max_credits=2)
        assert isinstance(summary.stopped_by, BudgetExceededError)
        assert emulator.ledger.charges == 2
        assert statuses(tmp_path) == {"stored": 1, "uncertain": 1}
        assert not (await run(client, tmp_path, max_credits=3)).all_stored  # nobody asked for it to be sent again
        assert emulator.ledger.charges == 2
        summary = await run(client, tmp_path, uncertain="retry", max_credits=3)
        assert summary.all_stored
        assert summary.doubtful_credits == 1


async def test_a_refused_retry_leaves_the_doubt_as_it_was(online, tmp_path):
    """Asked to send it again, turned away by the account: the manifest still says that it may be paid."""
    plan = FaultPlan(Fault("submit", "reset_after", times=1))
    async with online(faults=plan) as (emulator, client):
        account = emulator.account("nb_test")

        def somebody_else(event):
            if event.state is JobState.INTENT:
                account.credits -= 7

        await run(client, tmp_path, 1, on_event=somebody_else)
        assert statuses(tmp_path) == {"uncertain": 1}
        account.credits = 0
        summary = await run(client, tmp_path, uncertain="retry")
        assert isinstance(summary.stopped_by, InsufficientCreditsError)
        assert statuses(tmp_path) == {"uncertain": 1}
        account.credits = 100
        await run(client, tmp_path)
        assert emulator.ledger.charges == 1


async def test_a_retry_that_a_crash_cut_off_leaves_the_doubt_as_it_was(online, tmp_path):
    """The balance clears the second attempt, not the first: nobody asked this run to send it a third time."""
    async with online() as (emulator, client):
        async with Journal.open(tmp_path) as journal:
            await journal.add_rows([Row(0, 1, None, GenerateRequest(prompt="a cat"), {})])
            await journal.intend(0, 1)
            await journal.ended(0, JobState.UNCERTAIN, "who knows")
            await journal.intend_again(0, 1)
            await journal.set_balance(emulator.account("nb_test").credits)
        await run(client, tmp_path)
        assert statuses(tmp_path) == {"uncertain": 1}
        assert emulator.ledger.charges == 0


@pytest.fixture
def no_cool_down(monkeypatch):
    """A lost answer makes the client wait, longer each time; not here."""
    monkeypatch.setattr("nanobanana_async._cooldown.PAUSES", Backoff(initial_delay=0.001, max_delay=0.001))


async def test_a_row_that_the_service_always_drops_fails_by_itself(online, tmp_path, no_cool_down):
    """The others are taken, so it is the row's fault; it cost nothing."""
    async with online(limit=1, faults=FaultPlan(Fault("submit", "error_500", prompt="cat 0"))) as (emulator, client):
        summary = await run(client, tmp_path, 3)
        assert summary.stopped_by is None
        assert statuses(tmp_path) == {"failed": 1, "stored": 2}
        assert emulator.ledger.charges == 2


async def test_a_service_that_drops_everything_stops_the_batch(online, tmp_path, no_cool_down):
    """It is asked a few times, and told; the rows stay ready and nothing is paid."""
    async with online(limit=5, faults=FaultPlan(Fault("submit", "error_500"))) as (emulator, client):
        summary = await run(client, tmp_path, 3)
        assert isinstance(summary.stopped_by, BatchError)
        assert "takes nothing" in str(summary.stopped_by)
        assert statuses(tmp_path) == {"pending": 3}
        assert emulator.ledger.charges == 0


async def test_a_judgement_that_was_interrupted_is_made_at_the_next_start(online, tmp_path):
    """The run is left while the balance can't be read: the row is still an intent, and judged next time."""
    events = Events()
    plan = FaultPlan(Fault("submit", "reset_after", times=1), Fault("credits", "stall", after=1))
    async with online(faults=plan) as (emulator, client):
        async with runner(client, tmp_path, on_event=events.append) as batch:
            await batch.add(["a cat"])
            running = asyncio.create_task(batch.run())
            await asyncio.wait_for(events.told("an answer was lost"), PATIENCE)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        emulator.faults = FaultPlan()
        await run(client, tmp_path)
        assert statuses(tmp_path) == {"lost": 1}
        assert emulator.ledger.charges == 1


@pytest.mark.parametrize("kind", ["error_500", "garbage_200", "html_wall"])
async def test_a_balance_that_can_not_be_read_ends_no_row(online, tmp_path, kind):
    """The batch stops, the row stays in doubt, and the next start judges it."""
    plan = FaultPlan(Fault("submit", "reset_after", times=1), Fault("credits", kind, after=1))
    patience = Patience(confirm_delay=0.01, network_interval=0.001)
    async with online(faults=plan, client={"retry": RetryPolicy(max_attempts=1)}) as (emulator, client):
        summary = await run(client, tmp_path, 2, patience=patience)
        assert summary.stopped_by is not None
        assert summary.rows(JobState.INTENT) == 1
        emulator.faults = FaultPlan()
        await run(client, tmp_path)
        assert statuses(tmp_path) == {"stored": 1, "lost": 1}
        assert emulator.ledger.charges == told(tmp_path) == 2


async def test_a_wall_before_one_prompt_leaves_that_row_for_the_next_run(online, tmp_path):
    """A firewall may dislike it, or have a bad minute: the others are made, and nothing is written off."""
    plan = FaultPlan(Fault("submit", "html_wall", prompt="cat 2"))
    async with online(faults=plan) as (emulator, client):
        summary = await run(client, tmp_path, 5)
        assert isinstance(summary.stopped_by, BlockedError)
        assert statuses(tmp_path) == {"stored": 4, "pending": 1}
        emulator.faults = FaultPlan()
        summary = await run(client, tmp_path)
        assert (summary.stopped_by, summary.all_stored) == (None, True)
        assert emulator.ledger.charges == told(tmp_path) == 5


async def test_an_answer_that_others_overtook_is_recorded_when_it_comes(online, tmp_path):
    """A POST that hangs holds nobody up for long, and loses nothing."""
    plan = FaultPlan(Fault("submit", "stall", times=1, stall_seconds=0.4))
    async with online(limit=3, faults=plan) as (emulator, client):
        patience = Patience(confirm_delay=0.01, network_interval=0.02, answer_timeout=0.05)
        summary = await run(client, tmp_path, 6, patience=patience)
        assert summary.all_stored
        assert emulator.ledger.charges == 6


async def test_an_error_that_tells_the_id_is_no_doubt(online, tmp_path):
    """A 500 that names the generation: it is followed like any other."""
    async with (
        online() as (emulator, _),
        odd_gateway(emulator.url) as url,
        Client(KEY, base_url=url, poll=0.01) as client,
    ):
        summary = await run(client, tmp_path, 2)
        assert summary.all_stored
        assert emulator.ledger.charges == summary.credits_used == 2


@asynccontextmanager
async def odd_gateway(url, *, sends=bytes, answers=bytes, status=500):
    """Forwards everything, and changes what is posted and what is answered to that."""
    async with ClientSession() as session:

        async def forward(request):
            target = url.removesuffix("/api/v1") + str(request.rel_url)
            headers = {"Authorization": request.headers.get("Authorization", "")}
            body, posts = await request.read(), request.method == "POST"
            data = sends(body) if posts else body
            async with session.request(request.method, target, data=data, headers=headers) as answer:
                told = await answer.read()
                return web.Response(
                    body=answers(told) if posts else told,
                    status=status if posts else answer.status,
                    content_type="application/json",
                )

        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", forward)])
        gateway = web.AppRunner(app)
        await gateway.setup()
        await web.TCPSite(gateway, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{gateway.addresses[0][1]}/api/v1"
        await gateway.cleanup()


async def test_links_without_an_id_are_recorded_before_anything_is_fetched(online, tmp_path):
    """Nothing else leads to them, should the process die."""

    def without_id(body):
        answer = json.loads(body)
        return json.dumps({name: value for name, value in answer.items() if name != "generationId"}).encode()

    stalled = Watched(Fault("image", "stall", times=1))
    async with (
        online(faults=stalled) as (emulator, _),
        odd_gateway(
            emulator.url,
            sends=lambda body: json.dumps({**json.loads(body), "mode": "sync"}).encode(),
            answers=without_id,
            status=200,
        ) as url,
        Client(KEY, base_url=url) as client,
        runner(client, tmp_path) as batch,
    ):
        await batch.add(["a cat"])
        running = asyncio.create_task(batch.run())
        await asyncio.wait_for(stalled.struck.wait(), PATIENCE)
        [row] = Journal.read(tmp_path)
        assert (row.status, row.generation_id, len(row.urls)) == ("completed", None, 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_submission_that_was_overtaken_is_judged_alone(online, tmp_path):
    """The others pass a POST that hangs; its judgement waits until none of theirs is on its way."""
    plan = FaultPlan(Fault("submit", "stall", times=2, after=1))
    async with online(limit=4, faults=plan, client=IMPATIENT) as (emulator, client):
        patience = Patience(confirm_delay=0.01, network_interval=0.02, answer_timeout=0.05)
        summary = await run(client, tmp_path, 12, patience=patience)
        assert statuses(tmp_path) == {"stored": 10, "lost": 2}
        assert emulator.ledger.charges == told(tmp_path) == summary.credits_used == 12


# ---- money that ends


@pytest.mark.parametrize("limit", [1, 8])
async def test_the_budget_holds_against_a_burst(online, tmp_path, limit):
    """Five credits for twenty rows, all slots free at once: five are spent."""
    async with online(limit=limit) as (emulator, client):
        summary = await run(client, tmp_path, 20, max_credits=5)
        assert isinstance(summary.stopped_by, BudgetExceededError)
        assert emulator.ledger.credits_charged == 5
        assert statuses(tmp_path) == {"stored": 5, "pending": 15}
        again = await run(client, tmp_path, max_credits=5)
        assert emulator.ledger.credits_charged == 5
        assert again.credits_used == 0
        assert (await run(client, tmp_path, max_credits=20)).all_stored


async def test_the_budget_counts_what_the_service_takes(online, tmp_path):
    """It clamps the quantity; the difference is free for other rows."""
    async with online(limit=3) as (emulator, client):
        async with runner(client, tmp_path, max_credits=9) as batch:
            await batch.add(GenerateRequest(prompt=f"cat {number}", quantity=6) for number in range(3))
            summary = await batch.run()
        assert emulator.ledger.credits_charged == 8
        assert isinstance(summary.stopped_by, BudgetExceededError)


async def test_lost_answers_count_in_the_budget(online, tmp_path):
    """What was lost was paid."""
    async with online(limit=2, faults=FaultPlan(Fault("submit", "reset_after", times=3))) as (emulator, client):
        await run(client, tmp_path, 10, max_credits=5)
        assert emulator.ledger.credits_charged == 5
        assert statuses(tmp_path) == {"stored": 2, "lost": 3, "pending": 5}


async def test_an_empty_account_ends_cleanly_and_goes_on_after_a_recharge(online, tmp_path):
    """402 in the middle: what runs is brought home, the rest waits."""
    async with online(limit=4, credits=7) as (emulator, client):
        summary = await run(client, tmp_path, 12)
        assert isinstance(summary.stopped_by, InsufficientCreditsError)
        assert statuses(tmp_path) == {"stored": 7, "pending": 5}
        emulator.account("nb_test").credits = 100
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 12


async def test_the_same_runner_goes_on_after_a_recharge(online, tmp_path):
    """An app need not open it anew."""
    async with online(limit=4, credits=3) as (emulator, client), runner(client, tmp_path) as batch:
        await batch.add(f"cat {number}" for number in range(6))
        assert isinstance((await batch.run()).stopped_by, InsufficientCreditsError)
        emulator.account("nb_test").credits = 10
        summary = await batch.run()
        assert summary.all_stored
        assert summary.credits_used == 3


async def test_a_wrong_key_halts_at_once(online, tmp_path):
    """Nothing is sent; the rows wait."""
    async with online(keys=["nb_somebody"]) as (emulator, client):
        summary = await run(client, tmp_path, 5)
        assert isinstance(summary.stopped_by, AuthenticationError)
        assert emulator.ledger.requests["POST /generate"] == 0
        assert statuses(tmp_path) == {"pending": 5}


async def test_access_that_is_taken_away_halts_and_loses_nothing(online, tmp_path):
    """403 while generations run: they are picked up when access is back."""
    async with online(limit=3, duration=float("inf")) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(f"cat {number}" for number in range(9))
            running = asyncio.create_task(batch.run())
            await emulator.until(lambda: emulator.ledger.active == 3)
            emulator.account("nb_test").access = False
            summary = await running
        assert isinstance(summary.stopped_by, PermissionDeniedError)
        emulator.account("nb_test").access = True
        emulator.finish()
        emulator.duration = 0.01
        assert (await run(client, tmp_path)).all_stored
        assert emulator.ledger.charges == 9


async def test_a_rejected_submission_lets_the_next_one_through(online, tmp_path):
    """Charged, with an id or without: its turn ends, and the balance is still understood afterwards."""
    plan = FaultPlan(Fault("submit", "reset_before", times=1, after=4))
    async with online(limit=1, faults=plan) as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(["an [unsafe] cat", "an [unsafe] dog", "a cat", "a dog", "a bird", "a fish"])
            await batch.run()
        assert statuses(tmp_path) == {"rejected": 2, "stored": 4}
        assert emulator.ledger.charges == told(tmp_path) == 6
