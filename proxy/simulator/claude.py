"""Claude behind Anthropic's Messages API: `POST /v1/messages`."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

from . import model
from .claude_errors import ERRORS, invalid, not_found, unauthenticated
from .claude_fim import read_task
from .claude_models import MODELS, Capabilities
from .claude_rules import VERSION_WITHOUT_SAMPLING, VERSIONS, Ask, understand
from .record import RecordedRequest
from .reply import Kind, Part, ProviderError, Rejected, Reply, compact, whole
from .server import SimulatedProvider

FOREIGN_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
FOREIGN_PREFIXES = ("x-goog-", "x-completion-proxy-")
RETRIED = frozenset({408, 409, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """One answer before it is written."""

    id: str
    model: str
    text: str | None
    """None for no block of text at all."""
    thought: bool
    stop_reason: str
    stop_sequence: str | None
    input_tokens: int
    output_tokens: int


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
        if request.content_type != "application/json":
            raise Rejected(invalid("content-type: application/json is expected"))
        try:
            body = request.parse()
        except ValueError as error:
            raise Rejected(invalid(f"The request body is not valid JSON: {error}")) from error
        ask = understand(body, version, self.models)
        message = self._message(ask)
        return self._stream(message) if ask.stream else self._whole(message)

    def render(self, error: ProviderError, request: RecordedRequest) -> Reply:
        """Anthropic's error object."""
        request_id = self._id("req")
        retried = error.status in RETRIED or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        headers = {"request-id": request_id, "x-should-retry": "true" if retried else "false", **error.headers}
        if error.text is not None:
            return whole(error.status, error.text.encode(), error.content_type, error.headers)
        document = {"type": "error", "error": _error(error), "request_id": request_id}
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

    def _message(self, ask: Ask) -> _Message:
        spent = min(ask.max_tokens, model.THINKING_TOKENS - 1) if ask.thinks else 0
        left = ask.max_tokens - spent
        text: str | None = None
        reason, stop = "refusal", None
        if not self.declines:
            generation = model.generate(self._written(ask), ask.stops, left)
            text, stop = generation.text or None, generation.stop
            reason = "max_tokens" if generation.finish == "length" else "end_turn" if stop is None else "stop_sequence"
        return _Message(
            id=self._id("msg"),
            model=ask.model,
            text=text,
            thought=ask.thinks and left > 0,
            stop_reason=reason,
            stop_sequence=stop,
            input_tokens=ask.input_tokens,
            output_tokens=spent + model.tokens(text or ""),
        )

    def _written(self, ask: Ask) -> str:
        """What the model writes when nothing stops it."""
        task = read_task(ask.text)
        if task is None:
            text = self.author.chat(ask.text)
        else:
            text = task.wrapped(self.author.complete(task.prefix, task.suffix))
        if self.decorate is not None:
            text = self.decorate(text)
        return text.removeprefix(ask.prefill)

    def _headers(self, content_type: str) -> dict[str, str]:
        return {"content-type": content_type, "request-id": self._id("req")}

    def _whole(self, message: _Message) -> Reply:
        content: list[dict[str, Any]] = []
        if message.thought:
            content.append({"type": "thinking", "thinking": "", "signature": _SIGNATURE})
        if message.text is not None:
            content.append({"type": "text", "text": message.text})
        document = {
            **_opening(message),
            "content": content,
            **_stopped(message),
            "usage": {**_usage(message.input_tokens), "output_tokens": message.output_tokens},
        }
        reply = whole(HTTPStatus.OK, compact(document), "application/json")
        return Reply(status=reply.status, headers=self._headers("application/json"), parts=reply.parts)

    def _stream(self, message: _Message) -> Reply:
        opening = {**_opening(message), "content": [], "stop_reason": None, "stop_sequence": None}
        opening["usage"] = {**_usage(message.input_tokens), "output_tokens": 1}
        usage = {"output_tokens": message.output_tokens}
        parts = [
            _event("message_start", Kind.HEAD, message=opening),
            *(_thinking() if message.thought else ()),
            *_text(int(message.thought), message.text),
            _event("message_delta", Kind.TAIL, delta=_stopped(message), usage=usage),
            _event("message_stop", Kind.TAIL),
        ]
        return Reply(
            status=HTTPStatus.OK,
            headers={**self._headers("text/event-stream; charset=utf-8"), "cache-control": "no-cache"},
            parts=tuple(parts),
            stream=True,
            error_event=_event("error", Kind.TAIL, error=_error(ERRORS["overloaded"])).data,
            malformed_event=b'event: content_block_delta\ndata: {"type": "content_block_de\n\n',
        )


_SIGNATURE = "RXJyb3JzIHNob3VsZCBuZXZlciBwYXNzIHNpbGVudGx5Lg=="


def _is_foreign(name: str) -> bool:
    return name in FOREIGN_HEADERS or name.startswith(FOREIGN_PREFIXES)


def _error(error: ProviderError) -> dict[str, Any]:
    details = {} if error.details is None else {"details": error.details}
    return {"type": error.kind, "message": error.message, **details}


def _opening(message: _Message) -> dict[str, Any]:
    return {"id": message.id, "type": "message", "role": "assistant", "model": message.model}


def _stopped(message: _Message) -> dict[str, Any]:
    return {"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}


def _usage(input_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }


def _event(name: str, kind: Kind, **fields: object) -> Part:
    return Part(f"event: {name}\ndata: ".encode() + compact({"type": name, **fields}) + b"\n\n", kind)


def _thinking() -> tuple[Part, ...]:
    return (
        _event(
            "content_block_start",
            Kind.HEAD,
            index=0,
            content_block={"type": "thinking", "thinking": "", "signature": ""},
        ),
        _event("content_block_delta", Kind.HEAD, index=0, delta={"type": "signature_delta", "signature": _SIGNATURE}),
        _event("content_block_stop", Kind.HEAD, index=0),
    )


def _text(index: int, text: str | None) -> tuple[Part, ...]:
    ping = _event("ping", Kind.HEAD)
    if text is None:
        return (ping,)
    return (
        _event("content_block_start", Kind.HEAD, index=index, content_block={"type": "text", "text": ""}),
        ping,
        *(
            _event("content_block_delta", Kind.CONTENT, index=index, delta={"type": "text_delta", "text": chunk})
            for chunk in model.chunks(text)
        ),
        _event("content_block_stop", Kind.TAIL, index=index),
    )
