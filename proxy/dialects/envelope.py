"""google.api.HttpBody, in which google-cloud-aiplatform's REST client wraps what is not Google's own.

`{"httpBody": {"contentType", "data": base64}}` asks, `{"contentType", "data": base64}` answers, and a stream is an
array of the latter. Pure. What is inside is another dialect's, which knows nothing of it.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, cast

from health.outcome import FailureReason
from proxy.dialects.base import Framing, InvalidRequest, Usage
from proxy.dialects.envelope_stream import EnclosingMonitor, EnvelopeMonitor, EnvelopeWriter
from proxy.dialects.http_body import decoded, enveloped, is_json
from proxy.dialects.requests import json_object, typed
from proxy.dialects.stream import error_reason, parsed
from proxy.errors import google_error
from proxy.json_array import ArrayWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.dialects.base import Answer, Completion, Dialect, ResumableDialect
    from proxy.dialects.stream import StreamMonitor

_JSON = "application/json"
_HEAD = 200
_NAMES = ("httpBody", "http_body")
# The field stands at the top, after texts at most; a name further down is the model's affair, as in a tool's schema.
_BEGINNING = re.compile(
    rb'\s{0,20}\{\s{0,20}(?:"[^"\\]{0,100}"\s{0,5}:\s{0,5}"[^"\\]{0,150}"\s{0,5},\s{0,20}){0,3}"http(?:B|_b)ody"\s{0,5}:'
)


def is_enveloped(body: bytes) -> bool:
    """Whether a request stands in the envelope; looks at the first bytes alone."""
    return _BEGINNING.match(body[:_HEAD]) is not None


class Envelope:
    """Another dialect within the envelope; see `ResumableDialect` for the methods."""

    framing = Framing.ARRAY

    def __init__(self, inner: Dialect) -> None:
        self._inner = inner

    @property
    def _translated(self) -> ResumableDialect:
        return cast("ResumableDialect", self._inner)

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand the body within.

        Here the method decides how an answer is framed, and the body within what is framed. Where they differ, only
        Vertex can say what comes of it. Raises InvalidRequest that names the field.
        """
        http_body, _ = _http_body(json_object(body))
        content_type = _content_type(http_body)
        if content_type and content_type.partition(";")[0].strip().lower() != _JSON:
            raise InvalidRequest("httpBody.contentType", f"must be {_JSON}")
        completion = self._inner.read(_data(http_body), model=model, streaming_method=streaming_method)
        if completion.stream is not streaming_method:
            raise InvalidRequest("stream", "stream must be as the method has it for the backup to answer")
        return completion

    def write(self, answers: Sequence[Answer], completion: Completion) -> bytes:
        """The whole answer."""
        return enveloped(self._translated.write(answers, completion), _JSON)

    def stream_writer(self, completion: Completion, *, after: StreamMonitor | None = None) -> EnvelopeWriter:
        """A writer for one streamed answer."""
        if after is None:
            return EnvelopeWriter(self._translated.stream_writer(completion), ArrayWriter())
        assert isinstance(after, EnvelopeMonitor)
        inner = self._translated.stream_writer(completion, after=after.inner)
        return EnvelopeWriter(inner, ArrayWriter(begun=after.begun))

    def resume(self, body: bytes, text: str) -> bytes:
        """The request for the rest, in the envelope that it came in."""
        request = json.loads(body)
        http_body, name = _http_body(request)
        rest = base64.b64encode(self._translated.resume(_data(http_body), text)).decode()
        return json.dumps({**request, name: {**http_body, "data": rest}}).encode()

    def check(self, body: bytes) -> FailureReason | Usage:
        """What Vertex's answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED.

        A body that asks for a stream by a method that gives none is answered with a whole stream as the data.
        """
        answer = parsed(body)
        if (reason := error_reason(answer)) is not None:
            return reason
        if (data := decoded(answer)) is None:
            return FailureReason.MALFORMED
        if is_json(data):
            return self._inner.check(data)
        monitor = self._watched(data)
        if monitor.failure is None and monitor.finished:
            return monitor.usage or Usage()
        return monitor.failure or FailureReason.MALFORMED

    def text(self, body: bytes) -> str:
        """The text of a whole, well-formed answer."""
        data = decoded(json.loads(body)) or b""
        return self._inner.text(data) if is_json(data) else "".join(self._watched(data).texts)

    def _watched(self, stream: bytes) -> StreamMonitor:
        monitor = self._inner.monitor()
        monitor.feed(stream)
        monitor.end()
        return monitor

    def monitor(self) -> EnvelopeMonitor:
        """A fresh monitor for one stream of Vertex's."""
        return EnvelopeMonitor(self._inner)

    def pass_on(self, body: bytes) -> bytes:
        """A whole answer of the dialect within, as the caller expects it."""
        return enveloped(body, _JSON)

    def passing_monitor(self) -> StreamMonitor:
        """A fresh monitor for one stream of the dialect within; what it lets through is as the caller expects it."""
        return EnclosingMonitor(self._inner)

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """Google's, whose the envelope is."""
        return google_error(code, message, field=field)

    def stream_error(self, code: int, message: str) -> bytes:
        """An element that is an error, not an HttpBody: at that Google's library raises ParseError.

        It comes after at least one other: an error before that is no error within a stream.
        """
        array = ArrayWriter(begun=True)
        return array.element(google_error(code, message)) + array.close()


def _http_body(request: Any) -> tuple[dict[str, Any], str]:
    """The envelope of a request, and under which name it stands."""
    for name in _NAMES:
        if (http_body := typed(request, name, dict, "an object")) is not None:
            return http_body, name
    raise InvalidRequest("httpBody", "no httpBody is given")


def _content_type(http_body: dict[str, Any]) -> str | None:
    given = [typed(http_body, name, str, "a string") for name in ("contentType", "content_type")]
    return given[0] or given[1]


def _data(http_body: dict[str, Any]) -> bytes:
    data = decoded(http_body)
    if data is None:
        raise InvalidRequest("httpBody.data", "httpBody.data is not base64")
    return data
