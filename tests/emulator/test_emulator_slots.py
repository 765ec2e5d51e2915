"""What holds a slot, who is refused, and what it costs: nothing."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from calling import Open

ENDLESS: dict[str, Any] = {"duration": math.inf}
BUSY = {
    "error": "Server is busy, too many concurrent tasks. Please retry later.",
    "type": "server_busy",
    "activeTasks": 1,
}


async def test_a_running_generation_holds_its_slot_until_it_ends(calling: Open) -> None:
    """Generation scope: from the POST to the end, whatever is open."""
    async with calling(limit=1, **ENDLESS) as caller:
        assert (await caller.post())[0] == 200
        status, told = await caller.post()
        assert (status, told["type"], told["limit"], told["active"]) == (429, "concurrency_limit", 1, 1)
        caller.emulator.finish()
        assert (await caller.post())[0] == 200


async def test_a_429_costs_nothing(calling: Open) -> None:
    """The slot is looked at before the credits."""
    async with calling(limit=0) as caller:
        assert (await caller.post())[0] == 429
        ledger = caller.emulator.ledger
        assert (ledger.charges, ledger.refusals[429], len(ledger.entries)) == (0, 1, 0)
        assert caller.emulator.account("nb_test").credits == 1000


async def test_polls_need_no_slot_in_generation_scope(calling: Open) -> None:
    """A full account can still look."""
    async with calling(limit=1, **ENDLESS) as caller:
        _, told = await caller.post()
        assert (await caller.get("generate", id=told["generationId"]))[0] == 200


async def test_request_scope_frees_the_slot_of_an_async_post_at_once(calling: Open) -> None:
    """Only open requests count; the generations are bounded by the server's capacity."""
    async with calling(limit=1, scope="request", **ENDLESS) as caller:
        assert [(await caller.post())[0] for _ in range(5)] == [200] * 5
        assert caller.emulator.ledger.active == 5


async def test_request_scope_refuses_even_a_poll_while_a_request_is_open(calling: Open) -> None:
    """A sync call holds the only slot; a poll beside it meets the 429."""
    async with calling(limit=1, scope="request", **ENDLESS) as caller:
        sync = asyncio.create_task(caller.post(mode="sync"))
        await caller.emulator.until(lambda: caller.emulator.ledger.active == 1)
        running = caller.emulator.ledger.entries[0].generation_id
        status, told = await caller.get("generate", id=running)
        assert (status, told["active"]) == (429, 1)
        caller.emulator.finish()
        assert (await sync)[0] == 200
        assert (await caller.get("generate", id=running))[0] == 200


async def test_the_limit_can_change_while_it_runs(calling: Open) -> None:
    """As the vendor does, without a word."""
    async with calling(limit=1, **ENDLESS) as caller:
        await caller.post()
        caller.emulator.account("nb_test").limit = 2
        assert (await caller.post())[0] == 200
        caller.emulator.account("nb_test").limit = 1
        assert (await caller.post())[1]["active"] == 2


async def test_keys_of_one_account_share_its_slots_and_credits(calling: Open) -> None:
    """The limit is the account's."""
    async with calling(key="nb_second", limit=1, keys=["nb_first"], **ENDLESS) as caller:
        caller.emulator.account("nb_first").add_key("nb_second")
        assert (await caller.post())[0] == 200
        async with caller.session.post(
            f"{caller.emulator.url}/generate",
            json={"prompt": "a cat", "mode": "async"},
            headers={"Authorization": "Bearer nb_first"},
        ) as response:
            assert response.status == 429
        assert caller.emulator.account("nb_first").credits == 999


async def test_a_sixth_key_is_refused(calling: Open) -> None:
    """Five keys an account; none twice."""
    async with calling() as caller:
        account = caller.emulator.account("nb_test")
        for number in range(2, 6):
            account.add_key(f"nb_{number}")
        with pytest.raises(ValueError, match="5 keys"):
            account.add_key("nb_6")
        with pytest.raises(ValueError, match="in use"):
            caller.emulator.account("nb_other").add_key("nb_2")


async def test_a_busy_server_refunds(calling: Open) -> None:
    """Over the capacity an async POST gets the 503, and the ledger shows the way there and back."""
    async with calling(limit=None, capacity=1, **ENDLESS) as caller:
        await caller.post("first")
        assert await caller.post("second") == (503, BUSY)
        ledger = caller.emulator.ledger
        assert [entry.status for entry in ledger.entries] == ["charged", "refunded"]
        assert (ledger.charged_prompts(), ledger.credits_charged, ledger.credits_refunded) == (["first"], 1, 1)
        assert caller.emulator.account("nb_test").credits == 999


@pytest.mark.parametrize(
    ("announce", "on_success", "on_refusal"),
    [("always", True, True), ("refusals", False, True), ("never", False, False)],
)
async def test_the_limit_is_announced_as_told_to(
    calling: Open, announce: str, on_success: bool, on_refusal: bool
) -> None:
    """The headers on every answer, on refusals only, or nowhere; then the 429 is stripped of its numbers too."""
    async with calling(limit=1, announce=announce, retry_after=2.0, **ENDLESS) as caller:
        url, body = f"{caller.emulator.url}/generate", {"prompt": "a cat", "mode": "async"}
        async with caller.session.post(url, json=body) as response:
            assert ("X-RateLimit-Limit" in response.headers) is on_success
        async with caller.session.post(url, json=body) as response:
            told = await response.json()
            assert ("X-RateLimit-Active" in response.headers) is on_refusal
            assert ("Retry-After" in response.headers) is on_refusal
            assert ("limit" in told) is on_refusal


async def test_a_generation_runs_on_when_its_client_leaves(calling: Open) -> None:
    """The request is closed, the slot still held, and the result readable by id."""
    async with calling(limit=1, **ENDLESS) as caller:
        ledger = caller.emulator.ledger
        sync = asyncio.create_task(caller.post(mode="sync"))
        await caller.emulator.until(lambda: ledger.active == 1)
        sync.cancel()
        await caller.emulator.until(lambda: ledger.open_requests == 0)
        assert (await caller.post())[0] == 429
        caller.emulator.finish()
        record = (await caller.get("generate", id=ledger.entries[0].generation_id))[1]["data"]
        assert record["processingStatus"] == "completed"
