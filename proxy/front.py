"""Mistral's own API as a front for editors that know no Vertex: its two paths, led to one model on Vertex.

Pure. Continue, llm.nvim and others can be given a base URL and a key, and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import paths
from proxy.dialects.codestral import Codestral
from proxy.dialects.requests import json_object
from proxy.errors import google_message
from proxy.paths import Route, Wire

if TYPE_CHECKING:
    from proxy.dialects.base import Dialect

_PATHS = frozenset({"/v1/fim/completions", "/v1/chat/completions"})
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable",
    504: "timeout_error",
}


def is_front(raw_target: str) -> bool:
    """Whether a target is one of Mistral's own."""
    return raw_target.partition("?")[0] in _PATHS


@dataclass(frozen=True, slots=True)
class MistralFront:
    """The Vertex model that serves Mistral's own paths."""

    project: str
    location: str
    publisher: str
    model: str

    @property
    def route(self) -> Route:
        """Where the requests go."""
        return Route(self.location, self.model, Wire.CODESTRAL, streaming_method=False)

    def rewrite(self, body: bytes) -> tuple[str, bytes]:
        """The target and the body for Vertex, which knows the model by another name. Raises InvalidRequest."""
        request = json_object(body)
        request["model"] = paths.body_name(self.model)
        # Clients of OpenAI's, as Continue, ask for counts; Mistral's server gives them always and refuses the question.
        request.pop("stream_options", None)
        method = "streamRawPredict" if request.get("stream") is True else "rawPredict"
        request.setdefault("stream", False)
        target = paths.model_path(self.project, self.location, self.publisher, self.model, method)
        return target, json.dumps(request).encode()


class MistralApi(Codestral):
    """Codestral's dialect with the errors of Mistral's own API."""

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """Mistral's error object."""
        kind = _TYPES.get(code, "internal_server_error" if code >= 500 else "invalid_request_error")
        error = {"object": "error", "message": message, "type": kind, "param": field, "code": str(code)}
        return json.dumps(error).encode()

    def own_error(self, code: int, body: bytes) -> bytes:
        """The body of an error that Vertex answered: Google's in Mistral's shape, the model's own as it is."""
        message = google_message(body)
        return body if message is None else self.error(code, message)


FRONT_DIALECT: Dialect = MistralApi()
