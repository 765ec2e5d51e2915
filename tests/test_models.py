"""Requests are checked before anything is spent; records are read whatever is odd about them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nanobanana_async import GenerateRequest, Generation, GenerationStatus, InvalidRequestError
from nanobanana_async._models import GenerationRecord, Model, Submission

# ---- requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"prompt": " \n"}, "prompt: the prompt is blank"),
        ({"quantity": 0}, "quantity: .*greater than or equal to 1.*got 0"),
        ({"quantity": 1.5}, "quantity: "),
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


@pytest.mark.parametrize("prompt", [None, 7, ["a cat"], {"prompt": "a cat"}])
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


# ---- records ------------------------------------------------------------------------------------------------


def record(**fields: Any) -> GenerationRecord:
    return GenerationRecord.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "urls"),
    [
        ({"outputImageUrls": ["a", "b"]}, ("a", "b")),
        ({"outputImageUrl": "a"}, ("a",)),
        ({"outputImageUrls": None, "outputImageUrl": "a"}, ("a",)),
        ({"outputImageUrls": [], "outputImageUrl": "a"}, ("a",)),
        ({"outputImageUrls": ["a"], "outputImageUrl": "b"}, ("a",)),
        ({"outputImageUrls": "a"}, ("a",)),
        ({"outputImageUrls": ["a", None, "", 3, "b"]}, ("a", "b")),
        ({"imageUrls": ["a"]}, ("a",)),
        ({"outputImageUrls": {"0": "a"}}, ()),
        ({}, ()),
    ],
)
def test_images_are_found_wherever_a_record_has_them(fields: dict[str, Any], urls: tuple[str, ...]) -> None:
    """The list, or the single link that some records carry instead."""
    assert record(**fields).image_urls == urls


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"processingStatus": "completed"}, "completed"),
        ({"processingStatus": "FAILED"}, "failed"),
        ({"processingStatus": "queued"}, "processing"),
        ({"processingStatus": "queued", "outputImageUrls": ["a"]}, "completed"),
        ({"processingStatus": "processing", "outputImageUrls": ["a"]}, "processing"),
        ({"processingStatus": None}, "processing"),
        ({"processingStatus": 2}, "processing"),
        ({}, "processing"),
    ],
)
def test_an_unknown_status_still_runs_unless_images_are_there(fields: dict[str, Any], status: str) -> None:
    """A new word of the service's must neither end a wait nor hide an image."""
    assert record(**fields).status == status


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ("2026-03-01T12:00:00.000Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T21:00:00+09:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        (1772366400, datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        ({}, None),
    ],
)
def test_a_creation_date_is_a_moment_or_nothing(told: Any, moment: datetime | None) -> None:
    """One without a zone is UTC, as the documented ones are."""
    assert record(createdAt=told).to_generation("clx1").created_at == moment


def test_what_a_record_does_not_tell_is_what_we_asked_for() -> None:
    """So that a thin record makes a whole generation."""
    made = record(processingStatus="completed").to_generation("clx1", prompt="a cat", model="m", credits_used=2)
    assert (made.id, made.prompt, made.model, made.credits_used) == ("clx1", "a cat", "m", 2)


def test_what_a_record_tells_wins() -> None:
    """`creditsUsed` of the response is always believed, also when it is 0."""
    told = record(id="clx2", prompt="a dog", modelUsed="n", creditsUsed=0)
    made = told.to_generation("clx1", prompt="a cat", model="m", credits_used=2)
    assert (made.id, made.prompt, made.model, made.credits_used) == ("clx2", "a dog", "n", 0)


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.just({"a": 1})
NAMES = st.sampled_from(
    [
        "id", "prompt", "outputImageUrls", "outputImageUrl", "modelUsed", "processingStatus", "errorMessage",
        "creditsUsed", "createdAt", "x",
    ]
)  # fmt: skip


@given(st.dictionaries(NAMES, JUNK))
@settings(deadline=None, max_examples=100)
def test_any_record_becomes_a_generation_that_can_be_shown(fields: dict[str, Any]) -> None:
    """Whatever is odd about it, it can be stored as UTF-8 and printed."""
    made = record(**fields).to_generation("clx1")
    assert made.status in GenerationStatus
    assert made.id
    (made.model_dump_json() + repr(made)).encode()


# ---- submissions and models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"generationId": "clx1"},
        {"id": "clx1"},
        {"data": {"id": "clx1"}},
        {"generationId": None, "data": {"generationId": "clx1"}},
        {"generationId": "clx1", "data": {"generationId": ""}},
        {"generationId": "clx1", "id": "req_1", "data": {"id": "other"}},
    ],
)
def test_the_id_is_found_wherever_it_is_told(body: dict[str, Any]) -> None:
    """A paid generation can only be picked up by it."""
    assert Submission.model_validate(body).generation_id == "clx1"


def test_a_number_as_id_is_an_id() -> None:
    """Other services count theirs."""
    assert Submission.model_validate({"generationId": 17}).generation_id == "17"


def test_images_inside_data_are_found_beside_an_outer_id() -> None:
    """Nested or not, what was paid for is taken."""
    told = Submission.model_validate({"generationId": "clx1", "data": {"imageUrls": ["a"], "creditsUsed": 3.0}})
    assert (told.image_urls, told.credits_used) == (("a",), 3)


@pytest.mark.parametrize(("told", "meant"), [("true", True), ("Content safety", True), ("false", False), (0, False)])
def test_a_flag_may_be_a_word(told: Any, meant: bool) -> None:
    """A warning told as its text is a warning."""
    assert Submission.model_validate({"warning": told}).warning is meant


def test_a_model_is_made_by_its_own_names_too() -> None:
    """For programs that keep a price list of their own."""
    made = Model(name="m", credits_cost=2, requires_pro=True)
    assert (made.credits_cost, made.supports_image_input, made.requires_pro) == (2, True, True)


def test_dates_of_other_zones_keep_their_moment() -> None:
    """A generation's own date may have any zone."""
    tokyo = datetime(2026, 3, 1, 21, tzinfo=timezone(timedelta(hours=9)))
    assert generation(created_at=tokyo).expires_at == datetime(2026, 3, 16, 12, tzinfo=UTC)
