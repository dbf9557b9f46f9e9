"""The errors of Vertex AI as Google words them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from .reply import ProviderError, Rejected, Reply, whole

JSON = "application/json; charset=UTF-8"

_RESOURCE = "projects/simulated/locations/us-central1/publishers/mistralai/models/codestral-2"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_NO_SUCH_PAGE = (
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    "<p><b>404.</b> <ins>That is an error.</ins>\n<p>The requested URL was not found on this server.\n"
)
_BAD_GATEWAY = (
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error 502 (Server Error)!!1</title>\n"
    "<p><b>502.</b> <ins>That is an error.</ins>\n<p>Please try again in 30 seconds.\n"
)


def _error(status: HTTPStatus | int, kind: str, message: str) -> ProviderError:
    return ProviderError(status=int(status), kind=kind, message=message)


def unauthenticated(reason: str) -> ProviderError:
    """401, for a token that is missing or not taken; `reason` is Google's word for which of them."""
    message = (
        "Request is missing required authentication credential."
        if reason == "CREDENTIALS_MISSING"
        else "Request had invalid authentication credentials."
    )
    return ProviderError(
        status=HTTPStatus.UNAUTHORIZED,
        kind="UNAUTHENTICATED",
        message=f"{message} Expected OAuth 2 access token, login cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        headers={"www-authenticate": 'Bearer realm="https://accounts.google.com/"'},
        details=[
            {
                "@type": _ERROR_INFO,
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": {"service": "aiplatform.googleapis.com"},
            }
        ],
    )


def not_found(resource: str) -> ProviderError:
    """404, for a model that never was or was retired."""
    return _error(
        HTTPStatus.NOT_FOUND,
        "NOT_FOUND",
        f"Publisher Model `{resource}` was not found or your project does not have access to it. Please ensure you are "
        "using a valid model version. For more information, see: "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
    )


def invalid_argument(message: str) -> Rejected:
    """400, for a request that Google or its model does not take."""
    return Rejected(_error(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", message))


def bad_request(message: str, field: str) -> Rejected:
    """400, for JSON that does not fit the message it should be; `field` is where."""
    violation = {**({"field": field} if field else {}), "description": message}
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
    return Rejected(
        ProviderError(status=HTTPStatus.BAD_REQUEST, kind="INVALID_ARGUMENT", message=message, details=details)
    )


def error_object(error: ProviderError) -> dict[str, Any]:
    """Google's error object, whole: `{"error": …}`."""
    details = {} if error.details is None else {"details": error.details}
    return {"error": {"code": error.status, "message": error.message, "status": error.kind, **details}}


def pretty(document: object) -> bytes:
    """JSON as Google's front ends write it."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")


def google(document: object) -> Reply:
    """An answer of the front end."""
    return whole(HTTPStatus.OK, pretty(document) + b"\n", JSON)


# The first error of a status is the one for `Fault(status=…)`.
ERRORS: dict[str, ProviderError] = {
    "invalid_argument": _error(400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "failed_precondition": _error(
        400, "FAILED_PRECONDITION", f"Project `simulated` is not allowed to use Publisher Model `{_RESOURCE}`"
    ),
    "unauthorized": unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED"),
    "forbidden": _error(
        403,
        "PERMISSION_DENIED",
        "Permission 'aiplatform.endpoints.predict' denied on resource "
        f"'//aiplatform.googleapis.com/{_RESOURCE}' (or it may not exist).",
    ),
    "not_found": not_found(_RESOURCE),
    "no_such_page": ProviderError(status=404, kind="NOT_FOUND", message="Not Found", text=_NO_SUCH_PAGE),
    "too_large": _error(413, "FAILED_PRECONDITION", "Request payload size exceeds the limit."),
    "throttled": _error(
        429,
        "RESOURCE_EXHAUSTED",
        "Resource exhausted. Please try again later. Please refer to "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
    ),
    "quota": _error(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model with base model: "
        "mistral-codestral. Please submit a quota increase request. "
        "https://cloud.google.com/vertex-ai/docs/generative-ai/quotas-genai.",
    ),
    "cancelled": _error(499, "CANCELLED", "The operation was cancelled."),
    "internal": _error(500, "INTERNAL", "Internal error encountered."),
    "unknown": _error(500, "UNKNOWN", "An unknown error occurred."),
    "bad_gateway": ProviderError(status=502, kind="UNKNOWN", message="Bad Gateway", text=_BAD_GATEWAY),
    "unavailable": _error(503, "UNAVAILABLE", "The service is currently unavailable."),
    "overloaded": _error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "deadline_exceeded": _error(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
"""By the name of the preset that strikes with it."""
