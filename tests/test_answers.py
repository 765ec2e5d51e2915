"""Answers are read whatever is odd about them: what was paid for must not be lost to a date."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobanana_async import GenerationStatus
from nanobanana_async._answers import GenerationRecord, Model, Submission

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


@pytest.mark.parametrize("credits_used", [-1, "-1", -0.5e9])
def test_a_negative_price_was_not_told(credits_used: Any) -> None:
    """It would lower what a budget counts as spent."""
    assert record(creditsUsed=credits_used).credits_used is None
    assert Submission.model_validate({"generationId": "clx1", "creditsUsed": credits_used}).credits_used is None


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
