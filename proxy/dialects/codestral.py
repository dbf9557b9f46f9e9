"""Codestral as Mistral's models speak on Vertex: fill-in-the-middle (`prompt`) and chat (`messages`).

Pure but for the clock and the source of ids, which are handed in. The shapes are those of Mistral's API, as its SDKs
1.12 and 3.7 read them.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

from health.outcome import FailureReason
from proxy import sse
from proxy.dialects.base import Answer, Chat, Completion, FinishReason, Hole, InvalidRequest, Message, Usage, sendable

if TYPE_CHECKING:
    from collections.abc import Callable

_ROLES = ("system", "user", "assistant")
_NO_TOOLS = "tools cannot be answered by the backup"
_JSON_ONLY = "Answer with one JSON value and nothing else: no text before or after it, no code fence."

_MOST_STOPS = 64
"""Each is looked for in each piece of a streamed answer."""

_T = TypeVar("_T")

_encode = json.JSONEncoder(separators=(",", ":")).encode


def _new_id() -> str:
    return uuid.uuid4().hex


class Codestral:
    """The dialect; see `Dialect` for the methods."""

    def __init__(self, *, new_id: Callable[[], str] = _new_id, clock: Callable[[], float] = time.time) -> None:
        """`new_id` makes an answer's id (Mistral's are 32 hexadecimal digits); `clock` tells Unix time in seconds."""
        self._new_id = new_id
        self._clock = clock

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body; unknown fields and `min_tokens` are passed over.

        Raises InvalidRequest that names the field.
        """
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("body", "the body is not JSON") from error
        if not isinstance(request, dict):
            raise InvalidRequest("body", "the body is not a JSON object")
        stream = _typed(request, "stream", bool, "a boolean")
        return Completion(
            task=_task(request),
            model=_typed(request, "model", str, "a string") or model,
            stream=streaming_method if stream is None else stream,
            max_tokens=_count(request, "max_tokens"),
            temperature=_number(request, "temperature"),
            top_p=_number(request, "top_p", at_most=1),
            stops=_stops(request.get("stop")),
        )

    def write(self, answer: Answer, completion: Completion) -> bytes:
        """The whole answer, for FIM in the shape of a chat's, too."""
        message = {"role": "assistant", "content": sendable(_continued(completion) + answer.text), "tool_calls": None}
        body = {
            "id": self._new_id(),
            "object": "chat.completion",
            "created": int(self._clock()),
            "model": sendable(completion.model),
            "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(answer.finish_reason)}],
            "usage": _usage(answer.usage),
        }
        return _encode(body).encode()

    def stream_writer(self, completion: Completion) -> ChunkWriter:
        """A writer for one streamed answer."""
        return ChunkWriter(completion, self._new_id(), int(self._clock()))

    def check(self, body: bytes) -> FailureReason | Usage:
        """What Vertex's whole answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED."""
        answer = _parsed(body)
        if (reason := _error_reason(answer)) is not None:
            return reason
        choices = _choices(answer)
        if not choices:
            return FailureReason.MALFORMED
        for choice in choices:
            if choice.get("finish_reason") == "error":
                return FailureReason.STREAM_ERROR
            message = choice.get("message")
            if not isinstance(message, dict):
                return FailureReason.MALFORMED
            if not isinstance(message.get("content"), str | list) and not message.get("tool_calls"):
                return FailureReason.MALFORMED
        return _counted(answer) or Usage()

    def text(self, body: bytes) -> str:
        """The text of a whole, well-formed answer; of a chunked content, its text chunks."""
        content = json.loads(body)["choices"][0]["message"].get("content")
        if isinstance(content, list):
            return "".join(
                chunk["text"] for chunk in content if isinstance(chunk, dict) and isinstance(chunk.get("text"), str)
            )
        return content if isinstance(content, str) else ""

    def monitor(self) -> ChunkMonitor:
        """A fresh monitor for one stream of Vertex's."""
        return ChunkMonitor()


class ChunkWriter:
    """Writes one answer as Mistral's chunks: the same id, model and time in all, usage on the last."""

    __slots__ = ("_continued", "_head", "_role")

    def __init__(self, completion: Completion, answer_id: str, created: int) -> None:
        """`created` is Unix time in seconds."""
        fixed = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": sendable(completion.model),
        }
        self._head = _encode(fixed)[:-1] + ',"choices":[{"index":0,"delta":{'
        self._role = '"role":"assistant",'
        self._continued = _continued(completion)

    def delta(self, text: str) -> bytes:
        """The bytes of one event that carries `text`; the first time with the role."""
        return self._repetition() + self._chunk(text, "null")

    def finish(self, finish_reason: FinishReason, usage: Usage) -> bytes:
        """The last chunk and the terminator."""
        repetition = self._repetition()
        last = self._chunk("", f'"{_finish_reason(finish_reason)}"', f',"usage":{_encode(_usage(usage))}')
        return repetition + last + b"data: [DONE]\n\n"

    def _repetition(self) -> bytes:
        text, self._continued = self._continued, ""
        return self._chunk(text, "null") if text else b""

    def _chunk(self, text: str, finish_reason: str, usage: str = "") -> bytes:
        text = sendable(text)
        role, self._role = self._role, ""
        content = _encode(text)
        return sse.event(
            f'{self._head}{role}"content":{content}}},"finish_reason":{finish_reason}}}]{usage}}}'.encode()
        )


_FINISH_REASON = re.compile(rb'"finish_reason"\s*:(?!\s*null)').search
_EVENT_STREAM_BEGINS_WITH = b"deir:\r\n\xef"
"""The first letters of the fields (data, event, id, retry), a comment, a blank line, or a byte order mark."""


class ChunkMonitor:
    """Watches Mistral's chunks go by."""

    __slots__ = ("_any_choice", "_at_start", "_events", "failure", "finished", "started", "usage")

    def __init__(self) -> None:
        self._events = sse.SSEReader()
        self._at_start = True
        self._any_choice = False
        self.started = False
        self.finished = False
        self.usage: Usage | None = None
        self.failure: FailureReason | None = None

    def feed(self, data: bytes) -> None:
        """Look at the next bytes, decoded."""
        if self.failure is not None or not data:
            return
        if self._at_start:
            self._at_start = False
            if data[0] not in _EVENT_STREAM_BEGINS_WITH:
                self.failure = FailureReason.MALFORMED
                return
        try:
            events = self._events.feed(data)
        except sse.EventTooLarge:
            self._events = sse.SSEReader()
            self._garbage()
            return
        for event in events:
            self._see(event)

    def _see(self, event: sse.Event) -> None:
        if self.failure is not None:
            return
        if event.name not in ("", "message"):
            if event.name == "error":
                self.failure = _error_reason(_parsed(event.data)) or FailureReason.STREAM_ERROR
            return
        if self.started and _is_mere_content(event.data):
            return
        if event.data.strip() == b"[DONE]":
            if self._any_choice:
                self.started = self.finished = True
            else:
                self._garbage()
            return
        chunk = _parsed(event.data)
        choices = _choices(chunk)
        if (reason := _error_reason(chunk)) is not None:
            self.failure = reason
        elif any(choice.get("finish_reason") == "error" for choice in choices or ()):
            self.failure = FailureReason.STREAM_ERROR
        elif choices is None:
            self._garbage()
        else:
            self._take(chunk, choices)

    def _take(self, chunk: dict[str, Any], choices: list[dict[str, Any]]) -> None:
        self.usage = _counted(chunk) or self.usage
        for choice in choices:
            self._any_choice = True
            delta = choice.get("delta")
            if choice.get("finish_reason"):
                self.started = self.finished = True
            elif isinstance(delta, dict) and (delta.get("content") or delta.get("tool_calls")):
                self.started = True

    def _garbage(self) -> None:
        # After content nothing can be repaired, and what the caller's client makes of it is its own affair.
        if not self.started:
            self.failure = FailureReason.MALFORMED


def _is_mere_content(data: bytes) -> bool:
    """Whether a chunk surely tells nothing but more content; by its bytes, for there are hundreds to an answer."""
    return data.startswith(b"{") and not (b'"error"' in data or b'"usage"' in data or _FINISH_REASON(data))


def _parsed(body: bytes) -> Any:
    """The JSON value; None for what is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _error_reason(value: Any) -> FailureReason | None:
    """What an error counts as: Google's, alone or in an array, or Mistral's. None for none; `"error": null` is none."""
    if isinstance(value, list):
        return _error_reason(value[0]) if value else None
    if not isinstance(value, dict) or not (value.get("error") or value.get("object") == "error"):
        return None
    error = value["error"] if isinstance(value.get("error"), dict) else value
    busy = error.get("status") == "RESOURCE_EXHAUSTED" or str(error.get("code")) == "429"
    return FailureReason.THROTTLED if busy else FailureReason.STREAM_ERROR


def _choices(value: Any) -> list[dict[str, Any]] | None:
    """The choices of an answer or chunk; None where they are not what they must be."""
    choices = value.get("choices") if isinstance(value, dict) else None
    if isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices):
        return choices
    return None


def _counted(value: dict[str, Any]) -> Usage | None:
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    return Usage(*(count if type(count) is int and count > 0 else 0 for count in counts))


def _finish_reason(reason: FinishReason) -> str:
    """Mistral's format has no word for a refusal."""
    return "length" if reason is FinishReason.LENGTH else "stop"


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _continued(completion: Completion) -> str:
    """The last message where it is the assistant's (`prefix: true`): Mistral begins its answer with it.

    Clients cut it off by its length, as Vercel's AI SDK does.
    """
    task = completion.task
    if isinstance(task, Chat) and task.messages[-1].role == "assistant":
        return task.messages[-1].text
    return ""


def _task(request: dict[str, Any]) -> Hole | Chat:
    if (choices := _count(request, "n")) is not None and choices > 1:
        raise InvalidRequest("n", "more than one choice cannot be answered by the backup")
    if request.get("tools"):
        raise InvalidRequest("tools", _NO_TOOLS)
    prompt = _typed(request, "prompt", str, "a string")
    if prompt is not None:
        return Hole(prompt, _typed(request, "suffix", str, "a string") or "")
    if request.get("messages") is None:
        raise InvalidRequest("prompt", "neither prompt nor messages is given")
    return Chat(_messages(request))


def _messages(request: dict[str, Any]) -> tuple[Message, ...]:
    given = _typed(request, "messages", list, "a list")
    read = [_message(message) for message in given or ()]
    instruction = _instruction(request.get("response_format"))
    messages = tuple(message for message in read if message.text.strip())
    if not messages:
        raise InvalidRequest("messages", "there is no message with text")
    return (Message("system", instruction), *messages) if instruction else messages


def _message(message: Any) -> Message:
    if not isinstance(message, dict):
        raise InvalidRequest("messages", "a message is not an object")
    role = message.get("role")
    if role == "tool" or message.get("tool_calls"):
        raise InvalidRequest("messages", _NO_TOOLS)
    if role not in _ROLES:
        raise InvalidRequest("messages", f"the role {role!r:.40} is unknown")
    content = message.get("content")
    if isinstance(content, list):
        return Message(role, "".join(map(_chunk_text, content)))
    if content is not None and not isinstance(content, str):
        raise InvalidRequest("messages", "a message's content is neither text nor a list of chunks")
    return Message(role, content or "")


def _chunk_text(chunk: Any) -> str:
    if not isinstance(chunk, dict):
        raise InvalidRequest("messages", "a chunk of content is not an object")
    if chunk.get("type", "text") != "text":
        raise InvalidRequest("messages", f"content of type {chunk['type']!r:.40} cannot be answered by the backup")
    text = chunk.get("text")
    if not isinstance(text, str):
        raise InvalidRequest("messages", "a chunk of text has no text")
    return text


def _instruction(response_format: Any) -> str:
    """What `response_format` asks for, in words; Claude is not told it otherwise."""
    if response_format is None:
        return ""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return ""
    if kind == "json_object":
        return _JSON_ONLY
    if kind != "json_schema" or not isinstance(described := response_format.get("json_schema"), dict):
        raise InvalidRequest("response_format", "neither text, json_object nor json_schema")
    return f"{_JSON_ONLY} It fits this JSON schema:\n{_encode(described.get('schema'))}"


def _typed(request: dict[str, Any], field: str, kind: type[_T], wanted: str) -> _T | None:
    value = request.get(field)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(field, f"{field} is not {wanted}")
    return value


def _number(request: dict[str, Any], field: str, at_most: float = 1e15) -> float | None:
    value = request.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= at_most:
        raise InvalidRequest(field, f"{field} is not a number that it can be")
    return float(value)


def _count(request: dict[str, Any], field: str) -> int | None:
    """An integer, or what JSON writers that know but floats make of one (128.0)."""
    value = _number(request, field)
    if value is not None and not value.is_integer():
        raise InvalidRequest(field, f"{field} is not an integer")
    return None if value is None else int(value)


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise InvalidRequest("stop", "stop is neither a string nor a list of strings")
    if len(stops) > _MOST_STOPS:
        raise InvalidRequest("stop", f"more than {_MOST_STOPS} stops cannot be looked for by the backup")
    return tuple(text for text in stops if text)
