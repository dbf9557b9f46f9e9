"""Claude behind Anthropic's Messages API: `POST /v1/messages`."""

from __future__ import annotations

import itertools
import re
import ssl
from collections.abc import Callable, Mapping, Set
from http import HTTPStatus
from typing import ClassVar

from .claude_errors import ERRORS, invalid, not_found, unauthenticated
from .claude_messages import compose, error_document, write
from .claude_models import MODELS, Capabilities
from .claude_rules import VERSION_WITHOUT_SAMPLING, VERSIONS, understand
from .record import RecordedRequest
from .reply import ProviderError, Rejected, Reply, compact, whole
from .server import SimulatedProvider

FOREIGN_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
FOREIGN_PREFIXES = ("x-goog-", "x-completion-proxy-")
BETA = re.compile(r"[a-z0-9-]+-\d{4}-\d{2}-\d{2}")
"""A feature's name in the header `anthropic-beta`."""
RETRIED = frozenset({408, 409, 429})


class SimulatedClaude(SimulatedProvider):
    """Anthropic's API with the models of November 2026."""

    name: ClassVar[str] = "claude"
    errors: ClassVar[Mapping[str, ProviderError]] = ERRORS

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(ssl_context=ssl_context)
        self.accepted_keys: Set[str] | None = None
        """The API keys that open the door; None for any that is not empty."""
        self.models: dict[str, Capabilities] = dict(MODELS)
        """What there is and what it takes; take one out to retire it."""
        self.strict_headers = True
        """Answer 400 to a request with a header that is none of Anthropic's business."""
        self.leaks: list[str] = []
        """The names of such headers, in lower case, as they came."""
        self.decorate: Callable[[str], str] | None = None
        """What the model makes of its answer, as to wrap it in prose or in a fence."""
        self.declines = False
        """Whether the model refuses to answer (stop_reason refusal)."""
        self._ids = itertools.count(1)

    def answer(self, request: RecordedRequest) -> Reply:
        """What Anthropic answers. Raises Rejected with its errors."""
        self._look_for_leaks(request)
        if request.raw_path.partition("?")[0] != "/v1/messages":
            raise Rejected(not_found("Not Found"))
        if request.method != "POST":
            raise Rejected(ProviderError(status=405, kind="invalid_request_error", message="Method Not Allowed"))
        self._authenticate(request)
        version = request.header("anthropic-version")
        if version is None:
            raise Rejected(invalid("anthropic-version: header is required"))
        if version not in VERSIONS:
            raise Rejected(invalid(f"anthropic-version: {version!r} is not a valid version"))
        for beta in (request.header("anthropic-beta") or "").split(","):
            if beta.strip() and not BETA.fullmatch(beta.strip()):
                raise Rejected(invalid(f"Unexpected value(s) `{beta.strip()}` for the `anthropic-beta` header."))
        if request.content_type != "application/json":
            raise Rejected(invalid("content-type: application/json is expected"))
        try:
            body = request.parse()
        except ValueError as error:
            raise Rejected(invalid(f"The request body is not valid JSON: {error}")) from error
        ask = understand(body, version, self.models)
        message = compose(ask, self.author, message_id=self._id("msg"), decorate=self.decorate, declines=self.declines)
        return write(message, {"request-id": self._id("req")}, stream=ask.stream)

    def render(self, error: ProviderError, request: RecordedRequest) -> Reply:
        """Anthropic's error object."""
        request_id = self._id("req")
        retried = error.status in RETRIED or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        headers = {"request-id": request_id, "x-should-retry": "true" if retried else "false", **error.headers}
        if error.text is not None:
            return whole(error.status, error.text.encode(), error.content_type, error.headers)
        document = error_document(error, request_id)
        return whole(error.status, compact(document), "application/json", headers)

    def error_with_status(self, status: int) -> ProviderError:
        """Anthropic's error for a status."""
        known = (error for error in ERRORS.values() if error.status == status)
        return next(known, ProviderError(status=status, kind="api_error", message="Unexpected error"))

    def _id(self, kind: str) -> str:
        return f"{kind}_01{next(self._ids):022d}"

    def _look_for_leaks(self, request: RecordedRequest) -> None:
        found = [name for name in (name.lower() for name, _ in request.headers) if _is_foreign(name)]
        if request.header("anthropic-version") == VERSION_WITHOUT_SAMPLING and request.header("x-api-key") is None:
            found = [name for name in found if name != "authorization"]
        self.leaks += found
        if found and self.strict_headers:
            raise Rejected(invalid(f"{found[0]}: this header is none of Anthropic's"))

    def _authenticate(self, request: RecordedRequest) -> None:
        key = request.header("x-api-key")
        if key is None and request.header("anthropic-version") == VERSION_WITHOUT_SAMPLING:
            scheme, _, token = (request.header("authorization") or "").partition(" ")
            key = token.strip() if scheme.lower() == "bearer" else None
        if not key:
            raise Rejected(unauthenticated("x-api-key header is required"))
        if self.accepted_keys is not None and key not in self.accepted_keys:
            raise Rejected(unauthenticated("invalid x-api-key"))


def _is_foreign(name: str) -> bool:
    return name in FOREIGN_HEADERS or name.startswith(FOREIGN_PREFIXES)
