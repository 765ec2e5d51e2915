"""The event stream grammar, under any chunking."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobanana_async import _sse
from nanobanana_async._sse import ServerSentEvent, SSEDecoder


def decode(*chunks: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + list(decoder.close())


def reference(stream: bytes) -> list[ServerSentEvent]:
    """The HTML standard's rules, written down over the whole stream at once."""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    events, data, name, last_id = [], [], "", None
    for line in [*lines, b""]:  # our leniency: the end of the stream ends the last event as well
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if not line and data:
            events.append(ServerSentEvent("\n".join(data), name or "message", last_id))
        if not line:
            data, name = [], ""
        elif field == b"data":
            data.append(text)
        elif field == b"event":
            name = text
        elif field == b"id" and "\0" not in text:
            last_id = text
    return events


LINES = st.sampled_from(
    [
        b"", b"", b":", b": ping", b"data", b"data:", b"data: ", b"data:  two", b"data: a", b"data:b: c",
        b"event: done", b"event", b"id: 7", b"id", b"id: \0", b"retry: 5", b"nothing", b"datax: 1",
        b" data: 1", b"\xff\xfe", "data: näher…\u2028weiter\u0085".encode(), b"data: \xe2\x82",
        b"\xef\xbb\xbfdata: marked",
    ]
)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=14).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(STREAMS | st.binary(max_size=40), st.lists(st.integers(0, 80), max_size=8))
@settings(deadline=None, max_examples=200)
def test_any_chunking_gives_what_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    """Where the network cuts must not matter: not inside a CRLF, a mark, a character or a field."""
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    chunks = [stream[start:end] for start, end in pairwise(places)]
    assert decode(*chunks) == reference(stream)


@given(STREAMS)
@settings(deadline=None, max_examples=60)
def test_byte_by_byte_is_as_good_as_at_once(stream: bytes) -> None:
    """The slowest network there is, with empty chunks in between."""
    single = [part for byte in stream for part in (bytes([byte]), b"")]
    assert decode(*single) == decode(stream) == reference(stream)


def test_a_line_separator_inside_json_stays_there() -> None:
    """Python's splitlines() would break this event in two; the standard does not."""
    told = json.dumps({"message": "one\u2028two\u2029three\u0085"}, ensure_ascii=False)
    (event,) = decode(f"data: {told}\n\n".encode())
    assert json.loads(event.data)["message"] == "one\u2028two\u2029three\u0085"


def test_an_event_is_told_as_soon_as_its_blank_line_is_there() -> None:
    """No event waits for the next chunk."""
    decoder = SSEDecoder()
    assert list(decoder.feed(b"data: 1\n")) == []
    assert [event.data for event in decoder.feed(b"\ndata: 2")] == ["1"]


def test_a_cr_ends_a_line_without_waiting_for_its_lf() -> None:
    """A server that ends lines with CR alone is not kept waiting for a byte that never comes."""
    decoder = SSEDecoder()
    assert [event.data for event in decoder.feed(b"data: 1\r\r")] == ["1"]
    assert list(decoder.feed(b"\n")) == []


def test_the_event_that_the_end_cut_off_is_told() -> None:
    """A server that closes right after its last line has told it all the same."""
    assert [event.data for event in decode(b"data: 1\n\ndata: last")] == ["1", "last"]


@pytest.mark.parametrize("pieces", [[b"data: " + b"x" * 40, b"y" * 40], [b"data: x\n" * 40], [b"data:\n" * 80]])
def test_a_runaway_event_is_refused(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unending line or event must not fill the memory."""
    monkeypatch.setattr(_sse, "MAX_EVENT_BYTES", 64)
    with pytest.raises(ValueError, match="more than 64 bytes"):
        decode(*pieces)


def test_an_event_of_the_largest_size_passes_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the event, not the chunks it came in."""
    monkeypatch.setattr(_sse, "MAX_EVENT_BYTES", 64)
    line = b"data: " + b"x" * 57
    assert len(decode(*(bytes([byte]) for byte in line), b"\n\n")[0].data) == 57


def test_heartbeats_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream may go on for hours; only one event's size is bounded."""
    monkeypatch.setattr(_sse, "MAX_EVENT_BYTES", 64)
    cut_heartbeats = [b": keep-", b"alive\n"] * 100
    assert decode(*cut_heartbeats, b"data: 1\n\n") == [ServerSentEvent("1")]
