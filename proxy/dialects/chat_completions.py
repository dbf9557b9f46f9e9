"""Chat completions in the shape that OpenAI gave them, and that Mistral's models speak on Vertex, too.

Pure, but for the clock and the source of ids. What the dialects of that shape share: messages, answers, chunks. The
shapes are those that the SDKs read.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from health.outcome import FailureReason
from proxy import sse
from proxy.dialects.base import Chat, Completion, FinishReason, Framing, InvalidRequest, Message, Usage, sendable
from proxy.dialects.requests import JSON_ONLY, MOST_CHOICES, count, counted, encode, typed
from proxy.dialects.stream import EVENTS_BEGIN_WITH, StreamMonitor, error_reason, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.dialects.base import Answer

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_WRITTEN_BY_MODELS = ("refusal", "thinking", "reference")
"""Chunks that a client sends back with an earlier answer; of these a refusal alone is part of the conversation."""
_NO_TOOLS = "tools cannot be answered by the backup"
_DONE = b"data: [DONE]\n\n"


def new_id() -> str:
    """32 hexadecimal digits, as Mistral's ids are."""
    return uuid.uuid4().hex


# --- requests


def choices_asked_for(request: dict[str, Any], *, stream: bool) -> int:
    """`n`. Raises InvalidRequest where so many cannot be had."""
    choices = count(request, "n") or 1
    if choices > 1 and stream:
        raise InvalidRequest("n", "more than one choice in a stream cannot be answered by the backup")
    if choices > MOST_CHOICES:
        raise InvalidRequest("n", f"more than {MOST_CHOICES} choices cannot be answered by the backup")
    return choices


def refuse_inexpressible(request: dict[str, Any]) -> None:
    """Raise InvalidRequest for what Claude cannot be asked in this shape."""
    for field in ("tools", "functions"):
        if request.get(field) and request.get("tool_choice") != "none":
            raise InvalidRequest(field, _NO_TOOLS)
    for field in ("logprobs", "top_logprobs"):
        if request.get(field):
            raise InvalidRequest(field, f"{field} cannot be answered by the backup")


def chat(request: dict[str, Any]) -> Chat:
    """The conversation; what `response_format` asks for is put into words."""
    given = typed(request, "messages", list, "a list")
    read = [_message(message) for message in given or ()]
    instruction = _instruction(request.get("response_format"))
    messages = tuple(message for message in read if message.text.strip())
    if not messages:
        raise InvalidRequest("messages", "there is no message with text")
    return Chat((Message("system", instruction), *messages) if instruction else messages)


def _message(message: Any) -> Message:
    if not isinstance(message, dict):
        raise InvalidRequest("messages", "a message is not an object")
    role = message.get("role")
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise InvalidRequest("messages", _NO_TOOLS)
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest("messages", f"the role {role!r:.40} is unknown")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(map(_chunk_text, content))
    if content is not None and not isinstance(content, str):
        raise InvalidRequest("messages", "a message's content is neither text nor a list of chunks")
    return Message(_ROLES[role], content or "")  # type: ignore[arg-type]


def _chunk_text(chunk: Any) -> str:
    if not isinstance(chunk, dict):
        raise InvalidRequest("messages", "a chunk of content is not an object")
    kind = chunk.get("type", "text")
    if kind in _WRITTEN_BY_MODELS:
        refusal = chunk.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    if kind != "text":
        raise InvalidRequest("messages", f"content of type {kind!r:.40} cannot be answered by the backup")
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
        return JSON_ONLY
    if kind != "json_schema" or not isinstance(described := response_format.get("json_schema"), dict):
        raise InvalidRequest("response_format", "neither text, json_object nor json_schema")
    return f"{JSON_ONLY} It fits this JSON schema:\n{encode(described.get('schema'))}"


# --- answers


def write(
    answers: Sequence[Answer],
    completion: Completion,
    *,
    answer_id: str,
    created: int,
    extra: dict[str, Any],
    repeats_opening: bool = True,
    refusal: str = "stop",
) -> bytes:
    """The whole answer. `created` is Unix time in seconds; `extra` goes into each message, `refusal` is the word for
    one."""
    head = opening(completion) if repeats_opening else ""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": sendable(head + answer.text), **extra},
            "finish_reason": finish_word(answer.finish_reason, refusal),
        }
        for index, answer in enumerate(answers)
    ]
    # The question was asked once, as the caller sees it.
    usage = Usage(answers[0].usage.input_tokens, sum(answer.usage.output_tokens for answer in answers))
    body = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": sendable(completion.model),
        "choices": choices,
        "usage": usage_object(usage),
    }
    return encode(body).encode()


def check(body: bytes) -> FailureReason | Usage:
    """What a whole answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED."""
    answer = parsed(body)
    if (reason := error_reason(answer)) is not None:
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
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            return FailureReason.MALFORMED
        says = any(value is not None for field, value in message.items() if field != "role")
        # A model may use up its limit, or be stopped by a filter, before it has said anything.
        if not says and not choice.get("finish_reason"):
            return FailureReason.MALFORMED
    return _counted(answer) or Usage()


def text_of(content: Any) -> str:
    """The text of a message's or a delta's content; of a chunked one, its text chunks."""
    if isinstance(content, list):
        return "".join(
            chunk["text"] for chunk in content if isinstance(chunk, dict) and isinstance(chunk.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def finish_word(reason: FinishReason, refusal: str = "stop") -> str:
    """`refusal` is the dialect's word for one; Mistral's has none."""
    if reason is FinishReason.REFUSAL:
        return refusal
    return "length" if reason is FinishReason.LENGTH else "stop"


def usage_object(usage: Usage) -> dict[str, int]:
    """The three counts."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def opening(completion: Completion) -> str:
    """The last message where it is the assistant's (`prefix: true`): Mistral begins its answer with it.

    Clients cut it off by its length, as Vercel's AI SDK does.
    """
    task = completion.task
    if isinstance(task, Chat) and task.messages[-1].role == "assistant":
        return task.messages[-1].text
    return ""


def _choices(value: Any) -> list[dict[str, Any]] | None:
    """The choices of an answer or chunk; None where they are not what they must be."""
    choices = value.get("choices") if isinstance(value, dict) else None
    if isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices):
        return choices
    return None


def _counted(value: dict[str, Any]) -> Usage | None:
    counts = counted(value.get("usage"), "prompt_tokens", "completion_tokens")
    return None if counts is None else Usage(*counts)


# --- streams


class ChunkWriter:
    """Writes one answer as chunks: the same id, model and time in all, usage at the end."""

    __slots__ = ("_apart", "_head", "_opening", "_refusal", "_role", "_usage")

    def __init__(
        self,
        completion: Completion,
        answer_id: str,
        created: int,
        *,
        after: ChunkMonitor | None = None,
        usage_apart: bool = False,
        repeats_opening: bool = True,
        refusal: str = "stop",
    ) -> None:
        """`created` is Unix time in seconds; `usage_apart`: the counts come in a chunk of their own, as OpenAI's do.

        `refusal` is the finish reason of a refusal.
        """
        begun = {} if after is None else after.identity
        fixed = {
            "id": begun.get("id", answer_id),
            "object": "chat.completion.chunk",
            "created": begun.get("created", created),
            "model": sendable(begun.get("model", completion.model)),
        }
        self._head = encode(fixed)[:-1]
        self._role = '"role":"assistant",' if after is None else ""
        self._opening = opening(completion) if after is None and repeats_opening else ""
        self._usage = completion.include_usage
        self._apart = usage_apart
        self._refusal = refusal

    def delta(self, text: str) -> bytes:
        """The bytes of one event that carries `text`; the first time with the role."""
        return self._repetition() + self._chunk(text, "null")

    def finish(self, finish_reason: FinishReason, usage: Usage) -> bytes:
        """The last chunk, or two, and the terminator."""
        repetition = self._repetition()
        counts = f',"usage":{encode(usage_object(usage))}' if self._usage else ""
        last = self._chunk("", f'"{finish_word(finish_reason, self._refusal)}"', "" if self._apart else counts)
        if self._apart and counts:
            last += sse.event(f'{self._head},"choices":[]{counts}}}'.encode())
        return repetition + last + _DONE

    def _repetition(self) -> bytes:
        text, self._opening = self._opening, ""
        return self._chunk(text, "null") if text else b""

    def _chunk(self, text: str, finish_reason: str, usage: str = "") -> bytes:
        role, self._role = self._role, ""
        delta = f'{role}"content":{encode(sendable(text))}'
        choice = f'"choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":{finish_reason}}}]'
        return sse.event(f"{self._head},{choice}{usage}}}".encode())


class ChunkMonitor(StreamMonitor):
    """Watches chunks go by."""

    def __init__(self) -> None:
        super().__init__(sse.SSEReader(), begins_with=EVENTS_BEGIN_WITH)
        self.identity: dict[str, Any] = {}
        """Id, model and time of the first chunk."""
        self._open: set[object] = set()
        self._ended: set[object] = set()

    def missing_end(self) -> bytes:
        """The terminator, where the last chunk came without it."""
        return b"" if self.terminated else _DONE

    def _see(self, event: sse.Event) -> bool:
        if event.name not in ("", "message"):
            if event.name == "error":
                self.failure = error_reason(parsed(event.data)) or FailureReason.STREAM_ERROR
            return self.failure is None
        if event.data.strip() == b"[DONE]":
            if self._open:
                self.started = self.finished = self.terminated = True
            return bool(self._open)
        chunk = parsed(event.data)
        if self._is_more_text(chunk):
            return True
        if (reason := error_reason(chunk)) is not None:
            self.failure = reason
            return False
        choices = _choices(chunk)
        if choices is None:
            # After content an object without choices is news that this version does not know.
            return self.started and isinstance(chunk, dict)
        if any(choice.get("finish_reason") == "error" for choice in choices):
            self.failure = FailureReason.STREAM_ERROR
            return False
        self._take(chunk, choices)
        return True

    def _is_more_text(self, chunk: Any) -> bool:
        """Take a chunk that is like nearly all of them: text of the first choice, and nothing else to say."""
        try:
            (choice,) = chunk["choices"]
            text = choice["delta"]["content"]
            if choice["index"] != 0 or choice["finish_reason"] is not None or type(text) is not str or not text:
                return False
        except (KeyError, TypeError, ValueError):
            return False
        if not self.identity or "error" in chunk or "usage" in chunk or not self.started or self.finished:
            return False
        self.texts.append(text)
        self.pausing = False
        return True

    def _take(self, chunk: dict[str, Any], choices: list[dict[str, Any]]) -> None:
        if not self.identity:
            kinds = {"id": str, "model": str, "created": int}
            self.identity = {name: chunk[name] for name, kind in kinds.items() if type(chunk.get(name)) is kind}
        if chunk.get("usage"):
            self.usage = _counted(chunk) or self.usage
        for choice in choices:
            index = str(choice.get("index"))
            self._open.add(index)
            if isinstance(delta := choice.get("delta"), dict):
                self._add(delta)
            if reason := choice.get("finish_reason"):
                self.started = True
                self._ended.add(index)
                self.finish_reason = FinishReason.LENGTH if "length" in str(reason) else FinishReason.STOP
        self.finished = self.terminated or (bool(self._ended) and self._ended >= self._open)

    def _add(self, delta: dict[str, Any]) -> None:
        content = delta.get("content")
        if content:
            self.texts.append(text_of(content))
        # Reasoning, a refusal or a tool's call is content as well, and a model that reasons may be silent for long.
        other = any(value for field, value in delta.items() if field not in ("role", "content"))
        if content or other:
            self.started = True
            self.pausing = not content and not delta.get("tool_calls")


class ChatCompletions:
    """What the dialects of this shape share; see `Dialect` for the methods."""

    framing = Framing.EVENTS

    def __init__(self, *, new_id: Callable[[], str] = new_id, clock: Callable[[], float] = time.time) -> None:
        """`new_id` makes an answer's id; `clock` tells Unix time in seconds."""
        self._new_id = new_id
        self._clock = clock

    def check(self, body: bytes) -> FailureReason | Usage:
        """What Vertex's whole answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED."""
        return check(body)

    def text(self, body: bytes) -> str:
        """The text of a whole, well-formed answer; of a chunked content, its text chunks."""
        return text_of(json.loads(body)["choices"][0]["message"].get("content"))

    def monitor(self) -> ChunkMonitor:
        """A fresh monitor for one stream of Vertex's."""
        return ChunkMonitor()
