"""Requests are checked before anything is spent; generations are values that survive a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nanobanana_async import GenerateRequest, Generation, InvalidRequestError

# ---- requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"prompt": " \n"}, "prompt: the prompt is blank"),
        ({"quantity": 0}, "quantity: .*greater than or equal to 1.*got 0"),
        ({"quantity": 1.5}, "quantity: "),
        ({"quantity": True}, "quantity: True is no number of images"),
        ({"aspect_ratio": "wide"}, "aspect_ratio: 'wide' is no aspect ratio"),
        ({"aspect_ratio": "16:9\n"}, "aspect_ratio: "),
        ({"aspect_ratio": "0:1"}, "aspect_ratio: "),
        ({"model": ""}, "model: "),
        ({"seed": 7}, "seed: "),
    ],
)
def test_a_request_that_cannot_be_sent_names_the_field(fields: dict[str, Any], told: str) -> None:
    """Found before anything is spent, told on one line."""
    with pytest.raises(InvalidRequestError, match=told) as caught:
        GenerateRequest.of(**{"prompt": "a cat", **fields})
    assert "\n" not in str(caught.value).replace("16:9\n", "")


@pytest.mark.parametrize("prompt", [None, 7, b"a cat", ["a cat"], {"prompt": "a cat"}])
def test_a_prompt_is_text(prompt: Any) -> None:
    """Nothing else is turned into a prompt and paid for."""
    with pytest.raises(InvalidRequestError, match="prompt: "):
        GenerateRequest.of(prompt)


@pytest.mark.parametrize("ratio", ["default", "auto", "1:1", "16:9", "21:9", "100:1", None])
def test_ratios_are_left_to_the_server_to_refuse(ratio: str | None) -> None:
    """What it takes changes; only what is no ratio at all is refused here."""
    assert GenerateRequest(prompt="a cat", aspect_ratio=ratio).aspect_ratio == ratio


def test_a_request_is_taken_as_it_is() -> None:
    """Fields left at None change nothing."""
    request = GenerateRequest(prompt="a cat", quantity=2)
    assert GenerateRequest.of(request, model=None, quantity=None) is request


def test_fields_given_beside_a_request_win() -> None:
    """And are checked as well; the request itself stays as it was."""
    request = GenerateRequest(prompt="a cat", quantity=2, reference_images=["https://x.test/a.png"])
    changed = GenerateRequest.of(request, quantity=3)
    assert (changed.quantity, changed.reference_images, request.quantity) == (3, ("https://x.test/a.png",), 2)
    with pytest.raises(InvalidRequestError):
        GenerateRequest.of(request, quantity=-1)


@pytest.mark.parametrize(
    "image",
    ["https://x.test/a.png", b"\x89PNG", bytearray(b"\x89PNG"), memoryview(b"\x89PNG"), Path("a.png"), io.BytesIO],
)
def test_one_reference_needs_no_list(image: Any) -> None:
    """A single image, of any kind that is taken, is a list of one."""
    assert GenerateRequest(prompt="a cat", reference_images=image).reference_images == (image,)


def test_any_iterable_of_references_is_taken_once() -> None:
    """A generator is read here, so that a request can be sent more than once."""

    def images() -> Iterator[str]:
        yield from ("https://x.test/a.png", "https://x.test/b.png")

    assert len(GenerateRequest(prompt="a cat", reference_images=images()).reference_images) == 2
    assert GenerateRequest(prompt="a cat", reference_images=None).reference_images == ()


def test_a_request_is_a_value() -> None:
    """Equal ones are equal, none changes, and its repr does not show megabytes of images."""
    request = GenerateRequest(prompt="a cat", reference_images=[b"\x89PNG" * 1000])
    assert request == GenerateRequest(prompt="a cat", reference_images=[b"\x89PNG" * 1000])
    assert len(repr(request)) < 200
    with pytest.raises(ValidationError):
        request.prompt = "a dog"


# ---- generations --------------------------------------------------------------------------------------------


def generation(**facts: Any) -> Generation:
    return Generation(**{"id": "clx1", "prompt": "a cat", "model": "m", **facts})


def test_links_live_fifteen_days() -> None:
    """From the generation's creation on."""
    born = datetime(2026, 3, 1, tzinfo=UTC)
    assert generation(created_at=born).expires_at == born + timedelta(days=15)
    assert generation().expires_at is None


def test_a_date_at_the_end_of_time_has_no_expiry() -> None:
    """Neither its repr nor its JSON may fail for it."""
    last = generation(created_at=datetime(9999, 12, 31, tzinfo=UTC))
    assert last.expires_at is None
    assert "9999" in last.model_dump_json() + repr(last)


def test_a_generation_survives_its_json() -> None:
    """As a batch's journal keeps it."""
    whole = generation(image_urls=("https://x.test/a",), credits_used=2, created_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert Generation.model_validate_json(whole.model_dump_json()) == whole


def test_dates_of_other_zones_keep_their_moment() -> None:
    """A generation's own date may have any zone."""
    tokyo = datetime(2026, 3, 1, 21, tzinfo=timezone(timedelta(hours=9)))
    assert generation(created_at=tokyo).expires_at == datetime(2026, 3, 16, 12, tzinfo=UTC)
