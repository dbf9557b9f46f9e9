"""Codestral on Vertex AI: `rawPredict` and `streamRawPredict` of the publisher mistralai.

Two servers answer here, as they do in the field: Google's front end (authentication, models, JSON) with its error
object, and behind it the model's own, which is as strict about the body as a pydantic model that forbids extras.
"""

from __future__ import annotations

import itertools
import json
import re
import ssl
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote

from . import model
from .mistral_schema import schema_problems
from .record import RecordedRequest
from .reply import Kind, Part, ProviderError, Rejected, Reply, compact, whole
from .server import SimulatedProvider
from .vertex_errors import ERRORS, not_found, unauthenticated

PATH = re.compile(
    r"/v1(?:beta1)?/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/publishers/(?P<publisher>[^/]+)"
    r"/models/(?P<model>[^/:]+):(?P<method>rawPredict|streamRawPredict)"
)

KNOWN_MODELS: dict[str, frozenset[str]] = {
    "codestral@2405": frozenset({"codestral", "codestral-2405"}),
    "codestral-2405": frozenset({"codestral", "codestral-2405"}),
    "codestral-2501": frozenset({"codestral-2501"}),
    "codestral-2": frozenset({"codestral-2"}),
}
"""The models' names in the URL, and which names each takes in the body."""


@dataclass(frozen=True, slots=True)
class _Route:
    publisher: str
    model: str
    method: str
    resource: str

    @classmethod
    def of(cls, raw_path: str) -> _Route | None:
        match = PATH.fullmatch(raw_path.partition("?")[0])
        if match is None:
            return None
        named = {name: unquote(value) for name, value in match.groupdict().items()}
        resource = "projects/{project}/locations/{location}/publishers/{publisher}/models/{model}".format(**named)
        return cls(named["publisher"], named["model"], named["method"], resource)


class SimulatedVertex(SimulatedProvider):
    """Vertex AI with Mistral's code models."""

    name: ClassVar[str] = "vertex"
    errors: ClassVar[Mapping[str, ProviderError]] = ERRORS

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(ssl_context=ssl_context)
        self.accepted_tokens: Set[str] | None = None
        """The access tokens that open the door; None for any that is not empty."""
        self.models: dict[str, frozenset[str]] = dict(KNOWN_MODELS)
        """As `KNOWN_MODELS`; take one out to retire it."""
        self.errors_in_array = False
        """Wrap the errors of streaming methods in an array, as Google does at times."""
        self._ids = itertools.count(1)

    def answer(self, request: RecordedRequest) -> Reply:
        """What Vertex answers. Raises Rejected with Google's errors."""
        route = _Route.of(request.raw_path)
        if route is None or request.method != "POST":
            # No method of any API: the front end itself says so, in HTML.
            raise Rejected(ERRORS["no_such_page"])
        self._authenticate(request)
        if route.publisher != "mistralai" or route.model not in self.models:
            raise Rejected(not_found(route.resource))
        body = _object(request)
        problems = schema_problems(body, self.models[route.model])
        if problems:
            return whole(HTTPStatus.UNPROCESSABLE_ENTITY, compact({"detail": problems}), "application/json")
        return self._generated(body, route)

    def render(self, error: ProviderError, request: RecordedRequest) -> Reply:
        """Google's error object."""
        if error.text is not None:
            return whole(error.status, error.text.encode(), error.content_type, error.headers)
        document: Any = {"error": _google_error(error)}
        if self.errors_in_array and ":stream" in request.raw_path:
            document = [document]
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        return whole(error.status, text.encode(), "application/json; charset=UTF-8", error.headers)

    def error_with_status(self, status: int) -> ProviderError:
        """Google's error for a status."""
        known = (error for error in ERRORS.values() if error.status == status)
        return next(known, ProviderError(status=status, kind="UNKNOWN", message="The service answered unexpectedly."))

    def _authenticate(self, request: RecordedRequest) -> None:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Rejected(unauthenticated("CREDENTIALS_MISSING"))
        if self.accepted_tokens is not None and token.strip() not in self.accepted_tokens:
            raise Rejected(unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED"))

    def _generated(self, body: dict[str, Any], route: _Route) -> Reply:
        stop = body.get("stop") or ()
        generation = model.generate(
            _text(self.author, body), (stop,) if isinstance(stop, str) else tuple(stop), body.get("max_tokens")
        )
        common = {"id": f"{next(self._ids):032x}", "created": int(time.time()), "model": body["model"]}
        read, written = model.tokens(_question(body)), model.tokens(generation.text)
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        streams = body.get("stream")
        if streams or (streams is None and route.method == "streamRawPredict"):
            return _stream(common, generation, usage)
        message = {"role": "assistant", "content": generation.text, "tool_calls": None}
        choice = {"index": 0, "message": message, "finish_reason": generation.finish}
        answer = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
        return whole(HTTPStatus.OK, compact(answer), "application/json")


def _object(request: RecordedRequest) -> dict[str, Any]:
    """The body, a JSON object. Raises Rejected with INVALID_ARGUMENT."""
    if request.content_type != "application/json":
        raise Rejected(_invalid("Invalid content type; application/json is expected."))
    try:
        body = request.parse()
    except ValueError as error:
        raise Rejected(_invalid(f"Invalid JSON payload received. {error}")) from error
    if not isinstance(body, dict):
        raise Rejected(_invalid("Invalid JSON payload received. Root element must be a message."))
    return body


def _invalid(message: str) -> ProviderError:
    return ProviderError(status=HTTPStatus.BAD_REQUEST, kind="INVALID_ARGUMENT", message=message)


def _google_error(error: ProviderError) -> dict[str, Any]:
    details = {} if error.details is None else {"details": error.details}
    return {"code": error.status, "message": error.message, "status": error.kind, **details}


def _text(author: model.Author, body: dict[str, Any]) -> str:
    """What the model writes when nothing stops it."""
    if "messages" not in body:
        return author.complete(body["prompt"], body.get("suffix") or "")
    asked = [message for message in body["messages"] if message["role"] == "user"]
    return author.chat(_content(asked[-1]) if asked else "")


def _question(body: dict[str, Any]) -> str:
    if "messages" in body:
        return "".join(_content(message) for message in body["messages"])
    return str(body["prompt"]) + (body.get("suffix") or "")


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _stream(common: dict[str, Any], generation: model.Generation, usage: dict[str, int]) -> Reply:
    def event(kind: Kind, delta: dict[str, str], finish: str | None = None, **more: object) -> Part:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {**common, "object": "chat.completion.chunk", "choices": [choice], **more}
        return Part(b"data: " + compact(chunk) + b"\n\n", kind)

    parts = (
        event(Kind.HEAD, {"role": "assistant", "content": ""}),
        *(event(Kind.CONTENT, {"content": text}) for text in model.chunks(generation.text)),
        event(Kind.TAIL, {"content": ""}, generation.finish, usage=usage),
        Part(b"data: [DONE]\n\n", Kind.TERMINATOR),
    )
    return Reply(
        status=HTTPStatus.OK,
        headers={"content-type": "text/event-stream", "cache-control": "no-cache"},
        parts=parts,
        stream=True,
        error_event=b"data: " + compact({"error": _google_error(ERRORS["unavailable"])}) + b"\n\n",
        malformed_event=b'data: {"id": "' + str(common["id"]).encode() + b'", "choi\n\n',
    )
