"""A stream's events, one by one: progress never falls, ids may come late, errors end it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobanana_async import ContentRejectedError, GenerateRequest, GenerationFailedError, StreamEvent
from nanobanana_async._events import StreamReader
from nanobanana_async._sse import ServerSentEvent, SSEDecoder

SAMPLES = Path(__file__).parent / "samples"


def new_reader(**fields: Any) -> StreamReader:
    return StreamReader(GenerateRequest(prompt="a cat", **fields))


def read(reader: StreamReader, told: Any = None, **fields: Any) -> StreamEvent | None:
    return reader.read(ServerSentEvent(told if isinstance(told, str) else json.dumps(told or fields)))


def replay(name: str) -> tuple[StreamReader, list[StreamEvent]]:
    """A recorded stream, read to its end."""
    decoder, reader = SSEDecoder(), new_reader()
    raw = [*decoder.feed((SAMPLES / f"{name}.sse").read_bytes()), *decoder.close()]
    return reader, [event for event in map(reader.read, raw) if event is not None]


def test_a_recorded_stream_is_read_to_its_end() -> None:
    """Heartbeats with progress 0 and lines that are no JSON included."""
    _, events = replay("stream")
    assert [(event.type, event.progress) for event in events] == [
        ("status", 5.0),
        ("status", 40.0),
        ("status", 40.0),
        ("status", 90.0),
        ("complete", 100.0),
    ]


def test_the_last_event_has_the_generation() -> None:
    """With everything that was told, and what was asked for where nothing was."""
    _, events = replay("stream")
    made = events[-1].generation
    assert made is not None
    assert (made.id, made.prompt, made.model, made.credits_used) == ("clx9f2k4d0007", "a cat", "nano-banana", 2)
    assert made.image_urls == ("https://cdn.nananobanana.com/o/7.png",)
    assert made.expires_at is not None


def test_a_recorded_error_ends_the_stream() -> None:
    """With the deeper of the two reasons, the id and the price."""
    with pytest.raises(GenerationFailedError, match="Provider timeout") as caught:
        replay("stream_error")
    assert (caught.value.generation_id, caught.value.credits_used) == ("clx9f2k4d0008", 2)


@given(st.lists(st.floats() | st.integers() | st.none() | st.booleans() | st.text(max_size=3)))
@settings(deadline=None, max_examples=80)
def test_progress_never_falls_and_stays_a_percentage(told: list[Any]) -> None:
    """Whatever a server tells, NaN and infinities included."""
    reader = new_reader()
    shown = [event.progress for progress in told if (event := read(reader, type="status", progress=progress))]
    assert shown == sorted(shown)
    assert all(0 <= progress <= 100 for progress in shown)
    assert len(shown) == len(told)


def test_progress_that_is_no_number_changes_nothing() -> None:
    """NaN compares with nothing: it must neither stick nor jump to the end."""
    reader = new_reader()
    read(reader, type="status", progress=30)
    for odd in ("NaN", '"50"', "null", "true", "-5"):
        read(reader, f'{{"type":"status","progress":{odd}}}')
    assert reader.progress == 30.0


@pytest.mark.parametrize("line", ["", "ping", "[DONE]", "[]", "null", "7", '"text"', "{", '{"type":"odd"}', "{}"])
def test_what_is_no_event_of_ours_is_ignored(line: str) -> None:
    """Such lines are heartbeats, or news for somebody else."""
    assert read(new_reader(), line) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"generationId": "clx1"},
        {"data": {"generationId": "clx1"}},
        {"data": {"id": "clx1"}},
        {"generationId": "clx1", "data": {"x": 1}},
        {"id": "evt_1", "data": {"id": "clx1"}},
    ],
)
def test_the_id_is_learned_from_any_event(fields: dict[str, Any]) -> None:
    """As soon as it is told the generation can be picked up, should the stream break."""
    reader = new_reader()
    read(reader, type="status", **fields)
    assert reader.generation_id == "clx1"


def test_an_events_own_id_is_not_the_generations() -> None:
    """To poll for it would wait for something that is not there."""
    reader = new_reader()
    read(reader, type="status", id="evt_1")
    assert reader.generation_id is None


def test_an_id_once_told_stays() -> None:
    """Later events need not repeat it."""
    reader = new_reader()
    read(reader, type="status", data={"generationId": "clx1", "creditsUsed": 2})
    event = read(reader, type="complete", data={"imageUrls": ["a"]})
    assert event is not None
    assert event.generation is not None
    assert (event.generation.id, event.generation.credits_used) == ("clx1", 2)


def test_a_stream_may_complete_without_ever_telling_its_id() -> None:
    """The images are there, so nothing is lost; the id is empty."""
    event = read(new_reader(model="m"), type="complete", data={"success": True, "imageUrls": ["a"]})
    assert event is not None
    assert event.generation is not None
    assert (event.generation.id, event.generation.model, event.generation.image_urls) == ("", "m", ("a",))


def test_images_beside_the_data_are_found() -> None:
    """A server may tell them at the top of the event."""
    event = read(new_reader(), type="complete", imageUrls=["a"], generationId="clx1")
    assert event is not None
    assert event.type == "complete"


def test_complete_without_images_is_not_the_end() -> None:
    """They were paid for, so they are looked up by the id instead."""
    reader = new_reader()
    event = read(reader, type="complete", data={"success": True, "generationId": "clx1"})
    assert event == StreamEvent("status", "", 0.0)
    assert reader.generation_id == "clx1"


@pytest.mark.parametrize("kind", ["complete", "error"])
def test_a_warning_is_a_rejection(kind: str) -> None:
    """The safety check said no; charged all the same."""
    with pytest.raises(ContentRejectedError, match="not allowed") as caught:
        read(
            new_reader(),
            type=kind,
            data={"success": False, "warning": True, "message": "not allowed", "creditsUsed": 1},
        )
    assert caught.value.credits_used == 1


def test_complete_without_success_is_a_failure() -> None:
    """The data decide, not the event's name."""
    with pytest.raises(GenerationFailedError, match="no capacity"):
        read(new_reader(), type="complete", message="no capacity", data={"success": False})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"message": "Generation failed", "data": {"success": False, "error": "deeper"}}, "deeper"),
        ({"message": "Generation failed", "data": {"success": False}}, "Generation failed"),
        ({"error": "beside it"}, "beside it"),
        ({"message": None, "data": None}, "no reason given"),
        ({"data": "text"}, "no reason given"),
    ],
)
def test_an_error_event_tells_the_deepest_reason(fields: dict[str, Any], reason: str) -> None:
    """Wherever the server put it."""
    with pytest.raises(GenerationFailedError, match=reason):
        read(new_reader(), type="error", **fields)


def test_an_error_event_that_tells_of_safety_is_a_rejection() -> None:
    """As a failed record with the same words is."""
    with pytest.raises(ContentRejectedError):
        read(new_reader(), type="error", message="Content safety check failed")


def test_odd_fields_do_not_hide_the_images() -> None:
    """What was paid for is taken, whatever is wrong beside it."""
    told = '{"type":"complete","message":{"a":1},"progress":1e999,"data":{"imageUrls":["a"],"creditsUsed":1e999}}'
    event = read(new_reader(), told)
    assert event is not None
    assert event.generation is not None
    assert (event.generation.image_urls, event.generation.credits_used) == (("a",), None)
