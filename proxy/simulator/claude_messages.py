"""What a Claude answers to a request that was understood: a message, whole or as events.

The same at Anthropic and at Vertex AI, whose Claude it is, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from . import model
from .claude_errors import ERRORS
from .claude_fim import read_task
from .claude_rules import Ask
from .reply import Kind, Part, ProviderError, Reply, compact, whole

_SIGNATURE = "RXJyb3JzIHNob3VsZCBuZXZlciBwYXNzIHNpbGVudGx5Lg=="


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One answer before it is written."""

    id: str
    model: str
    text: str | None
    """None for no block of text at all."""
    call: tuple[str, dict[str, Any]] | None
    """The name and the input of the tool that is used in place of an answer."""
    thought: bool
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
    stop_sequence: str | None
    input_tokens: int
    output_tokens: int


def compose(
    ask: Ask,
    author: model.Author,
    *,
    message_id: str,
    decorate: Callable[[str], str] | None = None,
    declines: bool = False,
) -> Message:
    """The message that answers `ask`.

    `decorate` is what the model makes of its text; one that `declines` refuses to answer.
    """
    spent = min(ask.max_tokens, model.THINKING_TOKENS - 1) if ask.thinks else 0
    left = ask.max_tokens - spent
    text, call, stop = None, None, None
    reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"] = "refusal"
    if not declines and ask.tool is not None:
        call, reason = (ask.tool.name, model.arguments(ask.tool.parameters, ask.text)), "tool_use"
    elif not declines:
        generation = model.generate(_written(ask, author, decorate), ask.stops, left)
        text, stop = generation.text or None, generation.stop
        reason = "max_tokens" if generation.finish == "length" else "end_turn" if stop is None else "stop_sequence"
    written = (text or "") if call is None else compact(call[1]).decode("utf-8", "surrogatepass")
    return Message(
        id=message_id,
        model=ask.model,
        text=text,
        call=call,
        thought=ask.thinks and left > 0,
        stop_reason=reason,
        stop_sequence=stop,
        input_tokens=ask.input_tokens,
        output_tokens=spent + model.tokens(written),
    )


def write(message: Message, headers: Mapping[str, str], *, stream: bool) -> Reply:
    """The answer on the wire; `headers` are the service's own."""
    return _stream(message, headers) if stream else _whole(message, headers)


def error_document(error: ProviderError, request_id: str) -> dict[str, Any]:
    """Anthropic's error object, whole."""
    return {"type": "error", "error": _error(error), "request_id": request_id}


def _written(ask: Ask, author: model.Author, decorate: Callable[[str], str] | None) -> str:
    """What the model writes when nothing stops it."""
    task = read_task(ask.text)
    text = author.chat(ask.text) if task is None else task.wrapped(author.complete(task.prefix, task.suffix))
    return (text if decorate is None else decorate(text)).removeprefix(ask.prefill)


def _whole(message: Message, headers: Mapping[str, str]) -> Reply:
    content: list[dict[str, Any]] = []
    if message.thought:
        content.append({"type": "thinking", "thinking": "", "signature": _SIGNATURE})
    if message.text is not None:
        content.append({"type": "text", "text": message.text})
    if message.call is not None:
        content.append({**_tool_use(message), "input": message.call[1]})
    document = {
        **_opening(message),
        "content": content,
        **_stopped(message),
        "usage": {**_usage(message.input_tokens), "output_tokens": message.output_tokens},
    }
    return whole(HTTPStatus.OK, compact(document), "application/json", headers)


def _stream(message: Message, headers: Mapping[str, str]) -> Reply:
    opening = {**_opening(message), "content": [], "stop_reason": None, "stop_sequence": None}
    opening["usage"] = {**_usage(message.input_tokens), "output_tokens": 1}
    index = int(message.thought)
    parts = [
        _event("message_start", Kind.HEAD, message=opening),
        *(_thinking() if message.thought else ()),
        *(_text(index, message.text) if message.call is None else _called(index, message)),
        _event("message_delta", Kind.TAIL, delta=_stopped(message), usage={"output_tokens": message.output_tokens}),
        _event("message_stop", Kind.TERMINATOR),
    ]
    return Reply(
        status=HTTPStatus.OK,
        headers={"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers},
        parts=tuple(parts),
        stream=True,
        error_event=_event("error", Kind.TAIL, error=_error(ERRORS["overloaded"])).data,
        malformed_event=b'event: content_block_delta\ndata: {"type": "content_block_de\n\n',
    )


def _error(error: ProviderError) -> dict[str, Any]:
    details = {} if error.details is None else {"details": error.details}
    return {"type": error.kind, "message": error.message, **details}


def _opening(message: Message) -> dict[str, Any]:
    return {"id": message.id, "type": "message", "role": "assistant", "model": message.model}


def _stopped(message: Message) -> dict[str, Any]:
    return {"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}


def _usage(input_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }


def _tool_use(message: Message) -> dict[str, Any]:
    name = "" if message.call is None else message.call[0]
    return {"type": "tool_use", "id": message.id.replace("msg", "toolu", 1), "name": name, "input": {}}


def _event(name: str, kind: Kind, **fields: object) -> Part:
    return Part(f"event: {name}\ndata: ".encode() + compact({"type": name, **fields}) + b"\n\n", kind)


def _thinking() -> tuple[Part, ...]:
    return (
        _event(
            "content_block_start",
            Kind.HEAD,
            index=0,
            content_block={"type": "thinking", "thinking": "", "signature": ""},
        ),
        _event("content_block_delta", Kind.HEAD, index=0, delta={"type": "signature_delta", "signature": _SIGNATURE}),
        _event("content_block_stop", Kind.HEAD, index=0),
    )


def _text(index: int, text: str | None) -> tuple[Part, ...]:
    if text is None:
        return (_event("ping", Kind.HEAD),)
    deltas = [{"type": "text_delta", "text": chunk} for chunk in model.chunks(text)]
    return _block(index, {"type": "text", "text": ""}, deltas)


def _called(index: int, message: Message) -> tuple[Part, ...]:
    written = "" if message.call is None else compact(message.call[1]).decode("utf-8", "surrogatepass")
    deltas = [{"type": "input_json_delta", "partial_json": chunk} for chunk in ["", *model.chunks(written)]]
    return _block(index, _tool_use(message), deltas)


def _block(index: int, start: dict[str, Any], deltas: list[dict[str, str]]) -> tuple[Part, ...]:
    return (
        _event("content_block_start", Kind.HEAD, index=index, content_block=start),
        _event("ping", Kind.HEAD),
        *(_event("content_block_delta", Kind.CONTENT, index=index, delta=delta) for delta in deltas),
        _event("content_block_stop", Kind.TAIL, index=index),
    )
