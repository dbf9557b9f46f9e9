"""The envelope in which google-cloud-aiplatform's REST client wraps what is not Google's: google.api.HttpBody.

`{"httpBody": {"contentType": …, "data": base64}}` asks, and `{"contentType": …, "data": base64}` answers, of a stream
one in each element of an array. The front end opens and closes it; the model behind knows nothing of it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from . import protobuf_json
from .protobuf_json import Message, anything, binary, repeated, text
from .reply import Kind, Part, Reply, whole
from .vertex_errors import ERRORS, JSON, error_object, invalid_argument, pretty

_REQUEST = Message(
    "RawPredictRequest",
    {
        "endpoint": text,
        "http_body": Message("HttpBody", {"content_type": text, "data": binary, "extensions": repeated(anything)}),
    },
)
_NAMES = frozenset({"http_body", protobuf_json.camel("http_body")})
_SEPARATOR = b"\n,\r\n"


def opened(body: dict[str, Any]) -> dict[str, Any] | None:
    """The object inside the envelope, or None for a body that is not in one. Raises Rejected."""
    if not body.keys() & _NAMES:
        return None
    inside = _REQUEST(body, "").get("http_body", {})
    if inside.get("content_type", "").partition(";")[0].strip().lower() != "application/json":
        raise invalid_argument("Invalid content type; application/json is expected.")
    try:
        document = json.loads(inside.get("data", b""))
    except (ValueError, RecursionError) as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    if not isinstance(document, dict):
        raise invalid_argument("Invalid JSON payload received. Root element must be a message.")
    return document


def closed(reply: Reply, size: int | None) -> Reply:
    """`reply` in an envelope; one of a stream holds an event, or so many bytes of the stream wherever they are cut."""
    if reply.status != HTTPStatus.OK:
        return reply
    headers = {**reply.headers, "content-type": JSON}
    if not reply.stream:
        inside = _element(reply, reply.body)
        return whole(reply.status, inside + b"\n", JSON, headers)
    return replace(
        reply,
        headers=headers,
        parts=(Part(b"[", Kind.HEAD), *_elements(reply, size), Part(b"]", Kind.TAIL)),
        error_event=pretty(error_object(ERRORS["unavailable"])) + b"\n]",
        malformed_event=b'{\n  "contentType": "text/ev' + _SEPARATOR,
    )


def _elements(reply: Reply, size: int | None) -> list[Part]:
    """The parts of the stream, each in one or more elements, with what remains of it for the next where they are cut."""
    parts: list[Part] = []
    held = b""
    for part in reply.parts[:-1]:
        held += part.data
        end = len(held) if size is None else len(held) // size * size
        step = end if size is None else size
        pieces = [held[start : start + step] for start in range(0, end, step or 1)]
        held = held[end:]
        parts.append(Part(b"".join(_element(reply, piece) + _SEPARATOR for piece in pieces), part.kind))
    last = reply.parts[-1]
    return [*parts, Part(_element(reply, held + last.data) + b"\n", last.kind)]


def _element(reply: Reply, data: bytes) -> bytes:
    encoded = base64.b64encode(data).decode("ascii")
    return pretty({"contentType": reply.headers["content-type"], "data": encoded})
