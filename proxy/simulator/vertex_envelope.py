"""The envelope in which google-cloud-aiplatform's REST client wraps what is not Google's: google.api.HttpBody.

`{"httpBody": {"contentType": …, "data": base64}}` asks, and `{"contentType": …, "data": base64}` answers, of a stream
one in each element of an array. The front end opens and closes it; the model behind knows nothing of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from . import protobuf_json
from .protobuf_json import Message, anything, binary, repeated, text
from .reply import ARRAY, Part, Reply, whole
from .vertex_errors import ERRORS, JSON, error_object, invalid_argument, pretty

_REQUEST = Message(
    "RawPredictRequest",
    {
        "endpoint": text,
        "http_body": Message("HttpBody", {"content_type": text, "data": binary, "extensions": repeated(anything)}),
    },
)
_NAMES = frozenset({"http_body", protobuf_json.camel("http_body")})


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
    """`reply` in an envelope; each of a stream holds an event, or so many bytes of the stream wherever they are cut."""
    if reply.status != HTTPStatus.OK:
        return reply
    headers = {**reply.headers, "content-type": JSON}
    if not reply.stream:
        return whole(reply.status, _element(reply, reply.body) + b"\n", JSON, headers)
    parts = reply.parts if size is None else _cut(reply.parts, size)
    return replace(
        reply,
        headers=headers,
        parts=tuple(replace(part, data=_element(reply, part.data)) for part in parts),
        framing=ARRAY,
        error_event=pretty(error_object(ERRORS["unavailable"])),
        malformed_event=b'{\n  "contentType": "text/ev',
    )


def _cut(parts: Sequence[Part], size: int) -> list[Part]:
    """The same bytes in parts of `size` bytes, each of the kind of that in which it ends."""
    cut: list[Part] = []
    held = b""
    for part in parts:
        held += part.data
        while len(held) >= size:
            cut.append(Part(held[:size], part.kind))
            held = held[size:]
    return [*cut, Part(held, parts[-1].kind)] if held else cut


def _element(reply: Reply, data: bytes) -> bytes:
    encoded = base64.b64encode(data).decode("ascii")
    return pretty({"contentType": reply.headers["content-type"], "data": encoded})
