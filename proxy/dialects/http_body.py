"""google.api.HttpBody as JSON: any body at all, as base64 in `{"contentType": …, "data": …}`. Pure."""

from __future__ import annotations

import base64
import json
from typing import Any


def enveloped(data: bytes, content_type: str) -> bytes:
    """The HttpBody that holds `data`."""
    return json.dumps({"contentType": content_type, "data": base64.b64encode(data).decode()}).encode()


def decoded(http_body: Any) -> bytes | None:
    """The data within, of either alphabet of base64, padded or not; None for what is no HttpBody."""
    data = http_body.get("data", "") if isinstance(http_body, dict) else None
    if not isinstance(data, str):
        return None
    plain = data.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return None


def is_json(data: bytes) -> bool:
    """Whether data are, or begin, a whole answer: no event stream begins so."""
    return data.lstrip()[:1] in (b"{", b"[")
