"""JSON as Google's front ends read it into protobuf messages, and what they say of JSON that does not fit.

Pure. A message is the table of its fields; each is taken in snake_case and in lowerCamelCase, a number as a text, an
enum as its number, and one value where a list is wanted (https://protobuf.dev/programming-guides/json).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .reply import Rejected
from .vertex_errors import bad_request

Reader = Callable[[Any, str], Any]
"""From a value and where it stands, as `contents[0].parts`, the value as its field holds it. Raises Rejected."""

TYPES = "type.googleapis.com/google.cloud.aiplatform.v1"


@dataclass(frozen=True, slots=True)
class Message:
    """A message type. As a reader it gives a dict by the fields' snake_case names, without those that are null."""

    name: str
    fields: Mapping[str, Reader]
    oneof: frozenset[str] = frozenset()
    """The fields of which only one may be set."""

    def __call__(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise misfit(where, f"{TYPES}.{self.name}", value)
        names = {spelling: field for field in self.fields for spelling in (field, camel(field))}
        read: dict[str, Any] = {}
        for spelling, each in value.items():
            if (field := names.get(spelling)) is None:
                raise unknown(spelling, where)
            if each is None:
                continue
            if field in self.oneof and (self.oneof & read.keys()):
                raise bad_request(
                    f"Invalid value at '{where}' (oneof), oneof field 'data' is already set. Cannot set '{spelling}'",
                    where,
                )
            read[field] = self.fields[field](each, f"{where}.{field}" if where else field)
        return read


def camel(name: str) -> str:
    """A field's name as JSON usually has it."""
    head, *rest = name.split("_")
    return head + "".join(each.capitalize() for each in rest)


def unknown(name: str, where: str, why: str = "Cannot find field.") -> Rejected:
    """400, for a name that the message at `where` does not have."""
    at = f" at '{where}'" if where else ""
    return bad_request(f'Invalid JSON payload received. Unknown name "{name}"{at}: {why}', where)


def misfit(where: str, kind: str, value: Any) -> Rejected:
    """400, for a value that is not of the field's type."""
    if isinstance(value, list):
        parent, _, name = where.rpartition(".")
        return unknown(name, parent, "Proto field is not repeating, cannot start list.")
    return bad_request(f"Invalid value at '{where}' ({kind}), {json.dumps(value)}", where)


def repeated(reader: Reader) -> Reader:
    """A list of what `reader` reads."""

    def read(value: Any, where: str) -> list[Any]:
        values = value if isinstance(value, list) else [value]
        return [reader(each, f"{where}[{index}]") for index, each in enumerate(values)]

    return read


def mapping(reader: Reader) -> Reader:
    """A map from texts to what `reader` reads."""

    def read(value: Any, where: str) -> dict[str, Any]:
        return {name: reader(each, f"{where}[{name!r}]") for name, each in struct(value, where).items()}

    return read


def enumeration(name: str, *values: str) -> Reader:
    """An enum whose numbers count from 0 in the order of `values`."""

    def read(value: Any, where: str) -> str:
        if isinstance(value, str) and value in values:
            return value
        if _is_number(value) and value in range(len(values)):
            return values[int(value)]
        raise misfit(where, f"{TYPES}.{name}", value)

    return read


def text(value: Any, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise misfit(where, "TYPE_STRING", value)
    return value


def flag(value: Any, where: str) -> bool:
    """A bool."""
    if not isinstance(value, bool):
        raise misfit(where, "TYPE_BOOL", value)
    return value


def integer(value: Any, where: str) -> int:
    """An int32; 128.0 and "128" are one too."""
    number = _number(value)
    if number is None or number != int(number) or not -(2**31) <= number < 2**31:
        raise misfit(where, "TYPE_INT32", value)
    return int(number)


def real(value: Any, where: str) -> float:
    """A float or a double."""
    if (number := _number(value)) is None:
        raise misfit(where, "TYPE_FLOAT", value)
    return number


def binary(value: Any, where: str) -> bytes:
    """Bytes in base64, of either alphabet."""
    if isinstance(value, str):
        try:
            plain = value.replace("-", "+").replace("_", "/").rstrip("=")
            return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise bad_request(f"Invalid value at '{where}' (TYPE_BYTES), Base64 decoding failed for {json.dumps(value)}", where)


def struct(value: Any, where: str) -> dict[str, Any]:
    """Any object."""
    if not isinstance(value, dict):
        raise misfit(where, "type.googleapis.com/google.protobuf.Struct", value)
    return value


def anything(value: Any, where: str) -> Any:
    """Any value at all."""
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    # json reads 1e999 as infinity; a body of the wire never holds a NaN.
    return float(value) if _is_number(value) and math.isfinite(value) else None
