"""Claude on Vertex: the Messages API, whose model is named in the path and whose version in the body.

Pure. What stands in for it is the same model at Anthropic itself, so that requests, answers and streams pass on as they
are: tools, images and thinking included. Unknown events and fields are passed over, as Anthropic's versioning policy
asks of clients.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from health.outcome import FailureReason
from proxy import sse
from proxy.dialects import anthropic_errors
from proxy.dialects.anthropic_usage import Counts
from proxy.dialects.base import Completion, FinishReason, Framing, InvalidRequest, Usage, Verbatim
from proxy.dialects.requests import count, json_object, typed
from proxy.dialects.stream import EVENTS_BEGIN_WITH, StreamMonitor, error_reason, parsed
from proxy.errors import google_error

if TYPE_CHECKING:
    from collections.abc import Callable

_ONLY_ON_VERTEX = ("anthropic_version", "anthropic_beta", "model")
_BETA = re.compile(r"[a-z0-9-]+")
_VERSION = re.compile(r"(?:-v\d+)?@(.+)")
_MOVING = ("default", "latest")
_STOP = sse.event(b'{"type":"message_stop"}', "message_stop")
_ERROR_TYPES = {503: "overloaded_error", 504: "timeout_error"}


def anthropic_model(model: str) -> str:
    """Anthropic's own name of a model of Vertex's: `claude-haiku-4-5@20251001` is `claude-haiku-4-5-20251001` there.

    Without a date the names are the same. Source: Anthropic's table of its models' names by platform.
    """
    name, version = _VERSION.sub("", model), _VERSION.search(model)
    return name if version is None or version[1] in _MOVING else f"{name}-{version[1]}"


class AnthropicVertex:
    """The dialect; see `Dialect` for the methods."""

    framing = Framing.EVENTS

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body, as far as the path and the header of a request to Anthropic need it.

        `stream` alone decides whether there is a stream, whatever the method: it is the model that reads it. Raises
        InvalidRequest that names the field.
        """
        request = json_object(body)
        if not typed(request, "messages", list, "a list"):
            raise InvalidRequest("messages", "there is no message")
        limit = count(request, "max_tokens")
        if limit is None:
            raise InvalidRequest("max_tokens", "max_tokens is not given")
        task = Verbatim(
            {field: value for field, value in request.items() if field not in _ONLY_ON_VERTEX} | {"max_tokens": limit},
            anthropic_model(model),
            _betas(request),
        )
        stream = typed(request, "stream", bool, "a boolean") or False
        return Completion(task=task, model=model, stream=stream, max_tokens=limit)

    def check(self, body: bytes) -> FailureReason | Usage:
        """What a whole answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED."""
        message = parsed(body)
        if (reason := _error_reason(message)) is not None:
            return reason
        if not isinstance(message, dict) or message.get("type") != "message" or _blocks(message) is None:
            return FailureReason.MALFORMED
        counts = Counts()
        counts.add(message.get("usage"))
        return counts.usage

    def text(self, body: bytes) -> str:
        """The text of a whole, well-formed answer."""
        return "".join(map(_text, _blocks(json.loads(body)) or ()))

    def monitor(self) -> MessageMonitor:
        """A fresh monitor for one stream, of Vertex's or of Anthropic's own: they are the same."""
        return MessageMonitor()

    def pass_on(self, body: bytes) -> bytes:
        """Anthropic's own whole answer, as the caller expects it."""
        return body

    def passing_monitor(self) -> StreamMonitor:
        """A fresh monitor for one stream of Anthropic's own; what it lets through is as the caller expects it."""
        return self.monitor()

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """Google's, which stands before the model."""
        return google_error(code, message, field=field)

    def stream_error(self, code: int, message: str) -> bytes:
        """Anthropic's error event, at which its library raises."""
        error = {"type": _ERROR_TYPES.get(code, "api_error"), "message": message}
        return sse.event(json.dumps({"type": "error", "error": error}).encode(), "error")


def _betas(request: dict[str, Any]) -> tuple[str, ...]:
    """The names in `anthropic_beta`, which go into a header; what is no name is left out, as of the caller's header."""
    given = request.get("anthropic_beta")
    names = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else []
    return tuple(name.strip() for name in names if isinstance(name, str) and _BETA.fullmatch(name.strip()))


def _error_reason(value: Any) -> FailureReason | None:
    """What an error counts as, Anthropic's or Google's; None for none."""
    if isinstance(value, dict) and value.get("type") == "error":
        return anthropic_errors.error_reason(value)
    return error_reason(value)


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The blocks of a message's content; None where they are not what they must be."""
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(block, dict) for block in content):
        return content
    return None


def _text(part: Any) -> str:
    """The text of a block of text, or of a delta of one."""
    text = part.get("text") if isinstance(part, dict) and part.get("type") in ("text", "text_delta") else None
    return text if isinstance(text, str) else ""


# --- streams


_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}


class MessageMonitor(StreamMonitor):
    """Watches the events of one message go by."""

    def __init__(self) -> None:
        super().__init__(sse.SSEReader(), begins_with=EVENTS_BEGIN_WITH)
        self._counts = Counts()
        self._begun = False

    def missing_end(self) -> bytes:
        """The event `message_stop`, where the message ended without it."""
        return b"" if self.terminated else _STOP

    def _see(self, event: sse.Event) -> bool:
        value = parsed(event.data)
        reason = _error_reason(value)
        if reason is None and event.name == "error":
            reason = FailureReason.STREAM_ERROR
        if reason is not None:
            self.failure = reason
            return False
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str):
            return False
        take = _EVENTS.get(kind)
        if take is None:
            return True
        if self._begun is (kind == "message_start"):
            return False
        return take(self, value)

    def _message_start(self, event: dict[str, Any]) -> bool:
        message = event.get("message")
        if not isinstance(message, dict):
            return False
        self._begun = True
        self._count(message.get("usage"))
        return True

    def _block_start(self, event: dict[str, Any]) -> bool:
        block = event.get("content_block")
        if not isinstance(block, dict):
            return False
        # All but text is content from its beginning on. A thought that is not shown, and a tool of the provider's, have
        # nothing else to say for seconds.
        kind = block.get("type")
        # What a caller's own tool is asked is written as text is.
        self.pausing = kind not in ("text", "tool_use")
        self._add(_text(block), content=kind != "text")
        return True

    def _block_delta(self, event: dict[str, Any]) -> bool:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return False
        self._add(_text(delta), content=delta.get("type") != "text_delta")
        return True

    def _add(self, text: str, *, content: bool) -> None:
        if text:
            self.texts.append(text)
        self.started = self.started or content or bool(text)

    def _message_delta(self, event: dict[str, Any]) -> bool:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return False
        self._count(event.get("usage"))
        if isinstance(reason := delta.get("stop_reason"), str):
            self.started = self.finished = True
            self.finish_reason = _FINISH_REASONS.get(reason, FinishReason.STOP)
        return True

    def _message_stop(self, _event: dict[str, Any]) -> bool:
        self.started = self.finished = self.terminated = True
        return True

    def _count(self, usage: Any) -> None:
        self._counts.add(usage)
        if isinstance(usage, dict):
            self.usage = self._counts.usage


_EVENTS: dict[str, Callable[[MessageMonitor, dict[str, Any]], bool]] = {
    "message_start": MessageMonitor._message_start,
    "content_block_start": MessageMonitor._block_start,
    "content_block_delta": MessageMonitor._block_delta,
    "message_delta": MessageMonitor._message_delta,
    "message_stop": MessageMonitor._message_stop,
}
"""Which events are looked into; `ping`, `content_block_stop` and what is yet to be invented pass."""
