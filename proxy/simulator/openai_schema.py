"""What the OpenAI-compatible endpoint of Vertex AI takes for a body.

Pure. Names are those of OpenAI's API, in one spelling; what the endpoint only ignores is taken all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from . import protobuf_json
from .protobuf_json import Reader, anything, flag, misfit, struct, text, unknown
from .vertex_errors import invalid_argument

Body = dict[str, Any]

STOPS = 5
_PARTS: dict[str, tuple[str, Reader]] = {
    "text": ("text", text),
    "image_url": ("image_url", struct),
    "input_audio": ("input_audio", struct),
    "file": ("file", struct),
}
"""By the type of a part of a content, the field that holds it."""


def understand(body: Body) -> Body:
    """A good body, without what is null. Raises Rejected."""
    request = _object(_FIELDS, body, "")
    for name in ("model", "messages"):
        if name not in request:
            raise invalid_argument(f"Request contains an invalid argument: {name} is required.")
    if "top_logprobs" in request and not request.get("logprobs"):
        raise invalid_argument("top_logprobs requires logprobs to be true.")
    if "stream_options" in request and not request.get("stream"):
        raise invalid_argument("stream_options may only be set when stream is true.")
    if request.get("tool_choice") not in (None, "none", "auto") and not request.get("tools"):
        raise invalid_argument("tool_choice may only be set when tools are given.")
    return request


def content_text(content: Any) -> str:
    """The text of a message's content."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _object(fields: Mapping[str, Reader], value: Any, where: str) -> Body:
    found = {}
    for name, each in struct(value, where).items():
        if name not in fields:
            raise unknown(name, where)
        if each is not None:
            found[name] = fields[name](each, f"{where}.{name}" if where else name)
    return found


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise misfit(where, "a list", value)
    return value


def _between(low: float, high: float) -> Reader:
    def check(value: Any, where: str) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise misfit(where, "TYPE_FLOAT", value)
        if not low <= value <= high:
            raise invalid_argument(f"{where} must be from {low:g} to {high:g}, not {value:g}.")
        return value

    return check


def _count(low: int, high: int) -> Reader:
    def check(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise misfit(where, "TYPE_INT32", value)
        if not low <= value <= high:
            raise invalid_argument(f"{where} must be from {low} to {high}, not {value}.")
        return value

    return check


def _stop(value: Any, where: str) -> list[str]:
    stops = [value] if isinstance(value, str) else _list(value, where)
    if len(stops) > STOPS:
        raise invalid_argument(f"{where} may have at most {STOPS} sequences, not {len(stops)}.")
    return [text(stop, f"{where}[{index}]") for index, stop in enumerate(stops)]


def _messages(value: Any, where: str) -> list[Body]:
    messages = [_message(each, f"{where}[{index}]") for index, each in enumerate(_list(value, where))]
    if not messages:
        raise invalid_argument(f"{where} must not be empty.")
    return messages


def _message(value: Any, where: str) -> Body:
    role = struct(value, where).get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid_argument(f"Invalid role in {where}: {role}. Use one of {', '.join(_ROLES)}.")
    message = _object(_ROLES[role], value, where)
    if not content_text(message.get("content")) and role != "tool" and not _has_other(message):
        raise invalid_argument(f"{where}.content must not be empty.")
    if role == "tool" and "tool_call_id" not in message:
        raise invalid_argument(f"{where}.tool_call_id is required.")
    return message


def _has_other(message: Body) -> bool:
    """Whether a message says something that is no text."""
    content = message.get("content")
    return bool(message.get("tool_calls")) or (
        isinstance(content, list) and any(part["type"] != "text" for part in content)
    )


def _content(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return value
    return [_part(each, f"{where}[{index}]") for index, each in enumerate(_list(value, where))]


def _part(value: Any, where: str) -> Body:
    kind = struct(value, where).get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        raise invalid_argument(f"Invalid type of {where}: {kind}.")
    name, reader = _PARTS[kind]
    part = _object({"type": text, name: reader, "cache_control": anything}, value, where)
    if name not in part:
        raise invalid_argument(f"{where}.{name} is required.")
    if kind == "image_url":
        text(part[name].get("url"), f"{where}.{name}.url")
    return part


def _calls(value: Any, where: str) -> list[Body]:
    function = {"name": text, "arguments": text}
    fields: dict[str, Reader] = {
        "id": text,
        "type": text,
        "index": anything,
        "function": lambda each, at: _object(function, each, at),
        "extra_content": struct,
    }
    return [_object(fields, each, f"{where}[{index}]") for index, each in enumerate(_list(value, where))]


def _tools(value: Any, where: str) -> list[Body]:
    function: dict[str, Reader] = {"name": text, "description": text, "parameters": struct, "strict": flag}
    fields: dict[str, Reader] = {"type": text, "function": lambda each, at: _object(function, each, at)}
    tools = [_object(fields, each, f"{where}[{index}]") for index, each in enumerate(_list(value, where))]
    for index, tool in enumerate(tools):
        if tool.get("type") != "function" or not tool.get("function", {}).get("name"):
            raise invalid_argument(f"{where}[{index}] must be a function with a name.")
    return tools


def _choice(value: Any, where: str) -> Any:
    if value in ("none", "auto", "required"):
        return value
    fields: dict[str, Reader] = {"type": text, "function": lambda each, at: _object({"name": text}, each, at)}
    choice = _object(fields, value, where)
    if not choice.get("function", {}).get("name"):
        raise invalid_argument(f"{where}.function.name is required.")
    return choice


_NAMED: dict[str, Reader] = {"role": text, "content": _content, "name": text}
_ROLES: dict[str, dict[str, Reader]] = {
    "system": _NAMED,
    "developer": _NAMED,
    "user": _NAMED,
    "assistant": {
        **_NAMED,
        "tool_calls": _calls,
        "refusal": text,
        "audio": struct,
        "annotations": anything,
        "function_call": struct,
        "extra_content": struct,
        "reasoning_content": text,
    },
    "tool": {**_NAMED, "tool_call_id": text},
}
_IGNORED = (
    "audio",
    "logit_bias",
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
)
_FIELDS: dict[str, Reader] = {
    "model": text,
    "messages": _messages,
    "max_tokens": _count(1, 2**20),
    "max_completion_tokens": _count(1, 2**20),
    "n": _count(1, 8),
    "frequency_penalty": _between(-2, 2),
    "presence_penalty": _between(-2, 2),
    "temperature": _between(0, 2),
    "top_p": _between(0, 1),
    "seed": protobuf_json.integer,
    "stop": _stop,
    "stream": flag,
    "stream_options": lambda value, where: _object({"include_usage": flag, "include_obfuscation": flag}, value, where),
    "logprobs": flag,
    "top_logprobs": _count(0, 20),
    "tools": _tools,
    "tool_choice": _choice,
    "response_format": struct,
    "reasoning_effort": text,
    "modalities": anything,
    "web_search_options": struct,
    "extra_body": struct,
    "google": struct,
    **dict.fromkeys(_IGNORED, anything),
}
