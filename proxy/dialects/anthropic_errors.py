"""Anthropic's errors, and whose fault they are.

Pure, but for a Retry-After that names a date. Source: Anthropic's documentation of its API's errors, November 2026.
Bodies may be anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from health.outcome import FailureReason, Outcome
from proxy.headers import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUSY = ("overloaded_error", "rate_limit_error")
_SPENT = frozenset(
    (
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    )
)
_REASONS = {
    400: FailureReason.REJECTED,
    401: FailureReason.UNAUTHORIZED,
    402: FailureReason.BILLING,
    403: FailureReason.FORBIDDEN,
    404: FailureReason.NOT_FOUND,
    413: FailureReason.REJECTED,
    422: FailureReason.REJECTED,
    429: FailureReason.THROTTLED,
    529: FailureReason.THROTTLED,
}


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What an answer of any other status than 200 counts as, by Anthropic's documentation of its errors.

    `body` may be anything. A spent budget comes as 429 or 400, too, and no waiting helps it.
    """
    reason = _REASONS.get(status, FailureReason.SERVER_ERROR)
    if status in (400, 403, 429) and _is_spent(_error(body), status):
        reason = FailureReason.BILLING
    if reason in (FailureReason.THROTTLED, FailureReason.SERVER_ERROR):
        return Outcome.failure(reason, retry_after(headers.get("retry-after") or headers.get("Retry-After")))
    return Outcome.failure(reason)


def error_type(body: bytes) -> str | None:
    """Anthropic's name for the error, as `overloaded_error`; None where the body does not say."""
    kind = _error(body).get("type")
    return kind if isinstance(kind, str) else None


def _error(body: bytes) -> dict[str, Any]:
    return _inner_error(json_object(body) or {})


def _inner_error(value: dict[str, Any]) -> dict[str, Any]:
    error = value.get("error")
    return error if isinstance(error, dict) else {}


def error_reason(event: dict[str, Any]) -> FailureReason:
    """What an error object counts as that came after the status 200."""
    return FailureReason.THROTTLED if _inner_error(event).get("type") in _BUSY else FailureReason.STREAM_ERROR


def _is_spent(error: dict[str, Any], status: int) -> bool:
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    if (isinstance(code, str) and code in _SPENT) or error.get("type") == "billing_error":
        return True
    # "Your credit balance is too low […]. Please go to Plans & Billing" is a 400 without a type of its own. A 429's
    # message may name billing, too, as the place where a limit is raised.
    message = str(error.get("message", "")).lower()
    return status == 400 and ("credit balance" in message or "billing" in message)


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that `body` is; None where it is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
