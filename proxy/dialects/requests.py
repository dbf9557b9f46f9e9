"""Reading a caller's JSON: what every dialect asks of a field, with an error that names it. Pure."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from proxy.dialects.base import InvalidRequest

_T = TypeVar("_T")

MOST_STOPS = 64
"""Each is looked for in each piece of a streamed answer."""

MOST_CHOICES = 8
"""Answers to one request; each is a call."""

encode = json.JSONEncoder(separators=(",", ":")).encode

JSON_ONLY = "Answer with one JSON value and nothing else: no text before or after it, no code fence."


def json_object(body: bytes) -> dict[str, Any]:
    """The request. Raises InvalidRequest where it is no JSON object."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("body", "the body is not JSON") from error
    if not isinstance(request, dict):
        raise InvalidRequest("body", "the body is not a JSON object")
    return request


def typed(request: dict[str, Any], field: str, kind: type[_T], wanted: str) -> _T | None:
    """The field's value; None where it is missing or null."""
    value = request.get(field)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(field, f"{field} is not {wanted}")
    return value


def number(request: dict[str, Any], field: str, at_most: float = 1e15) -> float | None:
    """A number from 0 to `at_most`."""
    value = request.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= at_most:
        raise InvalidRequest(field, f"{field} is not a number that it can be")
    return float(value)


def count(request: dict[str, Any], field: str) -> int | None:
    """An integer, or what JSON writers that know but floats make of one (128.0)."""
    value = number(request, field)
    if value is not None and not value.is_integer():
        raise InvalidRequest(field, f"{field} is not an integer")
    return None if value is None else int(value)


def stops(request: dict[str, Any], field: str) -> tuple[str, ...]:
    """Stop strings, given as one or as a list; empty ones stop nothing."""
    stop = request.get(field)
    given = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise InvalidRequest(field, f"{field} is neither a string nor a list of strings")
    if len(given) > MOST_STOPS:
        raise InvalidRequest(field, f"more than {MOST_STOPS} stops cannot be looked for by the backup")
    return tuple(text for text in given if text)


def counted(usage: Any, read: str, written: str) -> tuple[int, int] | None:
    """The two counts of a provider's `usage`, what is no count as 0; None where there is none."""
    if not isinstance(usage, dict):
        return None
    counts = (usage.get(read), usage.get(written))
    first, second = (value if type(value) is int and value > 0 else 0 for value in counts)
    return first, second
