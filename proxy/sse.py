"""Server-sent events, read from bytes that come in any pieces, and written.

Pure. The rules are the HTML standard's, section "Interpreting an event stream": lines end in LF, CR or CRLF, a blank
line ends an event, several `data` lines are one event's, and an event that the stream's end leaves open is no event.
`id`, `retry`, comments and unknown fields are passed over.
"""

from __future__ import annotations

from typing import NamedTuple

LARGEST_EVENT = 1 << 20
"""Bytes of one line, or of one event's data, beyond which a stream is taken for broken; completions have kilobytes."""

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"


class EventTooLarge(ValueError):
    """A line or an event is longer than the limit. The reader that raised it has lost its place."""


class Event(NamedTuple):
    """One event of a stream."""

    name: str
    """As the stream gave it; "" when it gave none (which the standard calls "message")."""
    data: bytes
    """Undecoded: whoever reads JSON reads it from bytes, and no split can fall into a character."""


class SSEReader:
    """Reads events from a stream, whatever the pieces it comes in."""

    __slots__ = ("_after_cr", "_at_start", "_data", "_limit", "_name", "_pieces", "_room", "_size")

    def __init__(self, *, limit: int = LARGEST_EVENT) -> None:
        """`limit`, in bytes, bounds what the reader remembers."""
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._data: list[bytes] = []
        self._room = limit
        self._name = ""
        self._at_start = True
        self._after_cr = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises EventTooLarge."""
        if self._after_cr and data:
            # A CR ends its line at once, lest an event wait for the next piece; the LF that may follow belongs to it.
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if not data:
            return []
        lines = data.splitlines()
        last = data[-1]
        self._after_cr = last == 13
        unfinished = b"" if last in _LINE_ENDS else lines.pop()
        events: list[Event] = []
        if lines:
            if self._pieces:
                lines[0] = b"".join((*self._pieces, lines[0]))
                self._pieces.clear()
                self._size = 0
            self._read(lines, events)
        if unfinished:
            self._pieces.append(unfinished)
            self._size += len(unfinished)
            if self._size > self._limit:
                raise EventTooLarge(f"a line of more than {self._limit} bytes")
        return events

    def _read(self, lines: list[bytes], events: list[Event]) -> None:
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)
        for line in lines:
            if line:
                self._field(line)
                continue
            if self._data:
                events.append(Event(self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
                self._data.clear()
                self._room = self._limit
            self._name = ""

    def _field(self, line: bytes) -> None:
        if len(line) > self._limit:
            raise EventTooLarge(f"a line of {len(line)} bytes")
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._room -= len(value) + 1
            if self._room < 0:
                raise EventTooLarge(f"an event of more than {self._limit} bytes")
            self._data.append(value)
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode(errors="replace")


def event(data: bytes, name: str | None = None) -> bytes:
    """The bytes of one event, its blank line included. `name` holds no line end.

    `data:` is always followed by a space: google-genai and others look for those six characters.
    """
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
