"""Each way to be refused, told in the documented words."""

from __future__ import annotations

import math
from typing import Any

import aiohttp
import pytest
from calling import Open

CAT = {"prompt": "a cat"}


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": 7},
        {"prompt": None},
        CAT | {"mode": "later"},
        CAT | {"mode": 1},
        CAT | {"selectedModel": "no-such-model"},
        CAT | {"aspectRatio": "2:1"},
        CAT | {"quantity": "two"},
        CAT | {"quantity": True},
        CAT | {"referenceImageUrls": "https://example.com/a.png"},
        CAT | {"referenceImageUrls": ["file:///etc/hosts"]},
        CAT | {"referenceImageUrls": ["https://example.com/a.png"] * 10},
        CAT | {"selectedModel": "text-only", "referenceImageUrls": ["https://example.com/a.png"]},
    ],
)
async def test_bad_parameters_get_a_400_and_cost_nothing(calling: Open, body: dict[str, Any]) -> None:
    """No charge without a valid request."""
    async with calling() as caller:
        status, told = await caller.post(**body)
        assert status == 400
        assert isinstance(told["error"], str)
        assert caller.emulator.ledger.charges == 0


async def test_a_body_that_is_no_json_object_gets_a_400(calling: Open) -> None:
    """Neither broken JSON nor a list."""
    async with calling() as caller:
        for data in (b"{", b"[]", b"\xff"):
            async with caller.session.post(f"{caller.emulator.url}/generate", data=data) as response:
                assert response.status == 400


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer sk_123", "Basic nb_test", "nb_test"])
async def test_no_valid_key_gets_a_401(calling: Open, header: str | None) -> None:
    """Only `Bearer nb_...` will do."""
    headers = {"Authorization": header} if header is not None else {}
    async with (
        calling() as caller,
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{caller.emulator.url}/credits") as response,
    ):
        assert response.status == 401


async def test_only_the_keys_given_are_known(calling: Open) -> None:
    """With `keys`, no other key is an account."""
    async with calling(key="nb_other", keys=["nb_test"]) as caller:
        assert (await caller.get("credits"))[0] == 401


async def test_too_few_credits_get_a_402(calling: Open) -> None:
    """The balance must cover the whole cost."""
    async with calling(credits=1) as caller:
        assert (await caller.post(quantity=2))[0] == 402
        assert caller.emulator.account("nb_test").credits == 1


async def test_access_switched_off_gets_a_403(calling: Open) -> None:
    """API access is a property of the account, and can change while it runs."""
    async with calling() as caller:
        caller.emulator.account("nb_test").access = False
        assert (await caller.post())[0] == 403


async def test_a_large_body_gets_a_413(calling: Open) -> None:
    """In JSON, as every refusal of the API."""
    async with calling(max_body=1000) as caller:
        assert await caller.post("x" * 2000) == (413, {"error": "Request body too large"})


async def test_an_unknown_id_gets_a_404(calling: Open) -> None:
    """As does no id at all, and the id of another account."""
    async with calling() as caller:
        _, told = await caller.post()
        assert (await caller.get("generate", id="clx0"))[0] == 404
        assert (await caller.get("generate"))[0] == 404
        other = {"Authorization": "Bearer nb_other"}
        url = f"{caller.emulator.url}/generate?id={told['generationId']}"
        async with caller.session.get(url, headers=other) as response:
            assert response.status == 404


@pytest.mark.parametrize(
    ("asked", "images", "cost"),
    [
        ({"quantity": 0}, 1, 1),
        ({"quantity": 9}, 4, 4),
        ({"quantity": 9, "selectedModel": "gpt-image-2-2k"}, 1, 4),
        ({"referenceImageUrls": ["https://example.com/a.png"]}, 1, 1),
        ({"referenceImageUrls": ["https://example.com/a.png"] * 3, "quantity": 2}, 2, 6),
    ],
)
async def test_the_cost_is_quantity_times_model_and_additional_references(
    calling: Open, asked: dict[str, Any], images: int, cost: int
) -> None:
    """The quantity is clamped, and the first reference is included."""
    async with calling() as caller:
        _, told = await caller.post(mode="sync", **asked)
        assert len(told["imageUrls"]) == images
        assert (told["creditsUsed"], told["remainingCredits"]) == (cost, 1000 - cost)


async def test_an_unsafe_prompt_is_warned_of_and_charged(calling: Open) -> None:
    """A 200 without success, in every mode at once; its record is failed."""
    async with calling() as caller:
        for mode in ("sync", "async"):
            status, told = await caller.post("something [unsafe]", mode=mode)
            assert (status, told["success"], told["warning"], told["creditsUsed"]) == (200, False, True, 1)
        record = (await caller.get("generate", id=told["generationId"]))[1]["data"]
        assert (record["processingStatus"], record["errorMessage"]) == ("failed", "Content safety check failed")


async def test_a_failed_generation_is_not_refunded(calling: Open) -> None:
    """The credits are gone, and the record says why."""
    async with calling() as caller:
        _, told = await caller.post("this will [fail]")
        await caller.emulator.idle()
        record = (await caller.get("generate", id=told["generationId"]))[1]["data"]
        assert (record["processingStatus"], record["outputImageUrls"]) == ("failed", None)
        assert record["errorMessage"]
        assert (await caller.post("this too will [fail]", mode="sync"))[0] == 500
        assert caller.emulator.account("nb_test").credits == 998


async def test_a_sync_call_can_be_answered_like_an_async_one(calling: Open) -> None:
    """As seen on the live service: then the client polls."""
    async with calling(sync_as_async=True, duration=math.inf) as caller:
        _, told = await caller.post(mode="sync")
        assert told["async"] is True
        assert caller.emulator.ledger.active == 1


async def test_a_record_can_carry_a_single_url(calling: Open) -> None:
    """`outputImageUrl` in place of the list."""
    async with calling(single_url=True) as caller:
        _, told = await caller.post()
        await caller.emulator.idle()
        record = (await caller.get("generate", id=told["generationId"]))[1]["data"]
        assert record["outputImageUrl"].startswith(caller.emulator.image_url)
        assert "outputImageUrls" not in record
