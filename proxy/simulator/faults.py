"""What can be wrong with a provider, as one value that can be switched while it runs.

Pure: a `Fault` says what goes wrong; `reply.plan` says what then happens on the wire.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

FOREVER = math.inf
"""A delay that never ends. In JSON: the text "forever"."""


class FaultError(ValueError):
    """A fault that cannot be: the message names the field and what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way in which calls go wrong; without arguments nothing does. Delays are in seconds.

    A chunk is one event of a stream that carries content; what stands before the first (a role, `message_start`) is
    always sent. `…_after_chunks=n` strikes when n chunks were sent, thus 0 before any content; an answer of fewer
    than n chunks is not struck. A whole body that is struck is sent in four pieces, which count as its chunks.
    """

    status: int | None = None
    """Answer with this status and, without `body`, with the provider's own error body for it."""
    error: str | None = None
    """Answer with one of the provider's own errors, by the name it has in the provider's `errors`."""
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to add to the answer, or to replace in it."""
    delay_before_headers: float = 0.0
    delay_before_content: float = 0.0
    """After the headers and what precedes the content of a stream."""
    delay_between_chunks: float = 0.0
    reset_before_headers: bool = False
    """Break the connection (RST) without an answer."""
    cut_after_chunks: int | None = None
    """Close the connection without an end to the body."""
    stall_after_chunks: int | None = None
    """Send nothing more, and keep the connection open."""
    end_after_chunks: int | None = None
    """End the body cleanly, but early: no finish_reason, no [DONE], no message_stop. An array is closed: it is the
    front end that writes it, and the model behind that ends."""
    malformed_chunk: int | None = None
    """Send rubbish in place of the chunk with this index, and go on."""
    error_after_chunks: int | None = None
    """Send an error event and end the stream; a whole answer becomes `error_in_body`."""
    truncated_body: bool = False
    """Announce a Content-Length, send half of it and close."""
    garbage_body: bool = False
    """Answer 200 with a page of HTML."""
    omit_terminator: bool = False
    """End a stream after its finish_reason without what says that it is over: [DONE], message_stop, or where there is
    neither, an array's bracket. Gemini's events have no such thing, and end as ever."""
    stall_before_end: bool = False
    """Send all of a stream, and keep the connection open in place of ending the body."""
    error_in_body: bool = False
    """Answer 200 with an error object."""
    redirect: str | None = None
    """Answer 307 (or `status`) with this Location."""
    share: float = 1.0
    """The part of the calls that are struck, evenly spread: 0.25 strikes every fourth, beginning with the fourth."""
    times: int | None = None
    """Strike so many calls, then no more."""

    def __post_init__(self) -> None:
        for name in _SECONDS:
            if math.isnan(getattr(self, name)) or getattr(self, name) < 0:
                raise FaultError(f"{name} takes a number of seconds that is not negative")
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 0:
                raise FaultError(f"{name} takes an integer that is not negative")
        if self.status is not None and not 200 <= self.status <= 599:
            raise FaultError("status takes an HTTP status from 200 to 599")
        if not 0 < self.share <= 1:
            raise FaultError("share takes a number above 0 and up to 1")
        if self.times == 0:
            raise FaultError("times takes an integer above 0")

    @classmethod
    def from_json(cls, document: object, presets: Mapping[str, Fault] | None = None) -> Fault:
        """The fault that a JSON object describes: fields of this class, on top of a `preset` if it names one.

        Raises FaultError.
        """
        if not isinstance(document, dict):
            raise FaultError("a fault is a JSON object")
        base = _preset(document["preset"], COMMON if presets is None else presets) if "preset" in document else cls()
        return replace(base, **{name: _value(name, value) for name, value in document.items() if name != "preset"})

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: the fields that are not as usual."""
        usual = Fault()
        return {
            name: _written(value)
            for name in (each.name for each in fields(self))
            if (value := getattr(self, name)) != getattr(usual, name)
        }


def _written(value: Any) -> Any:
    if value == FOREVER:
        return "forever"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return dict(value) if isinstance(value, Mapping) else value


def _preset(name: object, presets: Mapping[str, Fault]) -> Fault:
    if not isinstance(name, str) or name not in presets:
        raise FaultError(f"preset {name!r} is not known; known are {', '.join(sorted(presets))}")
    return presets[name]


_SECONDS = ("delay_before_headers", "delay_before_content", "delay_between_chunks")
_COUNTS = (
    "cut_after_chunks",
    "stall_after_chunks",
    "end_after_chunks",
    "malformed_chunk",
    "error_after_chunks",
    "times",
)
_FLAGS = (
    "reset_before_headers",
    "truncated_body",
    "garbage_body",
    "omit_terminator",
    "stall_before_end",
    "error_in_body",
)
_TEXTS = ("error", "redirect")


def _value(name: str, value: object) -> Any:
    """`value` as the field `name` takes it. Raises FaultError for an unknown field or a wrong type."""
    if name in _SECONDS:
        if value == "forever":
            return FOREVER
        return _expect(name, value, _is_number(value), 'a number of seconds, or "forever"')
    if name in _COUNTS or name == "status":
        return _expect(name, value, value is None or _is_integer(value), "an integer")
    if name in _FLAGS:
        return _expect(name, value, isinstance(value, bool), "true or false")
    if name in _TEXTS:
        return _expect(name, value, value is None or isinstance(value, str), "a text")
    if name == "share":
        return _expect(name, value, _is_number(value), "a number above 0 and up to 1")
    if name == "headers":
        good = isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
        return _expect(name, value, good, "an object of texts")
    if name == "body":
        return _expect(
            name, value, value is None or isinstance(value, (str, dict, list)), "a text, an object or a list"
        )
    raise FaultError(f"{name!r} is no field of a fault; fields are preset, {', '.join(f.name for f in fields(Fault))}")


def _expect(name: str, value: object, good: bool, wanted: str) -> object:
    if not good:
        raise FaultError(f"{name} takes {wanted}")
    return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


COMMON: dict[str, Fault] = {
    # Two seconds: slow for a breaker, and yet within the time in which a first byte may come.
    "slow": Fault(delay_before_headers=2.0),
    "slow_content": Fault(delay_before_content=2.0),
    "trickle": Fault(delay_between_chunks=0.5),
    "hang": Fault(delay_before_headers=FOREVER),
    "hang_before_content": Fault(delay_before_content=FOREVER),
    "reset": Fault(reset_before_headers=True),
    "cut": Fault(cut_after_chunks=1),
    "stall": Fault(stall_after_chunks=1),
    "ends_early": Fault(end_after_chunks=1),
    "malformed": Fault(malformed_chunk=0),
    "stream_error": Fault(error_after_chunks=1),
    "stream_error_at_once": Fault(error_after_chunks=0),
    "unterminated": Fault(omit_terminator=True),
    "unterminated_stall": Fault(omit_terminator=True, stall_before_end=True),
    "truncated": Fault(truncated_body=True),
    "garbage": Fault(garbage_body=True),
    "error_in_body": Fault(error_in_body=True),
    "redirect": Fault(redirect="https://elsewhere.invalid/"),
}
"""The presets of every provider; each adds one for each of its own errors."""


class Draw:
    """Decides which of the calls a fault strikes; without chance, so that a test can count on it."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._seen = 0
        self._struck = 0

    @property
    def used_up(self) -> bool:
        """Whether the fault has struck as often as it should."""
        return self.fault.times is not None and self._struck >= self.fault.times

    def strikes(self) -> bool:
        """Whether the next call is struck."""
        if self.used_up:
            return False
        before = self._due()
        self._seen += 1
        if self._due() == before:
            return False
        self._struck += 1
        return True

    def _due(self) -> int:
        # Ten times 0.1 is a little less than 1.
        return math.floor(self._seen * self.fault.share + 1e-9)
