"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to. Pure, but for random ids.

The proxy exports no spans. A parent-id of its own would therefore name a span that nobody can find, and break the
caller's tree: what a caller sends and is valid goes on as it came, and the caller's span stays the parent.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multidict import MultiMapping

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_FIELDS = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)
_KNOWN_VERSION = "00"
_INVALID_VERSION = "ff"
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace of one request. A `continued` one is the caller's: its tracestate goes on with it."""

    trace_id: str
    traceparent: str
    continued: bool


def trace_context(headers: MultiMapping[str]) -> TraceContext:
    """The caller's trace, or a new one where it sends none, one that is not valid, or several."""
    found = headers.getall(TRACEPARENT, ())
    if len(found) == 1 and (trace := _parsed(found[0])) is not None:
        return trace
    # One call for both: each costs a system call.
    random = os.urandom(24).hex()
    return TraceContext(random[:32], f"{_KNOWN_VERSION}-{random[:32]}-{random[32:]}-00", continued=False)


def _parsed(value: str) -> TraceContext | None:
    fields = _FIELDS.fullmatch(value)
    if fields is None:
        return None
    version, trace_id, parent_id = fields["version"], fields["trace_id"], fields["parent_id"]
    if version == _INVALID_VERSION or trace_id == _NO_TRACE or parent_id == _NO_SPAN:
        return None
    if version == _KNOWN_VERSION:
        return None if fields["more"] else TraceContext(trace_id, value, continued=True)
    # Of a later version only these fields may be understood, and they are sent on in the version that is known.
    sampled = int(fields["flags"], 16) & _SAMPLED
    return TraceContext(trace_id, f"{_KNOWN_VERSION}-{trace_id}-{parent_id}-{sampled:02x}", continued=True)
