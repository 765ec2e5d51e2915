"""The account's slots, as the service sees them: all used, none exceeded, whatever it announces."""

import asyncio
import math

import pytest
from patience import PATIENCE

from nanobanana_async import AccountLimiter, Client
from nanobanana_async.emulator import Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")


PATIENT = {"limiter": None}  # the client's own limiter, whose cool-downs are real


async def generate_all(client, count, **fields):
    return await asyncio.gather(*(client.generate(f"cat {number}", **fields) for number in range(count)))


@pytest.mark.parametrize(("announce", "refusals"), [("always", {}), ("refusals", {429: 1})])
async def test_an_announced_limit_is_used_in_full_and_never_exceeded(online, announce, refusals):
    """40 jobs at a limit of 3: 3 at once, never a fourth, one credit each, no 429 once the limit is learned."""
    told = {"limiter": AccountLimiter(scope="generation")}  # nothing to ask
    async with online(limit=3, announce=announce, credits=40, duration=0.05, client=told) as (emulator, client):
        await generate_all(client, 40)
        assert emulator.ledger.peak_active == 3
        assert emulator.ledger.charges == emulator.ledger.credits_charged == client.statistics().credits_used == 40
        assert emulator.ledger.refusals == refusals
        assert client.statistics().limit == 3


@pytest.mark.parametrize("limit", [1, 5])
async def test_a_limit_that_nobody_announces_is_found_from_few_refusals(online, limit):
    """At most 6 refusals, and all of the slots are used."""
    async with online(limit=limit, announce="never", duration=0.02 * limit, client=PATIENT) as (emulator, client):
        await generate_all(client, 10 + 3 * limit)
        assert emulator.ledger.peak_active == limit
        assert emulator.ledger.refusals[429] <= 6
        assert emulator.ledger.charges == 10 + 3 * limit


async def test_a_map_fills_more_slots_than_it_holds_prompts_at_first(online):
    """Where no answer tells the limit, nothing but a refusal does: so it holds more prompts the more run."""
    async with (
        online(limit=40, announce="never", duration=math.inf, client=PATIENT) as (emulator, client),
        client.map(f"cat {number}" for number in range(80)) as outcomes,
    ):
        await emulator.until(lambda: emulator.ledger.active == 32)
        emulator.finish(emulator.ledger.charged()[0].generation_id)
        await anext(outcomes)
        await asyncio.wait_for(emulator.until(lambda: emulator.ledger.active == 40), PATIENCE)
        emulator.finish()


@pytest.mark.parametrize("announce", ["always", "never"])
async def test_slots_held_by_open_requests_only(online, announce):
    """The other reading of the limit: polls may meet a 429 as well, and no job is lost or paid twice."""
    async with online(scope="request", limit=2, announce=announce, latency=0.002) as (emulator, client):
        await generate_all(client, 20)
        assert emulator.ledger.charges == client.statistics().completed == 20
        assert client.statistics().credits_used == 20


async def test_request_scope_is_found_and_fills_the_server(online, caplog):
    """An announced limit of 1 bounds open requests only: all 8 places are used, and nearly nothing is refused."""
    caplog.set_level("INFO", "nanobanana_async")
    async with online(scope="request", limit=1, capacity=8, latency=0.002, duration=math.inf) as (emulator, client):
        all_made = asyncio.create_task(generate_all(client, 80))
        await emulator.until(lambda: emulator.ledger.active == 8)
        emulator.duration = 0.01
        emulator.finish()
        await all_made
        assert emulator.ledger.peak_active == 8
        assert emulator.ledger.refusals.total() <= 16  # 2 or 3, and more on a machine that does other things
        assert emulator.ledger.charges == 80
        assert client.statistics().scope == "request"
    told = [record.getMessage() for record in caplog.records if "what holds a slot" in record.getMessage()]
    assert len(told) == 1
    assert "an open request" in told[0]


async def test_request_scope_that_no_answer_shows_is_asked_for(online):
    """A limit of 1 and one active on every look fit both scopes: one submission more, with the slot full, tells."""
    ahead = 0.0
    limiter = AccountLimiter(clock=lambda: asyncio.get_running_loop().time() + ahead)
    fields = {
        "scope": "request",
        "limit": 1,
        "counts_itself": True,
        "duration": math.inf,
        "client": {"limiter": limiter},
    }
    async with online(**fields) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(4)]
        await emulator.until(lambda: emulator.ledger.requests["GET /generate"] >= 3)
        assert emulator.ledger.active == 1
        ahead = 2.0
        await emulator.until(lambda: emulator.ledger.active == 4)
        assert client.statistics().scope == "request"
        emulator.finish()
        await asyncio.gather(*(job.result() for job in jobs))
        assert emulator.ledger.refusals.total() <= 1
        assert emulator.ledger.charges == 4


async def test_request_scope_that_looks_make_likely_is_asked_for_at_once(online):
    """At a limit of 3, each look counting itself alone: nobody waits for the minute that such a question else waits."""
    fields = {"scope": "request", "limit": 3, "counts_itself": True, "duration": math.inf, "latency": 0.001}
    async with online(**fields) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(8)]
        await emulator.until(lambda: emulator.ledger.active == 8 and client.statistics().scope == "request")
        emulator.finish()
        await asyncio.gather(*(job.result() for job in jobs))
        assert emulator.ledger.refusals.total() <= 2  # a look may have been open beside the question
        assert emulator.ledger.charges == 8


async def test_generation_scope_at_a_limit_of_one_is_asked_for_once(online):
    """The question meets the only 429; no more follow, and every job is paid once."""
    ahead = 0.0
    limiter = AccountLimiter(clock=lambda: asyncio.get_running_loop().time() + ahead, uniform=lambda low, high: 0.0)
    async with online(limit=1, duration=math.inf, retry_after=None, client={"limiter": limiter}) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(4)]
        await emulator.until(lambda: emulator.ledger.requests["GET /generate"] >= 3)
        ahead = 2.0
        await emulator.until(lambda: client.statistics().refusals > 0)
        ahead = 600.0  # less than until a raise is asked for
        emulator.duration = 0.05
        emulator.finish()
        await asyncio.gather(*(job.result() for job in jobs))
        assert (limiter.statistics().scope, emulator.ledger.peak_active) == ("generation", 1)
        assert emulator.ledger.refusals == {429: 1}
        assert emulator.ledger.charges == 4


async def test_looks_of_request_scope_hold_no_generation_back(online):
    """Set by the user: no POST and no look ever meets a 429, however few may be open."""
    limiter = AccountLimiter(scope="request", uniform=lambda low, high: 0.05)
    fields = {"scope": "request", "limit": 1, "capacity": 6, "latency": 0.001, "client": {"limiter": limiter}}
    async with online(**fields) as (emulator, client):
        await generate_all(client, 30)
        assert emulator.ledger.refusals[429] == 0
        assert emulator.ledger.charges == 30
        now = limiter.statistics()
        assert (now.scope, now.open_requests, now.running) == ("request", 0, 0)


async def test_looks_without_a_slot_pass_the_gate_as_well(online):
    """Three `wait`s by id beside each other, at a limit of one open request: none is refused."""
    limiter = AccountLimiter(scope="request", uniform=lambda low, high: 0.05)
    fields = {"scope": "request", "limit": 1, "latency": 0.002, "duration": math.inf, "client": {"limiter": limiter}}
    async with online(**fields) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(3)]
        await emulator.until(lambda: emulator.ledger.active == 3)
        waits = [asyncio.create_task(client.wait(job.generation_id)) for job in jobs if job.generation_id]
        await asyncio.gather(*(client.get(job.generation_id) for job in jobs if job.generation_id))
        emulator.finish()
        await asyncio.gather(*waits, *(job.result() for job in jobs))
        assert emulator.ledger.refusals == {}


async def test_a_busy_server_bounds_what_runs(online):
    """503 is refunded, and backs off as a 429 does."""
    async with online(limit=None, capacity=4, duration=0.06, client=PATIENT) as (emulator, client):
        await generate_all(client, 20)
        assert emulator.ledger.peak_active == 4
        assert emulator.ledger.refusals[503] <= 6
        assert emulator.account("nb_test").credits == 1000 - 20


async def test_a_limit_raised_during_a_run_is_used(online):
    """The next answer's header tells it."""
    async with online(limit=1, duration=0.06) as (emulator, client):
        await client.generate("before")
        emulator.account("nb_test").limit = 4
        await generate_all(client, 16)
        assert emulator.ledger.peak_active == 4


async def test_a_limit_raised_silently_is_found_after_the_hold_off(online):
    """With every slot full and the hold-off over, one more is asked for; the answer yes asks on."""
    ahead = 0.0
    limiter = AccountLimiter(clock=lambda: asyncio.get_running_loop().time() + ahead)
    async with online(limit=2, announce="never", duration=0.06, client={"limiter": limiter}) as (emulator, client):
        await generate_all(client, 8)
        emulator.account("nb_test").limit = 5
        ahead = 3600.0
        await generate_all(client, 30)
        assert emulator.ledger.peak_active == 5


async def test_a_limit_lowered_during_a_run_is_kept(online):
    """What runs is left alone; nothing new goes out until there is room under the new limit."""
    async with online(limit=6, duration=math.inf) as (emulator, client):
        first = asyncio.create_task(generate_all(client, 12))
        await emulator.until(lambda: emulator.ledger.active == 6)
        emulator.account("nb_test").limit, emulator.duration = 2, 0.05
        emulator.finish()
        await emulator.until(lambda: emulator.ledger.active <= 2)
        emulator.ledger.peak_active = emulator.ledger.active
        await first
        assert emulator.ledger.peak_active <= 2
        assert emulator.ledger.charges == 12


async def test_two_clients_of_one_account_share_its_slots(online):
    """Neither knows of the other; both end, each prompt is paid once, few submissions are refused."""
    async with online(limit=3) as (emulator, client):
        async with Client("nb_test", base_url=emulator.url, poll=0.01) as other:
            await asyncio.gather(generate_all(client, 15), generate_all(other, 15))
        assert emulator.ledger.peak_active == 3
        assert emulator.ledger.charges == 30
        assert emulator.ledger.refusals[429] <= 12


async def test_two_clients_with_one_limiter_meet_no_refusal(online):
    """One account has one limiter, however many clients share it."""
    async with online(limit=3) as (emulator, client):
        await client.generate("learns the limit")
        shared = AccountLimiter()
        options = {"base_url": emulator.url, "poll": 0.01, "limiter": shared}
        async with Client("nb_test", **options) as one, Client("nb_test", **options) as two:
            await asyncio.gather(generate_all(one, 10), generate_all(two, 10))
        assert emulator.ledger.refusals == {}
        assert shared.statistics().running == shared.statistics().submitting == 0


async def test_max_concurrency_is_a_ceiling_below_the_limit(online):
    """The user's own bound holds, also in streams."""
    async with online(limit=5, client={"max_concurrency": 2}) as (emulator, client):
        await asyncio.gather(generate_all(client, 6), generate_all(client, 6, mode="sync"))
        assert emulator.ledger.peak_active == 2


@pytest.mark.parametrize("kind", ["refuse", "busy"])
async def test_a_refused_job_is_sent_again_and_paid_once(online, kind):
    """429 and 503 go back to the queue, uncharged."""
    plan = FaultPlan(Fault("submit", kind, times=1))
    async with online(limit=2, faults=plan) as (emulator, client):
        generation = await client.generate("a cat")
        assert emulator.ledger.charged_prompts() == ["a cat"]
        assert generation.credits_used == emulator.ledger.credits_charged == 1
        assert client.statistics().refusals == 1
