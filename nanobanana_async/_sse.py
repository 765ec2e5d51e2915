"""Server-sent events: bytes in, events out. No I/O.

Works on bytes, because lines end at CR, LF or CRLF only: decoding first and splitting later would break JSON that
holds U+2028. Follows the event stream grammar of the HTML standard, with one leniency: `close()` gives the last
event even when the blank line that should end it never came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 256 * 1024 * 1024  # a complete event with four PNGs of 4K, 40 MB each, as data URIs fits


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream. `event` is "message" unless the stream names another."""

    data: str
    event: str = "message"
    id: str | None = None


class SSEDecoder:
    """Feed it chunks cut anywhere; it gives the events that are complete."""

    def __init__(self) -> None:
        self._rest = bytearray()  # the unfinished line
        self._size = 0  # bytes of the unfinished event's data
        self._after_cr = False
        self._at_start = True
        self._data: list[bytes] = []
        self._event = b""
        self._id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Events that `chunk` completes.

        Raises: ValueError when one event grows past MAX_EVENT_BYTES.
        """
        for line in self._lines(chunk):
            event = self._take(line)
            if event is not None:
                yield event

    def close(self) -> Iterator[ServerSentEvent]:
        """The event that the end of the stream cut off before its blank line, if it holds data."""
        if self._rest:
            self._take(self._end_line())
        event = self._dispatch()
        if event is not None:
            yield event

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that a chunk boundary cut
        start = 0
        for end in _LINE_END.finditer(chunk):
            self._rest += chunk[start : end.start()]
            start = end.end()
            yield self._end_line()
        self._after_cr = chunk.endswith(b"\r") or (self._after_cr and not chunk)
        self._rest += chunk[start:]
        self._check_size()

    def _end_line(self) -> bytes:
        line = bytes(self._rest)
        self._rest.clear()
        if self._at_start:
            self._at_start = False
            return line.removeprefix(_BYTE_ORDER_MARK)
        return line

    def _check_size(self) -> None:
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            return None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1  # the line end counts: empty lines take room as well
            self._check_size()
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        self._data, self._event, self._size = [], b"", 0
        if not data:
            return None
        return ServerSentEvent(
            data=b"\n".join(data).decode("utf-8", "replace"),
            event=event.decode("utf-8", "replace") or "message",
            id=self._id,
        )
