"""Streams within google.api.HttpBody: the elements of an array, whose data together are another dialect's stream.

Pure. An event of the dialect within may be cut anywhere between two elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from health.outcome import FailureReason
from proxy.dialects.base import Framing
from proxy.dialects.http_body import decoded, enveloped, is_json
from proxy.dialects.stream import StreamMonitor, error_reason, parsed
from proxy.json_array import ArrayReader, ArrayWriter
from proxy.sse import Event, EventTooLarge

if TYPE_CHECKING:
    from proxy.dialects.base import Dialect, FinishReason, StreamWriter, Usage

_EVENTS = str(Framing.EVENTS)
_LARGEST_WHOLE = 64 * 1024 * 1024
"""Bytes of a whole answer within; as much as is held of one without an envelope."""


class EnvelopeWriter:
    """Writes one answer as elements, each with what the dialect within says at once."""

    __slots__ = ("_array", "_inner")

    def __init__(self, inner: StreamWriter, array: ArrayWriter) -> None:
        self._inner = inner
        self._array = array

    def delta(self, text: str) -> bytes:
        """The bytes of one element that carries `text`."""
        return self._array.element(enveloped(self._inner.delta(text), _EVENTS))

    def finish(self, finish_reason: FinishReason, usage: Usage) -> bytes:
        """The last element and the end of the array."""
        last = self._array.element(enveloped(self._inner.finish(finish_reason, usage), _EVENTS))
        return last + self._array.close()


class _Elements(ArrayReader):
    """Keeps the end of the array back: an array that was closed could not be gone on with."""

    __slots__ = ("ending",)

    def __init__(self) -> None:
        super().__init__()
        self.ending = b""

    def blocks(self, data: bytes) -> list[tuple[bytes, Event | None]]:
        blocks = super().blocks(data)
        self.ending += b"".join(raw for raw, element in blocks if element is None)
        return blocks


class EnvelopeMonitor(StreamMonitor):
    """Watches the elements of a stream go by, and by a monitor of its own the stream within.

    What that one lets through goes on: an element as it came where it is all of it, else in an element of its own. The
    array's end goes on only where the stream within is complete.
    """

    def __init__(self, dialect: Dialect) -> None:
        """`dialect` is the one within."""
        self._elements = _Elements()
        super().__init__(self._elements, begins_with=b"[ \t\r\n")
        self._dialect = dialect
        self._data = b""
        self._passed = b""
        self._out: list[bytes] = []
        self._at_first = True
        self._watch(dialect.monitor())
        self.begun = False
        """An element was let through."""

    def feed(self, data: bytes) -> bytes:
        """What may be sent on now: whole events of the stream within, in elements."""
        super().feed(data)
        if self._elements.closed and self.failure is None:
            self._close()
        return self._taken()

    def end(self) -> bytes:
        """What may be sent on of an event that the end of the body left open."""
        super().end()
        self._end_within()
        return self._taken()

    def missing_end(self) -> bytes:
        """The end of the stream within, where that is missing, and of the array."""
        if self.terminated:
            return b""
        return self._element(self.inner.missing_end()) + b"]"

    def _taken(self) -> bytes:
        taken = b"".join(self._out)
        self._out.clear()
        return taken

    def _watch(self, inner: StreamMonitor) -> None:
        self.inner = inner
        self.texts = inner.texts

    def _close(self) -> None:
        self._end_within()
        if self.finished and self.failure is None:
            if not self.terminated:
                self._out.append(self._element(self.inner.missing_end()))
            self.terminated = True
            self._out.append(self._elements.ending)
            self._elements.ending = b""

    def _end_within(self) -> None:
        if self.failure is None:
            self._out.append(self._element(self.inner.end()))
            self._follow()

    def _passes(self, event: Event, raw: bytes) -> bool:
        self._data = self._passed = b""
        passes = super()._passes(event, raw)
        if passes and self._passed == self._data:
            self._out.append(raw)
            self.begun = True
        else:
            self._out.append(self._element(self._passed))
        if self.inner.failure is not None:
            self.error_event = self._element(self.inner.error_event)
        return passes

    def _see(self, event: Event) -> bool:
        element = parsed(event.data)
        if (reason := error_reason(element)) is not None:
            self.failure = reason
            return False
        if (data := decoded(element)) is None:
            return False
        self._data = data
        if self._at_first and self._data:
            self._at_first = False
            if is_json(self._data):
                self._watch(_WholeMonitor(self._dialect))
        self._passed = self.inner.feed(self._data)
        self._follow()
        return self.failure is None

    def _follow(self) -> None:
        """What is known of the stream within is what there is to know."""
        inner = self.inner
        self.started, self.finished, self.failure = inner.started, inner.finished, inner.failure
        self.usage, self.finish_reason, self.pausing = inner.usage, inner.finish_reason, inner.pausing

    def _element(self, data: bytes) -> bytes:
        """The bytes of one element that holds `data`; none where there are none."""
        if not data:
            return b""
        array = ArrayWriter(begun=self.begun)
        self.begun = True
        return array.element(enveloped(data, _EVENTS))


class EnclosingMonitor(EnvelopeMonitor):
    """Watches a stream of the dialect within that comes without the envelope, and puts into it what goes on."""

    def __init__(self, dialect: Dialect) -> None:
        """`dialect` is the one within."""
        super().__init__(dialect)
        self._array = ArrayWriter()

    def feed(self, data: bytes) -> bytes:
        """What may be sent on now, in an element."""
        return super().feed(self._array.element(enveloped(data, _EVENTS))) if data else b""


class _WholeMonitor(StreamMonitor):
    """Watches a whole answer come in pieces, as to a body that asks a streaming method for no stream."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(_Pieces(), begins_with=b"{[ \t\r\n")
        self._dialect = dialect

    def feed(self, data: bytes) -> bytes:
        super().feed(data)
        return b"" if self.failure is not None else data

    def end(self) -> bytes:
        super().end()
        return b""

    def _see(self, event: Event) -> bool:
        checked = self._dialect.check(event.data)
        if isinstance(checked, FailureReason):
            self.failure = checked
            return False
        self.started = self.finished = True
        self.usage = checked
        self.texts.append(self._dialect.text(event.data))
        return True


class _Pieces:
    """Holds everything until it is all there."""

    def __init__(self) -> None:
        self._held = bytearray()

    def blocks(self, data: bytes) -> list[tuple[bytes, Event | None]]:
        self._held += data
        if len(self._held) > _LARGEST_WHOLE:
            raise EventTooLarge(f"an answer of more than {_LARGEST_WHOLE} bytes")
        return []

    def rest(self) -> bytes:
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def parse(self, raw: bytes) -> Event | None:
        return Event("", raw)

    def ended(self, raw: bytes) -> bytes:
        return raw
