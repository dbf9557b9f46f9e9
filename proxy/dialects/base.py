"""What a caller asks for and what it is answered, in no provider's words; and what a wire dialect must offer.

Pure: bytes in, values out, and back. No I/O, no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from health.outcome import FailureReason


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a caller asks for."""

    task: Hole | Chat
    model: str
    """The name that the answer must carry."""
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stops: tuple[str, ...] = ()
    """Text at which the answer ends, itself left out. May be blank, as "\\n\\n"."""


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


class StreamWriter(Protocol):
    """Writes one answer as a stream in the caller's dialect: `delta` any number of times, then `finish` once."""

    def delta(self, text: str) -> bytes:
        """The bytes of one event that carries `text` (not empty)."""

    def finish(self, finish_reason: FinishReason, usage: Usage) -> bytes:
        """The bytes that end the stream, terminator included."""


class StreamMonitor(Protocol):
    """Watches the bytes of an upstream's stream go by; tolerates any split of them and never raises on content.

    Feed it decoded (uncompressed) bytes.
    """

    started: bool
    """Content, or a proper finish without any, was seen: from here on the stream is worth sending."""
    finished: bool
    """The stream said that it is complete."""
    usage: Usage | None
    """What the upstream counted, once the stream has told it."""
    failure: FailureReason | None
    """An error event (STREAM_ERROR), or garbage before any content (MALFORMED)."""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""


class Dialect(Protocol):
    """One wire dialect of the callers."""

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body. `model` is the one in the path.

        Raises InvalidRequest that names the field.
        """

    def write(self, answer: Answer, completion: Completion) -> bytes:
        """The whole answer as the caller expects it (application/json)."""

    def stream_writer(self, completion: Completion) -> StreamWriter:
        """A writer for one streamed answer (text/event-stream)."""

    def check(self, body: bytes) -> FailureReason | Usage:
        """Whether a whole answer is well-formed: MALFORMED, STREAM_ERROR for an error object, else what it counted."""

    def text(self, body: bytes) -> str:
        """The text of a whole, well-formed answer."""

    def monitor(self) -> StreamMonitor:
        """A fresh monitor for one stream of the upstream."""
