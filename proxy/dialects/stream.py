"""What is seen of an upstream's stream while its bytes pass by: the part that every dialect shares.

Pure. A monitor tolerates any split of the bytes and raises on no content. It lets whole events through, as they came:
so that what was sent ends where an event ends, and another upstream can go on from there. One event that cannot be read
is left out, in the hope that the rest completes; a second one in a row is the end of that hope.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from health.outcome import FailureReason
from proxy.sse import EventTooLarge

if TYPE_CHECKING:
    from proxy.dialects.base import FinishReason, Usage
    from proxy.sse import Event


EVENTS_BEGIN_WITH = b"deir:\r\n\xef"
"""The first letters of the fields (data, event, id, retry), a comment, a blank line, or a byte order mark."""


class BlockReader(Protocol):
    """Takes a stream apart; see `SSEReader` for the methods."""

    def blocks(self, data: bytes) -> list[tuple[bytes, Event | None]]: ...

    def rest(self) -> bytes: ...

    def parse(self, raw: bytes) -> Event | None: ...

    def ended(self, raw: bytes) -> bytes:
        """A block that the stream's end left open, with its end, so that something may follow it."""


class StreamMonitor(ABC):
    """Watches one stream. Feed it decoded (uncompressed) bytes."""

    after_finish_seconds = 0.25
    """What may follow the end of an answer, its counts and the terminator, comes with it or does not come."""

    def __init__(self, reader: BlockReader, *, begins_with: bytes) -> None:
        """`begins_with` holds the bytes of which one must be the stream's first."""
        self._reader = reader
        self._begins_with = begins_with
        self._at_start = True
        self._doubtful = False
        self.started = False
        """Content, or a proper finish without any, was seen: from here on the stream is worth sending."""
        self.finished = False
        """The stream said that it is complete."""
        self.terminated = False
        """Nothing more belongs to it; a dialect without a terminator never says so."""
        self.usage: Usage | None = None
        """What the upstream counted, once the stream has told it."""
        self.finish_reason: FinishReason | None = None
        self.failure: FailureReason | None = None
        """STREAM_ERROR or THROTTLED for an error event, MALFORMED for garbage."""
        self.error_event = b""
        """The bytes of the error event; they were not let through."""
        self.pausing = False
        """The model is thinking, or a tool is at work: a silence, however long, says nothing."""
        self.texts: list[str] = []
        """The text of what was let through, piece by piece."""

    def feed(self, data: bytes) -> bytes:
        """What may be sent on now: whole events, those that could be read."""
        if self.failure is not None or not data:
            return b""
        if self._at_start:
            self._at_start = False
            if data[0] not in self._begins_with:
                self.failure = FailureReason.MALFORMED
                return b""
        try:
            blocks = self._reader.blocks(data)
        except EventTooLarge:
            self.failure = None if self.finished else FailureReason.MALFORMED
            return b""
        passed = []
        for raw, event in blocks:
            if event is None or self._passes(event, raw):
                passed.append(raw)
            elif self._has_failed():
                break
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def end(self) -> bytes:
        """What may be sent on of an event that the end of the body left open: all of it where it can be read."""
        raw = self._reader.rest()
        if self.failure is not None or not raw.strip():
            return b"" if self.failure is not None else raw
        event = self._reader.parse(raw)
        return self._reader.ended(raw) if event is not None and self._passes(event, raw) else b""

    def missing_end(self) -> bytes:
        """The bytes that end a stream that has `finished` but was not `terminated`; b"" where none are needed."""
        return b""

    def _passes(self, event: Event, raw: bytes) -> bool:
        was_finished = self.finished
        if self._see(event):
            self._doubtful = False
            return True
        if was_finished:
            # The answer is complete; whatever is wrong behind its end is none of the caller's business.
            self.failure = None
            return False
        if self.failure is not None:
            self.error_event = raw
        elif self._doubtful or not self.started:
            self.failure = FailureReason.MALFORMED
        self._doubtful = True
        return False

    def _has_failed(self) -> bool:
        return self.failure is not None

    @abstractmethod
    def _see(self, event: Event) -> bool:
        """Take what an event says. False where it cannot be read, or, with `failure` set, where it is an error."""


def parsed(body: bytes) -> Any:
    """The JSON value; None for what is none. Decoded here, for the library takes twice the time over bytes."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def error_reason(value: Any) -> FailureReason | None:
    """What an error counts as: Google's, alone or in an array, or Mistral's. None for none; `"error": null` is none."""
    if isinstance(value, list):
        return error_reason(value[0]) if value else None
    if not isinstance(value, dict) or not (value.get("error") or value.get("object") == "error"):
        return None
    error = value["error"] if isinstance(value.get("error"), dict) else value
    busy = error.get("status") == "RESOURCE_EXHAUSTED" or str(error.get("code")) == "429"
    return FailureReason.THROTTLED if busy else FailureReason.STREAM_ERROR
