"""The errors of the Messages API as Anthropic words them."""

from __future__ import annotations

from http import HTTPStatus

from .reply import ProviderError, Rejected

_LIMITS = {
    f"anthropic-ratelimit-{what}-{which}": value
    for what, limit in (("requests", "4000"), ("tokens", "480000"), ("input-tokens", "400000"))
    for which, value in (("limit", limit), ("remaining", "0"), ("reset", "2026-11-24T06:00:00Z"))
}
_BAD_GATEWAY = (
    "<html>\n<head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1>cloudflare</body></html>\n"
)


def _error(status: HTTPStatus | int, kind: str, message: str) -> ProviderError:
    return ProviderError(status=int(status), kind=kind, message=message)


def invalid(message: str) -> ProviderError:
    """400, for a request that Claude does not take."""
    return _error(HTTPStatus.BAD_REQUEST, "invalid_request_error", message)


def refused(message: str) -> Rejected:
    """`invalid`, to be raised."""
    return Rejected(invalid(message))


def unauthenticated(message: str) -> ProviderError:
    """401."""
    return _error(HTTPStatus.UNAUTHORIZED, "authentication_error", message)


def not_found(what: str) -> ProviderError:
    """404, for a model that never was or was retired, and for a path that is none."""
    return _error(HTTPStatus.NOT_FOUND, "not_found_error", what)


# The first error of a status is the one for `Fault(status=…)`.
ERRORS: dict[str, ProviderError] = {
    "invalid_request": invalid("messages: Field required"),
    "unauthorized": unauthenticated("invalid x-api-key"),
    "billing": _error(402, "billing_error", "Your credit balance is too low to access the Anthropic API."),
    "forbidden": _error(
        403, "permission_error", "Your API key does not have permission to use the specified resource."
    ),
    "not_found": not_found("model: claude-retired"),
    "too_large": _error(413, "request_too_large", "Request exceeds the maximum size"),
    "throttled": ProviderError(
        status=429,
        kind="rate_limit_error",
        message="This request would exceed your organization's rate limit of 4,000 requests per minute.",
        headers={"retry-after": "2", **_LIMITS},
    ),
    "accelerated": ProviderError(
        status=429,
        kind="rate_limit_error",
        message="This request would exceed your organization's maximum usage increase rate. Please increase usage "
        "gradually.",
        headers={"retry-after": "2"},
    ),
    "spend_limit": ProviderError(
        status=429,
        kind="rate_limit_error",
        message="You have reached your specified API usage limits.",
        details={"error_code": "enforced_spend_limit_reached"},
    ),
    "internal": _error(500, "api_error", "Internal server error"),
    "bad_gateway": ProviderError(status=502, kind="api_error", message="Bad gateway", text=_BAD_GATEWAY),
    "unavailable": ProviderError(
        status=503,
        kind="api_error",
        message="Service unavailable",
        text="upstream connect error or disconnect/reset before headers. reset reason: overflow",
        content_type="text/plain",
    ),
    "timeout": _error(504, "timeout_error", "The request timed out while processing"),
    "overloaded": _error(529, "overloaded_error", "Overloaded"),
}
"""By the name of the preset that strikes with it."""
