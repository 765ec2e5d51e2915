"""Several accounts behind one client: every slot of each, no job lost with an account, and each its own numbers."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nanobanana_async import (
    Account,
    AccountLimiter,
    AuthenticationError,
    Backoff,
    Client,
    ConfigurationError,
    DownloadError,
    GenerateRequest,
    InsufficientCreditsError,
    Job,
    NotFoundError,
    PermissionDeniedError,
    RetryPolicy,
    ServerError,
)
from nanobanana_async._job import Destination
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

FAST = RetryPolicy(backoff=Backoff(initial_delay=0.005, max_delay=0.01))

pytestmark = pytest.mark.usefixtures("leaks_nothing")


@asynccontextmanager
async def two(**settings: Any) -> AsyncIterator[tuple[Emulator, Client]]:
    """Accounts `nb_one` and `nb_two` of one emulator, and a client of both."""
    accounts = [Account("nb_one", name="one"), Account("nb_two", name="two")]
    fast = {
        "duration": 0.015,
        "retry_after": 0.01,
        "image_size": 48,
        "image_format": "png",
        "keys": ["nb_one", "nb_two"],
    }
    async with (
        Emulator(**{**fast, **settings}) as emulator,
        Client(accounts=accounts, base_url=emulator.url, poll=0.01, retry=FAST) as client,
    ):
        yield emulator, client


async def generate_all(client: Client, count: int) -> None:
    await asyncio.gather(*(client.generate(f"cat {number}") for number in range(count)))


async def test_the_slots_of_all_accounts_are_used() -> None:
    """One with a limit of 1, one with 3: four run at once, and each account pays for its own."""
    async with two(limit=1, duration=0.06) as (emulator, client):
        emulator.account("nb_two").limit = 3
        await generate_all(client, 20)
        assert emulator.ledger.peak_active == 4
        assert emulator.ledger.charges == client.statistics().completed == 20
        assert client.statistics().limit == 4
        one, other = client.statistics().accounts
        assert (one.name, one.limit, other.name, other.limit) == ("one", 1, "two", 3)
        assert one.completed + other.completed == one.credits_used + other.credits_used == 20
        assert one.credits_used == 1000 - emulator.account("nb_one").credits > 0


async def test_a_generation_counts_for_its_account_whatever_becomes_of_its_images(tmp_path: Path) -> None:
    """Here its image is none: the job fails, and its account has generated and paid all the same."""
    async with two(faults=FaultPlan(Fault("image", "wrong_image"))) as (_, client):
        job = Job(GenerateRequest(prompt="a cat"), destination=Destination(tmp_path))
        await client.enqueue(job)
        with pytest.raises(DownloadError):
            await job.result()
        one, other = client.statistics().accounts
        assert one.completed + other.completed == one.credits_used + other.credits_used == 1


async def test_an_account_without_credits_hands_its_jobs_on() -> None:
    """It serves while it can; then the other one does, and nobody hears of it but the statistics."""
    async with two(limit=2) as (emulator, client):
        emulator.account("nb_one").credits = 3
        await generate_all(client, 15)
        assert len(emulator.ledger.charged_prompts()) == len(set(emulator.ledger.charged_prompts())) == 15
        one, other = client.statistics().accounts
        assert (one.credits_used, other.credits_used) == (3, 12)
        assert "credits" in (one.out_of_service or "").lower()
        assert other.out_of_service is None


async def test_an_account_without_access_hands_its_jobs_on() -> None:
    """403, and nothing is spent there."""
    async with two() as (emulator, client):
        emulator.account("nb_one").access = False
        await generate_all(client, 5)
        assert [account.credits_used for account in client.statistics().accounts] == [0, 5]
        assert await client.credits() == emulator.account("nb_two").credits


async def test_when_no_account_is_left_jobs_fail_as_a_single_ones_would() -> None:
    """Every job hears it, nothing is spent, and after a top-up the next one is taken."""
    async with two() as (emulator, client):
        for key in ("nb_one", "nb_two"):
            emulator.account(key).credits = 0
        outcomes = await asyncio.gather(*(client.generate(f"cat {n}") for n in range(6)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [InsufficientCreditsError] * 6
        emulator.account("nb_two").credits = 1
        await client.generate("after the top-up")
        assert emulator.ledger.charged_prompts() == ["after the top-up"]


async def test_a_rejected_key_gives_way_to_the_accounts_next() -> None:
    """They are keys of one account: one limit, one balance."""
    async with Emulator(limit=2, duration=0.015, keys=["nb_new"], image_size=48) as emulator:
        account = Account("nb_revoked", "nb_new", name="studio")
        async with Client(accounts=[account], base_url=emulator.url, poll=0.01) as client:
            with pytest.raises(AuthenticationError):
                await client.credits()
        async with Client(accounts=[account, "nb_unknown"], base_url=emulator.url, poll=0.01) as client:
            await generate_all(client, 8)
            studio, other = client.statistics().accounts
            assert (studio.completed, studio.out_of_service, other.completed) == (8, None, 0)
            assert (other.name, studio.limit, emulator.ledger.peak_active) == ("account 2", 2, 2)


async def test_a_generation_is_found_by_its_id_whosever_it_is() -> None:
    """Each key sees its own account's only."""
    async with two() as (_, client):
        first, second = await asyncio.gather(client.generate("a cat"), client.generate("a dog"))
        assert {first.prompt, second.prompt} == {"a cat", "a dog"}
        for generation in (first, second):
            assert (await client.get(generation.id)).prompt == generation.prompt
            assert (await client.wait(generation.id)).prompt == generation.prompt
        with pytest.raises(NotFoundError):
            await client.get("nobody's")


async def test_an_id_is_not_unknown_while_an_account_can_not_be_asked() -> None:
    """One knows nothing of it, the other is in trouble: it may be there, and whoever pays again pays twice."""
    async with two() as (emulator, client):
        for _ in range(2):
            generation = await client.generate("a cat")
            if emulator.ledger.find(generation.id).account == "nb_two":  # type: ignore[union-attr]  # it is there
                break
        emulator.faults = FaultPlan(Fault("poll", "error_500", after=1))
        with pytest.raises(ServerError):
            await client.get(generation.id)
        emulator.faults = FaultPlan()
        assert (await client.get(generation.id)).id == generation.id


async def test_the_balance_is_the_sum() -> None:
    """And no submission's remainder is taken for it."""
    async with two() as (_, client):
        await generate_all(client, 4)
        assert await client.credits() == 1996


async def test_what_runs_stays_with_its_account() -> None:
    """One that loses its access afterwards does not lose what is paid: it is not sent to the other again."""
    async with two(duration=math.inf) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(2)]
        await emulator.until(lambda: emulator.ledger.active == 2)
        emulator.account("nb_one").access = False
        results = [asyncio.create_task(job.result()) for job in jobs]
        [refused], [goes_on] = await asyncio.wait(results, return_when=asyncio.FIRST_COMPLETED)
        assert isinstance(refused.exception(), PermissionDeniedError)
        assert refused.exception().generation_id
        emulator.finish()
        assert (await goes_on).image_urls
        assert emulator.ledger.charges == 2


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_loop_that_cancels_every_task_takes_no_slot_along(turns: int) -> None:
    """As `asyncio.run` does at Ctrl-C: a limiter may outlive its loop, and what is lost then is lost for good."""
    limiters = [AccountLimiter(), AccountLimiter()]
    accounts = [Account(f"nb_{number}", limiter=limiter) for number, limiter in enumerate(limiters)]
    ours = asyncio.all_tasks()
    async with Client(accounts=accounts, base_url="http://127.0.0.1:9") as client:
        waiting = asyncio.create_task(client.generate("a cat"))
        for _ in range(turns):
            await asyncio.sleep(0)
        others = asyncio.all_tasks() - ours
        for task in others:
            task.cancel()
        await asyncio.wait(others)
    assert waiting.cancelled()
    assert [limiter.statistics().submitting for limiter in limiters] == [0, 0]


async def test_whoever_stops_waiting_leaves_no_slot_behind() -> None:
    """Cancelled in the queue while both accounts are full."""
    async with two(duration=math.inf) as (emulator, client):
        jobs = [await client.submit(f"cat {number}") for number in range(2)]
        await emulator.until(lambda: emulator.ledger.active == 2)
        waiting = [await client.submit(f"late {number}") for number in range(5)]
        for job in waiting:
            job.cancel()
        emulator.finish()
        await asyncio.gather(*(job.result() for job in jobs))
        await client.idle()
        now = client.statistics()
        assert (now.queued, now.running, now.submitting, now.completed, now.cancelled) == (0, 0, 0, 2, 5)
        assert emulator.ledger.charges == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Client(accounts=[]), "at least one"),
        (lambda: Client(accounts=["nb_one", Account("nb_one")]), "twice"),
        (lambda: Client(accounts=[Account("nb_one", name="a"), Account("nb_two", name="a")]), "same name"),
        (lambda: Client("nb_one", accounts=["nb_two"]), "each Account"),
        (lambda: Client(accounts=["nb_two"], max_concurrency=2), "each Account"),
        (lambda: Account(), "1 to 5"),
        (lambda: Account(*(f"nb_{n}" for n in range(6))), "1 to 5"),
        (lambda: Account("nb_one", limiter=AccountLimiter(), max_concurrency=1), "limiter"),
        (lambda: Account("nb_one", max_concurrency=0), "at least 1"),
        (lambda: Account("nb one"), "characters"),
    ],
)
def test_what_cannot_work_is_refused_at_once(make: Any, message: str) -> None:
    """Before any request, and without repeating a key."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        make()
    assert "nb_one" not in str(caught.value)


def test_an_account_keeps_its_keys_to_itself() -> None:
    """They are in no repr and no pickle."""
    account = Account("nb_secret", "nb_secret2")
    assert "secret" not in repr(account)
    with pytest.raises(TypeError):
        pickle.dumps(account)
