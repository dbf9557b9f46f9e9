"""Errors of the proxy's own, in the shape that Google's clients know. Pure."""

from __future__ import annotations

import json

# google.rpc.Code by HTTP status, as Google's APIs answer them.
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def google_error(code: int, message: str, *, field: str | None = None) -> bytes:
    """A Google-shaped error body (google.rpc.Status as JSON); `field` becomes a BadRequest field violation."""
    error: dict[str, object] = {"code": code, "message": message, "status": _STATUSES[code]}
    if field is not None:
        error["details"] = [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": field, "description": message}],
            }
        ]
    return json.dumps({"error": error}).encode()


def google_status(body: bytes) -> str | None:
    """The `status` of a Google-shaped error body, an array of one included; None for anything else."""
    return _text_in(body, "status")


def google_message(body: bytes) -> str | None:
    """The `message` of a Google-shaped error body, an array of one included; None for anything else."""
    return _text_in(body, "message")


def _text_in(body: bytes, field: str) -> str | None:
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, dict) and isinstance(error := error.get("error"), dict):
        text = error.get(field)
        return text if isinstance(text, str) else None
    return None
