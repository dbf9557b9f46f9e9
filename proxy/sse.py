"""Server-sent events, read from bytes that come in any pieces, and written.

Pure. The rules are the HTML standard's, section "Interpreting an event stream": lines end in LF, CR or CRLF, a blank
line ends an event, several `data` lines are one event's, and an event that the stream's end leaves open is no event.
`id`, `retry`, comments and unknown fields are passed over.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LARGEST_EVENT = 16 << 20
"""Bytes of one event beyond which a stream is taken for broken. Completions have kilobytes, pictures megabytes."""

_BOM = b"\xef\xbb\xbf"
# Two line ends, one after the other. A CR ends its line at once, lest an event wait for the next piece; an LF that
# follows it is then the empty beginning of the next event, and does no harm there.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LONGEST_END = 4


class EventTooLarge(ValueError):
    """An event is longer than the limit. The reader that raised it has lost its place."""


class Event(NamedTuple):
    """One event of a stream."""

    name: str
    """As the stream gave it; "" when it gave none (which the standard calls "message")."""
    data: bytes
    """Undecoded: whoever reads JSON reads it from bytes, and no split can fall into a character."""


class SSEReader:
    """Reads events from a stream, whatever the pieces it comes in."""

    __slots__ = ("_at_start", "_held", "_limit", "_searched")

    def __init__(self, *, limit: int = LARGEST_EVENT) -> None:
        """`limit`, in bytes, bounds what the reader remembers."""
        self._limit = limit
        self._held = bytearray()
        self._searched = 0
        self._at_start = True

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises EventTooLarge."""
        return [found for _, found in self.blocks(data) if found is not None]

    def blocks(self, data: bytes) -> list[tuple[bytes, Event | None]]:
        """What `data` completes: the raw bytes of each event, its end included, and the event.

        None stands for bytes that are no event, as a comment. Raises EventTooLarge.
        """
        if not (self._held or self._at_start) and _is_one_line(data) and len(data) <= self._limit:
            # Nearly all pieces are one event, whole.
            return [(data, Event("", data[6:-2]))]
        self._held += data
        blocks: list[tuple[bytes, Event | None]] = []
        begin = 0
        for end in _EVENT_END.finditer(self._held, self._searched):
            raw = bytes(self._held[begin : end.end()])
            begin = end.end()
            if len(raw) > self._limit:
                raise EventTooLarge(f"an event of {len(raw)} bytes")
            blocks.append((raw, self.parse(raw)))
        del self._held[:begin]
        if len(self._held) > self._limit:
            raise EventTooLarge(f"an event of more than {self._limit} bytes")
        self._searched = max(0, len(self._held) - _LONGEST_END)
        return blocks

    def rest(self) -> bytes:
        """The bytes of an event that has no end yet, which are forgotten."""
        rest = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return rest

    def ended(self, raw: bytes) -> bytes:
        """An event that the stream's end left open, with its blank line: else what follows would be part of it."""
        return raw.rstrip(b"\r\n") + b"\n\n"

    def parse(self, raw: bytes) -> Event | None:
        """The event in `raw`; None where it holds none."""
        if self._at_start:
            self._at_start = False
            raw = raw.removeprefix(_BOM)
        if _is_one_line(raw):
            return Event("", raw[6:-2])
        name, data = "", []
        for line in raw.splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ").decode(errors="replace")
        return Event(name, b"\n".join(data)) if data else None


def _is_one_line(raw: bytes) -> bool:
    """Whether these are the bytes of one event in its commonest form."""
    return raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and raw.endswith(b"\n\n") and b"\r" not in raw


def event(data: bytes, name: str | None = None) -> bytes:
    """The bytes of one event, its blank line included. `name` holds no line end.

    `data:` is always followed by a space: google-genai and others look for those six characters.
    """
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
