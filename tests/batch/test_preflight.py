"""What a batch is going to cost, told without spending or changing anything."""

from __future__ import annotations

import pytest
from running import run, runner, statuses

from nanobanana_async import (
    AuthenticationError,
    BudgetExceededError,
    GenerateRequest,
    InsufficientCreditsError,
)
from nanobanana_async.batch._budget import Prices
from nanobanana_async.batch._inputs import ModelCounts
from nanobanana_async.batch._preflight import Preflight
from nanobanana_async.emulator import Fault, FaultPlan

PRICES = Prices({"nano-banana": 1, "pro": 4})
COUNTS = {"pro": ModelCounts(rows=2, images=3, surcharge=1), "nano-banana": ModelCounts(rows=5, images=5)}


def preflight(**fields):
    return Preflight.of(COUNTS, PRICES, **{"balance": 100, **fields})


def test_sums():
    """Rows, images and credits, by model and in all; the time at the known limit."""
    found = preflight(limit=2)
    assert [(model.model, model.credits) for model in found.models] == [("nano-banana", 5), ("pro", 13)]
    assert (found.rows, found.images, found.credits) == (7, 8, 18)
    assert found.seconds == preflight(limit=None).seconds / 2
    assert not found.outlives_links
    assert found.shortfall() is None


def test_an_unknown_price_makes_the_sum_unknown():
    """And no shortfall can be told."""
    found = Preflight.of({"odd": ModelCounts(rows=1, images=1)}, PRICES, balance=0)
    assert found.credits is None
    assert found.shortfall() is None


def test_weeks_outlive_the_links():
    """At one slot, a hundred thousand images take longer than fifteen days."""
    assert Preflight.of({"pro": ModelCounts(rows=100_000, images=100_000)}, PRICES, balance=None).outlives_links


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"balance": 17}, InsufficientCreditsError, "costs 18 credits, but the account has 17"),
        ({"max_credits": 17}, BudgetExceededError, "more than --max-credits 17 allows"),
        ({"max_credits": 20, "spent": 3}, BudgetExceededError, "3 are spent already"),
    ],
)
def test_what_can_not_be_carried_is_refused(fields, error, message):
    """By the budget first, then by the balance."""
    shortfall = preflight(**fields).shortfall()
    assert isinstance(shortfall, error)
    assert message in str(shortfall)


# ---- of a batch


async def test_it_submits_nothing_and_changes_nothing(online, tmp_path):
    """Also where rows are to be tried again: a dry run must not queue them."""
    async with online() as (emulator, client):
        async with runner(client, tmp_path) as batch:
            await batch.add(["a [fail] cat", "a cat", GenerateRequest(prompt="a dog", model="nope")])
            await batch.run()
        async with runner(client, tmp_path, retry_failed=True) as batch:
            found = await batch.preflight()
        assert found.rows == 2
        assert found.spent == 2
        await run(client, tmp_path)
        assert emulator.ledger.charges == 2
        assert statuses(tmp_path) == {"failed": 2, "stored": 1}


async def test_rows_that_have_had_their_attempts_are_not_counted(online, tmp_path):
    """They would not be sent either."""
    async with online() as (_, client):
        for retry in (False, True, True):
            async with runner(client, tmp_path, retry_failed=retry) as batch:
                await batch.add(["a [fail] cat"])
                await batch.run()
        async with runner(client, tmp_path, retry_failed=True) as batch:
            assert (await batch.preflight()).rows == 0


async def test_uncertain_rows_count_twice_when_they_are_sent_again(online, tmp_path):
    """Once for what may have been paid, once for the next attempt."""
    async with online(faults=FaultPlan(Fault("submit", "reset_after", times=1))) as (emulator, client):
        account = emulator.account("nb_test")

        def somebody_else(event):
            if event.state is not None:
                account.credits -= 7

        await run(client, tmp_path, 1, on_event=somebody_else)
        async with runner(client, tmp_path, uncertain="retry") as batch:
            found = await batch.preflight()
        assert (found.rows, found.spent, found.credits) == (1, 1, 1)


async def test_the_limit_is_remembered(online, tmp_path):
    """A next process knows it before its first POST."""
    async with online(limit=3) as (_, client):
        await run(client, tmp_path, 1)
    async with online(limit=3) as (_, client), runner(client, tmp_path) as batch:
        assert (await batch.preflight()).limit == 3


async def test_a_wrong_key_is_told_before_anything_else(online, tmp_path):
    """Raised, since there is nothing to run."""
    async with online(keys=["nb_somebody"]) as (_, client), runner(client, tmp_path) as batch:
        await batch.add(["a cat"])
        with pytest.raises(AuthenticationError):
            await batch.preflight()
