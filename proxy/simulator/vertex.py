"""Vertex AI's front end: who may come in, which model is meant, and what is JSON at all.

Behind it the models' own servers answer, each as strict about the body as it is in the field: vertex_mistral.py,
vertex_predict.py, vertex_gemini.py, vertex_claude.py, vertex_openai.py. Errors are Google's, but for those of a model.
"""

from __future__ import annotations

import itertools
import re
import ssl
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

from . import vertex_claude, vertex_envelope, vertex_gemini, vertex_mistral, vertex_openai, vertex_predict
from .claude_models import Capabilities
from .gemini_rules import MODELS as GEMINI_MODELS
from .gemini_rules import GeminiModel
from .openai_schema import understand
from .record import RecordedRequest
from .reply import ProviderError, Rejected, Reply, whole
from .server import SimulatedProvider
from .vertex_errors import ERRORS, JSON, error_object, invalid_argument, not_found, pretty, unauthenticated

_PLACE = r"/v1(?:beta1)?/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
PATH = re.compile(
    _PLACE + r"/publishers/(?P<publisher>[^/]+)/models/(?P<model>[^/:]+):"
    r"(?P<method>rawPredict|streamRawPredict|predict|generateContent|streamGenerateContent|countTokens)"
)
OPENAI_PATH = re.compile(_PLACE + r"/endpoints/openapi/chat/completions")

KNOWN_MODELS: dict[str, frozenset[str]] = {
    "codestral@2405": frozenset({"codestral", "codestral-2405"}),
    "codestral-2405": frozenset({"codestral", "codestral-2405"}),
    "codestral-2501": frozenset({"codestral-2501"}),
    "codestral-2": frozenset({"codestral-2"}),
}
"""Mistral's models by their names in the URL, and which names each takes in the body."""
RAW = frozenset({"rawPredict", "streamRawPredict"})
"""The methods by which a model's own format passes."""
PREDICTING = frozenset({"code-gecko@002", "text-embedding-005"})
"""Google's models behind `:predict`."""


@dataclass(frozen=True, slots=True)
class _Route:
    publisher: str
    model: str
    method: str
    resource: str
    wire: vertex_gemini.Wire

    @classmethod
    def of(cls, raw_path: str) -> _Route | None:
        match = PATH.fullmatch(raw_path.partition("?")[0])
        if match is None:
            return None
        named = {name: unquote(value) for name, value in match.groupdict().items()}
        resource = "projects/{project}/locations/{location}/publishers/{publisher}/models/{model}".format(**named)
        return cls(named["publisher"], named["model"], named["method"], resource, vertex_gemini.Wire.of(raw_path))


class SimulatedVertex(SimulatedProvider):
    """Vertex AI with the models of Mistral, Google, Anthropic and others."""

    name: ClassVar[str] = "vertex"
    errors: ClassVar[Mapping[str, ProviderError]] = ERRORS

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(ssl_context=ssl_context)
        self.accepted_tokens: Set[str] | None = None
        """The access tokens that open the door; None for any that is not empty."""
        self.models: dict[str, frozenset[str]] = dict(KNOWN_MODELS)
        """As `KNOWN_MODELS`; take one out to retire it. So with the models of the others."""
        self.gemini_models: dict[str, GeminiModel] = dict(GEMINI_MODELS)
        self.predicting_models: set[str] = set(PREDICTING)
        self.claude_models: dict[str, Capabilities] = dict(vertex_claude.CLAUDE_MODELS)
        self.openai_models: set[str] = set(vertex_openai.OPENAI_MODELS)
        self.errors_in_array = False
        """Wrap the errors of streaming methods in an array, as Google does at times; Gemini's always are."""
        self.block_prompts = False
        """Gemini answers no prompt: 200 with `promptFeedback` and no candidates."""
        self.envelope_bytes: int | None = None
        """So many bytes of a stream go into each envelope, wherever an event is cut; None for one event."""
        self._ids = itertools.count(1)

    def answer(self, request: RecordedRequest) -> Reply:
        """What Vertex answers. Raises Rejected with Google's errors."""
        route = _Route.of(request.raw_path)
        is_chat = OPENAI_PATH.fullmatch(request.raw_path.partition("?")[0]) is not None
        if (route is None and not is_chat) or request.method != "POST":
            # No method of any API: the front end itself says so, in HTML.
            raise Rejected(ERRORS["no_such_page"])
        self._authenticate(request)
        if route is None:
            return self._chat_completion(_object(request))
        handle = self._model(route)
        body = _object(request)
        inside = vertex_envelope.opened(body) if route.method in RAW else None
        if inside is None:
            return handle(body, route)
        return vertex_envelope.closed(handle(inside, route), self.envelope_bytes)

    def render(self, error: ProviderError, request: RecordedRequest) -> Reply:
        """Google's error object."""
        if error.text is not None:
            return whole(error.status, error.text.encode(), error.content_type, error.headers)
        document: Any = error_object(error)
        if self._puts_errors_in_array(request.raw_path):
            document = [document]
        return whole(error.status, pretty(document) + b"\n", JSON, error.headers)

    def error_with_status(self, status: int) -> ProviderError:
        """Google's error for a status."""
        known = (error for error in ERRORS.values() if error.status == status)
        return next(known, ProviderError(status=status, kind="UNKNOWN", message="The service answered unexpectedly."))

    def _puts_errors_in_array(self, raw_path: str) -> bool:
        path = raw_path.partition("?")[0]
        if OPENAI_PATH.fullmatch(path):
            return True
        if path.endswith(":streamGenerateContent"):
            return not vertex_gemini.Wire.of(raw_path).sse
        return self.errors_in_array and ":stream" in path

    def _authenticate(self, request: RecordedRequest) -> None:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Rejected(unauthenticated("CREDENTIALS_MISSING"))
        if self.accepted_tokens is not None and token.strip() not in self.accepted_tokens:
            raise Rejected(unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED"))

    def _model(self, route: _Route) -> Callable[[dict[str, Any], _Route], Reply]:
        """The server of the model that is meant. Raises Rejected where there is none, or none with that method."""
        methods: Collection[str]
        handle: Callable[[dict[str, Any], _Route], Reply]
        match route.publisher, route.model:
            case "mistralai", name if name in self.models:
                methods, handle = RAW, self._mistral
            case "anthropic", name if name in self.claude_models or name == vertex_claude.COUNTER:
                methods, handle = RAW, self._claude
            case "google", name if name in self.gemini_models:
                methods, handle = ("generateContent", "streamGenerateContent", "countTokens"), self._gemini
            case "google", name if name in self.predicting_models:
                methods, handle = ("predict",), self._predict
            case _:
                raise Rejected(not_found(route.resource))
        if route.method not in methods:
            raise invalid_argument(f"Publisher Model `{route.resource}` does not support {route.method}.")
        return handle

    def _mistral(self, body: dict[str, Any], route: _Route) -> Reply:
        streams = route.method == "streamRawPredict"
        names = self.models[route.model]
        return vertex_mistral.answer(body, names, self.author, answer_id=self._id(32), streams=streams)

    def _predict(self, body: dict[str, Any], route: _Route) -> Reply:
        return vertex_predict.predict(body, route.model, self.author)

    def _gemini(self, body: dict[str, Any], route: _Route) -> Reply:
        if route.method == "countTokens":
            return vertex_gemini.count(body)
        can = self.gemini_models[route.model]
        gemini = vertex_gemini.Gemini(name=route.model, can=can, author=self.author, blocks=self.block_prompts)
        answer = gemini.generate if route.method == "generateContent" else gemini.stream
        return answer(body, route.wire, self._id(22))

    def _claude(self, body: dict[str, Any], route: _Route) -> Reply:
        request_id = f"req_vrtx_01{self._id(22)}"
        try:
            if route.model == vertex_claude.COUNTER:
                return vertex_claude.count_tokens(body, self.claude_models, request_id=request_id)
            return vertex_claude.answer(
                body,
                route.model,
                self.claude_models,
                self.author,
                message_id=f"msg_vrtx_01{self._id(22)}",
                request_id=request_id,
            )
        except Rejected as rejection:
            return vertex_claude.refusal(rejection.error, request_id)

    def _chat_completion(self, body: dict[str, Any]) -> Reply:
        request = understand(body)
        publisher, _, name = request["model"].partition("/")
        known = name in self.gemini_models if publisher == "google" else request["model"] in self.openai_models
        if not known:
            raise Rejected(not_found(f"publishers/{publisher}/models/{name}"))
        return vertex_openai.answer(request, self.author, answer_id=self._id(22))

    def _id(self, length: int) -> str:
        return f"{next(self._ids):0{length}x}"


def _object(request: RecordedRequest) -> dict[str, Any]:
    """The body, a JSON object. Raises Rejected with INVALID_ARGUMENT."""
    if request.content_type != "application/json":
        raise invalid_argument("Invalid content type; application/json is expected.")
    try:
        body = request.parse()
    except ValueError as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise invalid_argument("Invalid JSON payload received. Root element must be a message.")
    return body
