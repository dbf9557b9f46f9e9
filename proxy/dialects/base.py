"""What a caller asks for and what it is answered, in no provider's words; and what a wire dialect must offer.

Pure: bytes in, values out, and back. No I/O, no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from health.outcome import FailureReason
    from proxy.dialects.stream import StreamMonitor


class InvalidRequest(ValueError):
    """A body that cannot be understood, or asks for what cannot be expressed. `field` names what to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    REFUSAL = "refusal"


def sendable(text: str) -> str:
    """`text` with U+FFFD for the halves of surrogate pairs that editors cut: they are in no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text)
    return text


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `text` is not blank."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to be continued."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a file to be filled in: the code before and after the cursor. Both are untrusted text."""

    prefix: str
    suffix: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A request in the words of Anthropic's Messages API: sent on as it is, but for what only the path may say."""

    body: Mapping[str, Any] = field(repr=False)
    """Without model and version."""
    model: str
    """Anthropic's name of the model that is asked for."""
    betas: tuple[str, ...] = ()
    """What goes into the header anthropic-beta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a caller asks for."""

    task: Hole | Chat | Verbatim
    model: str
    """The name that the answer must carry."""
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stops: tuple[str, ...] = ()
    """Text at which the answer ends, itself left out. May be blank, as "\\n\\n"."""
    others: tuple[Completion, ...] = ()
    """What else the same request asks for, each to be answered by itself: more candidates, more instances."""
    include_usage: bool = True
    """Whether a stream ends by telling what was counted."""
    already: str = ""
    """What the caller has got of the answer from another upstream; the hole's prefix ends with it."""

    def times(self, choices: int) -> Completion:
        """The same, asked for so many times."""
        return self if choices == 1 else replace(self, others=(self,) * (choices - 1))

    def resumed(self, text: str) -> Completion:
        """What is left to ask for, of a hole, once the caller has got `text`."""
        assert isinstance(self.task, Hole)
        return replace(self, task=Hole(self.task.prefix + text, self.task.suffix), already=text)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider that served counted them."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished completion."""

    text: str
    finish_reason: FinishReason
    usage: Usage


class Framing(StrEnum):
    """How the parts of a stream are told apart."""

    EVENTS = "text/event-stream"
    """Server-sent events."""
    ARRAY = "application/json"
    """The elements of one JSON array."""


class StreamWriter(Protocol):
    """Writes one answer as a stream in the caller's dialect: `delta` any number of times, then `finish` once."""

    def delta(self, text: str) -> bytes:
        """The bytes of one part that carries `text` (not empty)."""

    def finish(self, finish_reason: FinishReason, usage: Usage) -> bytes:
        """The bytes that end the stream, terminator included."""


class Dialect(Protocol):
    """One wire dialect of the callers: what the proxy must know of it to judge what Vertex answers."""

    framing: Framing
    """How it streams; the values are the content types."""

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body. `model` is the one in the path.

        Raises InvalidRequest that names the field. A task that is `Verbatim` is read by a `VerbatimDialect` only, any
        other by a `TranslatedDialect`, one that streams by a `StreamedDialect`, a `Hole` that streams by a
        `ResumableDialect`.
        """

    def check(self, body: bytes) -> FailureReason | Usage:
        """Whether a whole answer is well-formed: MALFORMED, STREAM_ERROR for an error object, else what it counted."""

    def text(self, body: bytes) -> str:
        """The text of a whole, well-formed answer."""

    def monitor(self) -> StreamMonitor:
        """A fresh monitor for one stream."""

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """The body of an error of the proxy's own; `field` is what to change in the request."""

    def stream_error(self, code: int, message: str) -> bytes:
        """The bytes that say within a stream that it failed; b"" where the dialect has no such words."""


class VerbatimDialect(Dialect, Protocol):
    """A dialect whose requests are in the words of Anthropic's Messages API, as are the answers to them."""

    def pass_on(self, body: bytes) -> bytes:
        """Anthropic's whole answer as the caller expects it."""

    def passing_monitor(self) -> StreamMonitor:
        """A fresh monitor for one stream of Anthropic's; what it lets through is as the caller expects it."""


class TranslatedDialect(Dialect, Protocol):
    """A dialect in which the answers of another provider can be written."""

    def write(self, answers: Sequence[Answer], completion: Completion) -> bytes:
        """The whole answer as the caller expects it (application/json).

        `answers` are those to `completion` and to its `others`, in this order.
        """


class StreamedDialect(TranslatedDialect, Protocol):
    """One in which they can be streamed, too."""

    def stream_writer(self, completion: Completion, *, after: StreamMonitor | None = None) -> StreamWriter:
        """A writer for one streamed answer; `after` has watched the beginning, which the writer goes on from."""


class ResumableDialect(StreamedDialect, Protocol):
    """One that asks for a `Hole`, whose stream another upstream can finish."""

    def resume(self, body: bytes, text: str) -> bytes:
        """The request that asks Vertex for the rest of a streamed hole, once the caller has got `text`."""
