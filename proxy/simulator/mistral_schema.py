"""What Mistral's model server takes for a body, and what it says of one that it does not take.

Pure. Extras are forbidden and nothing is converted: a proxy that lets a parameter through, or that changes its type,
is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

Problem = dict[str, Any]
Check = Callable[[str, Any], list[Problem]]


def schema_problems(body: dict[str, Any], names: Collection[str]) -> list[Problem]:
    """The `detail` of a 422, empty for a good body. `names` are what the model of the URL may be called in the body."""
    fields, required = (_CHAT, "messages") if "messages" in body else (_FIM, "prompt")
    problems = [_problem("missing", name, "Field required") for name in ("model", required) if name not in body]
    for name, value in body.items():
        check = fields.get(name)
        if check is None:
            problems.append(_problem("extra_forbidden", name, "Extra inputs are not permitted"))
        elif value is not None or name in _NEVER_NULL:
            problems += check(name, value)
    if not problems and body["model"] not in names:
        problems.append(_problem("value_error", "model", f"Value error, invalid model: {body['model']}"))
    return problems


def _problem(kind: str, name: str, message: str, *where: str | int) -> Problem:
    return {"type": kind, "loc": ["body", name, *where], "msg": message}


def _text(name: str, value: Any) -> list[Problem]:
    return [] if isinstance(value, str) else [_problem("string_type", name, "Input should be a valid string")]


def _flag(name: str, value: Any) -> list[Problem]:
    return [] if isinstance(value, bool) else [_problem("bool_type", name, "Input should be a valid boolean")]


def _object(name: str, value: Any) -> list[Problem]:
    return [] if isinstance(value, dict) else [_problem("dict_type", name, "Input should be a valid dictionary")]


def _anything(name: str, value: Any) -> list[Problem]:
    return []


def _count(name: str, value: Any) -> list[Problem]:
    if not isinstance(value, int) or isinstance(value, bool):
        return [_problem("int_type", name, "Input should be a valid integer")]
    if value < 0:
        return [_problem("greater_than_equal", name, "Input should be greater than or equal to 0")]
    return []


def _between(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> list[Problem]:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return [_problem("float_type", name, "Input should be a valid number")]
        if value < low:
            return [_problem("greater_than_equal", name, f"Input should be greater than or equal to {low:g}")]
        if value > high:
            return [_problem("less_than_equal", name, f"Input should be less than or equal to {high:g}")]
        return []

    return check


def _stop(name: str, value: Any) -> list[Problem]:
    if isinstance(value, str):
        return []
    if not isinstance(value, list):
        return [_problem("list_type", name, "Input should be a valid list or string")]
    return [
        _problem("string_type", name, "Input should be a valid string", index)
        for index, stop in enumerate(value)
        if not isinstance(stop, str)
    ]


def _messages(name: str, value: Any) -> list[Problem]:
    if not isinstance(value, list):
        return [_problem("list_type", name, "Input should be a valid list")]
    if not value:
        return [_problem("too_short", name, "List should have at least 1 item after validation, not 0")]
    return [problem for index, message in enumerate(value) for problem in _message(name, index, message)]


def _message(name: str, index: int, message: Any) -> list[Problem]:
    if not isinstance(message, dict):
        return [_problem("dict_type", name, "Input should be a valid dictionary", index)]
    if message.get("role") not in ("system", "user", "assistant", "tool"):
        return [_problem("union_tag_invalid", name, "Input tag does not match any of the expected tags", index)]
    content = message.get("content")
    if isinstance(content, list) and all(_is_text_part(part) for part in content):
        return []
    if isinstance(content, str) or (content is None and message["role"] == "assistant"):
        return []
    return [_problem("string_type", name, "Input should be a valid string", index, "content")]


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


_NEVER_NULL = frozenset({"model", "prompt", "messages", "stream"})

_COMMON: dict[str, Check] = {
    "model": _text,
    "max_tokens": _count,
    "temperature": _between(0, 1.5),
    "top_p": _between(0, 1),
    "stop": _stop,
    "stream": _flag,
    "random_seed": _count,
    "metadata": _object,
}
_FIM: dict[str, Check] = {**_COMMON, "prompt": _text, "suffix": _text, "min_tokens": _count}
_CHAT: dict[str, Check] = {
    **_COMMON,
    "messages": _messages,
    "frequency_penalty": _between(-2, 2),
    "presence_penalty": _between(-2, 2),
    "n": _count,
    "response_format": _object,
    "tools": _anything,
    "tool_choice": _anything,
    "parallel_tool_calls": _flag,
    "prediction": _object,
    "prompt_mode": _text,
    "safe_prompt": _flag,
    "reasoning_effort": _text,
}
