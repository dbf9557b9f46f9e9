"""What a provider answers, and what of it goes over the wire when, with a fault or without.

Pure: `plan` decides and returns steps; delivery.py takes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .faults import FOREVER, Fault

PIECES = 4
"""In how many pieces a whole body is sent when a fault strikes within it."""


class Kind(Enum):
    """What a part of an answer is to its reader."""

    HEAD = "head"
    CONTENT = "content"
    TAIL = "tail"
    TERMINATOR = "terminator"
    """Says that a stream is over when everything else was said."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a body that are written together."""

    data: bytes
    kind: Kind = Kind.CONTENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """What a front end puts around the parts of a stream: nothing around events, brackets and commas in an array.

    It closes what it opened when the model behind it has ended, however that was.
    """

    opening: bytes = b""
    separator: bytes = b""
    closing: bytes = b""


EVENTS = Framing()
ARRAY = Framing(opening=b"[", separator=b"\n,\r\n", closing=b"\n]")
"""As Google writes the array that a stream is in JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer: whole, in one part, or a stream of many."""

    status: int
    headers: Mapping[str, str]
    parts: tuple[Part, ...]
    stream: bool = False
    framing: Framing = EVENTS
    error_event: bytes = b""
    """How this stream says that it failed."""
    malformed_event: bytes = b""
    """An event of this stream that nobody can read."""

    @property
    def body(self) -> bytes:
        """The whole body."""
        inside = self.framing.separator.join(part.data for part in self.parts)
        return self.framing.opening + inside + self.framing.closing


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderError:
    """One error as a provider words it. `kind` is Google's status or Anthropic's type."""

    status: int
    kind: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Any = None
    text: str | None = None
    """The body when it is not the provider's usual object, as from a load balancer in front of it."""
    content_type: str = "text/html; charset=UTF-8"
    """Of `text`."""


class Rejected(Exception):
    """A request that the provider answers with an error."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(error.message)
        self.error = error


def whole(status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer in one body."""
    return Reply(status=status, headers={"content-type": content_type, **(headers or {})}, parts=(Part(body),))


def compact(document: object) -> bytes:
    """JSON as the models' servers write it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds, or for ever."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Head:
    """Send status and headers; without `length` the body is chunked."""

    status: int
    headers: Mapping[str, str]
    length: int | None


@dataclass(frozen=True, slots=True)
class Send:
    """Write and flush some of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """End the body as HTTP demands it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection where the body is."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection (RST)."""


Step = Wait | Head | Send | End | Cut | Reset

HEALTHY = Fault()


def plan(reply: Reply, fault: Fault = HEALTHY, latency: float = 0.0) -> list[Step]:
    """What to do on the wire to answer with `reply` under `fault`. `latency` is the model's own, in seconds."""
    steps = _wait(fault.delay_before_headers + (0.0 if reply.stream else latency))
    if fault.reset_before_headers:
        return [*steps, Reset()]
    if fault.truncated_body:
        return [*steps, *_truncated(reply)]
    if reply.stream:
        head = [Head(reply.status, reply.headers, None), *_send(reply.framing.opening)]
        return [*steps, *head, *_body(reply, reply.parts, fault, latency)]
    # Only a body without an announced length can end early and cleanly.
    length = None if fault.end_after_chunks is not None else len(reply.body)
    return [*steps, Head(reply.status, reply.headers, length), *_body(reply, _pieces(reply, fault), fault, 0.0)]


def _body(reply: Reply, parts: tuple[Part, ...], fault: Fault, latency: float) -> list[Step]:
    steps: list[Step] = []
    sent = 0
    pause = latency + fault.delay_before_content
    before = b""
    for part in parts:
        if part.kind is Kind.TERMINATOR and fault.omit_terminator:
            continue
        if part.kind is not Kind.HEAD:
            if (ending := _ending(reply, fault, sent, before)) is not None:
                return [*steps, *ending]
            steps += _wait(pause)
            pause = 0.0
        data = part.data
        if part.kind is Kind.CONTENT:
            data = _malformed(reply, part) if sent == fault.malformed_chunk else data
            sent += 1
            pause = fault.delay_between_chunks
        steps.append(Send(before + data))
        before = reply.framing.separator
    if fault.stall_before_end and reply.stream:
        # A front end whose model is silent but not gone closes nothing.
        return [*steps, *([] if fault.omit_terminator else _send(reply.framing.closing)), Wait(FOREVER)]
    return [*steps, *_end(reply, fault)]


def _ending(reply: Reply, fault: Fault, sent: int, before: bytes) -> list[Step] | None:
    """How the answer ends here and now, if it does; `before` separates it from what was sent."""
    if sent == fault.error_after_chunks and reply.error_event:
        return [Send(before + reply.error_event), *_end(reply, fault)]
    if sent == fault.end_after_chunks:
        return _end(reply, fault)
    if sent == fault.stall_after_chunks:
        return [Wait(FOREVER)]
    if sent == fault.cut_after_chunks:
        return [Cut()]
    return None


def _end(reply: Reply, fault: Fault) -> list[Step]:
    """The clean end of a body."""
    has_terminator = any(part.kind is Kind.TERMINATOR for part in reply.parts)
    if fault.omit_terminator and not has_terminator:
        # Then the bracket is all that says that it is over.
        return [End()]
    return [*_send(reply.framing.closing), End()]


def _truncated(reply: Reply) -> list[Step]:
    half = reply.body[: len(reply.body) // 2]
    return [Head(reply.status, reply.headers, None if reply.stream else len(reply.body)), Send(half), Cut()]


def _malformed(reply: Reply, part: Part) -> bytes:
    # 0xff is in no UTF-8 text; the length stays what was announced.
    return reply.malformed_event or b"\xff" * len(part.data)


def _pieces(reply: Reply, fault: Fault) -> tuple[Part, ...]:
    places = (fault.cut_after_chunks, fault.stall_after_chunks, fault.end_after_chunks, fault.malformed_chunk)
    if not fault.delay_between_chunks and all(place is None for place in places):
        return reply.parts
    size = max(1, math.ceil(len(reply.body) / PIECES))
    return tuple(Part(reply.body[start : start + size]) for start in range(0, len(reply.body), size))


def _send(data: bytes) -> list[Step]:
    return [Send(data)] if data else []


def _wait(seconds: float) -> list[Step]:
    return [Wait(seconds)] if seconds > 0 else []
