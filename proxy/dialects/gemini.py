"""Gemini as it speaks on Vertex: `:generateContent`, and `:streamGenerateContent` as events or as one array.

Pure but for the clock and the source of ids, which are handed in. The shapes are those of google.cloud.aiplatform.v1 as
google-genai and google-cloud-aiplatform read them. The latter asks Vertex for enums as numbers and takes names as well.
"""

from __future__ import annotations

import datetime
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from health.outcome import FailureReason
from proxy import sse
from proxy.dialects import gemini_request
from proxy.dialects.base import FinishReason, Framing, Usage, sendable
from proxy.dialects.requests import counted, encode
from proxy.dialects.stream import EVENTS_BEGIN_WITH, StreamMonitor, error_reason, parsed
from proxy.errors import google_error
from proxy.json_array import ArrayReader, ArrayWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.dialects.base import Answer, Completion, StreamWriter
    from proxy.dialects.stream import BlockReader

_FINISH_WORDS = {
    FinishReason.STOP: "STOP",
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.REFUSAL: "SAFETY",
}
_CUT_SHORT = ("MAX_TOKENS", 2)
_UNSPECIFIED = (None, "", 0, "FINISH_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")


def new_id() -> str:
    """22 characters of base64, as Gemini's response ids are."""
    return secrets.token_urlsafe(16)


class Gemini:
    """The dialect; see `TranslatedDialect` for the methods. It has no holes, hence no `resume`."""

    def __init__(
        self, framing: Framing, *, new_id: Callable[[], str] = new_id, clock: Callable[[], float] = time.time
    ) -> None:
        """`framing` is that of its streams; `new_id` makes an answer's id; `clock` tells Unix time in seconds."""
        self.framing = framing
        self._new_id = new_id
        self._clock = clock

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body. Raises InvalidRequest that names the field."""
        return gemini_request.completion(body, model=model, stream=streaming_method)

    def write(self, answers: Sequence[Answer], completion: Completion) -> bytes:
        """The whole answer, its text in one part, an empty one too: that is what clients look for."""
        candidates = [
            _candidate(index, answer.text, _FINISH_WORDS[answer.finish_reason]) for index, answer in enumerate(answers)
        ]
        # The question was asked once, as the caller sees it.
        usage = Usage(answers[0].usage.input_tokens, sum(answer.usage.output_tokens for answer in answers))
        return encode(
            {"candidates": candidates, "usageMetadata": _usage_object(usage), **self._identity(completion)}
        ).encode()

    def stream_writer(self, completion: Completion, *, after: StreamMonitor | None = None) -> StreamWriter:
        """A writer for one streamed answer; a chat is never gone on with."""
        assert after is None
        return _Writer(self._identity(completion), self.framing)

    def check(self, body: bytes) -> FailureReason | Usage:
        """What Vertex's whole answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED.

        A prompt that was blocked has feedback and no candidates, an answer that was blocked no content: both are
        answers.
        """
        answer = parsed(body)
        if (reason := error_reason(answer)) is not None:
            return reason
        candidates = _candidates(answer)
        # A caller may have asked for some of the fields alone (`fields=`).
        if candidates is None or not (candidates or answer.keys() & _OF_AN_ANSWER):
            return FailureReason.MALFORMED
        for candidate in candidates:
            if not _parts(candidate) and candidate.get("finishReason") in _UNSPECIFIED:
                return FailureReason.MALFORMED
        return _counted(answer) or Usage()

    def text(self, body: bytes) -> str:
        """The text of the first candidate, without what the model thought; "" for a prompt that was blocked."""
        candidates = _candidates(json.loads(body))
        return _text(candidates[0]) if candidates else ""

    def monitor(self) -> StreamMonitor:
        """A fresh monitor for one stream of Vertex's."""
        if self.framing is Framing.EVENTS:
            return _Monitor(sse.SSEReader(), begins_with=EVENTS_BEGIN_WITH)
        return _ArrayMonitor()

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """Google's."""
        return google_error(code, message, field=field)

    def stream_error(self, code: int, message: str) -> bytes:
        """Google's, as one more event. In an array its own client library reads an error as an empty answer."""
        return sse.event(google_error(code, message)) if self.framing is Framing.EVENTS else b""

    def _identity(self, completion: Completion) -> dict[str, str]:
        """What stands in each chunk of one answer."""
        now = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)
        return {
            "modelVersion": sendable(completion.model),
            "createTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "responseId": self._new_id(),
        }


_OF_AN_ANSWER = {"promptFeedback", "usageMetadata", "modelVersion", "responseId"}


def _candidate(index: int, text: str, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "index": index,
        "content": {"role": "model", "parts": [{"text": sendable(text)}]},
    }
    return candidate if finish is None else {**candidate, "finishReason": finish}


def _usage_object(usage: Usage) -> dict[str, int]:
    return {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }


def _candidates(value: Any) -> list[dict[str, Any]] | None:
    """The candidates of an answer or chunk, none where it names none; None where they are not what they must be."""
    candidates = (value.get("candidates") or []) if isinstance(value, dict) else None
    if isinstance(candidates, list) and all(isinstance(candidate, dict) for candidate in candidates):
        return candidates
    return None


def _parts(candidate: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a candidate's content that are any."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _text(candidate: dict[str, Any]) -> str:
    return "".join(
        part["text"] for part in _parts(candidate) if isinstance(part.get("text"), str) and not part.get("thought")
    )


def _counted(value: dict[str, Any]) -> Usage | None:
    """What was counted, thoughts being output, too; None where nothing is told, as in all chunks but the last."""
    counts = counted(value.get("usageMetadata"), "promptTokenCount", "candidatesTokenCount")
    thoughts = counted(value.get("usageMetadata"), "toolUsePromptTokenCount", "thoughtsTokenCount")
    if counts is None or thoughts is None or value["usageMetadata"].get("promptTokenCount") is None:
        return None
    return Usage(counts[0] + thoughts[0], counts[1] + thoughts[1])


# --- streams


class _Writer:
    """Writes one answer as chunks: the same model and id in all, why it ended and the counts in the last."""

    def __init__(self, identity: dict[str, str], framing: Framing) -> None:
        self._identity = encode(identity)[1:]
        self._array = ArrayWriter() if framing is Framing.ARRAY else None

    def delta(self, text: str) -> bytes:
        """The bytes of one chunk that carries `text`."""
        return self._chunk({"candidates": [_candidate(0, text, None)]})

    def finish(self, finish_reason: FinishReason, usage: Usage) -> bytes:
        """The last chunk, and the end of the array; events have no terminator."""
        candidates = [_candidate(0, "", _FINISH_WORDS[finish_reason])]
        last = self._chunk({"candidates": candidates, "usageMetadata": _usage_object(usage)})
        return last if self._array is None else last + self._array.close()

    def _chunk(self, fields: dict[str, Any]) -> bytes:
        chunk = f"{encode(fields)[:-1]},{self._identity}".encode()
        return sse.event(chunk) if self._array is None else self._array.element(chunk)


class _Monitor(StreamMonitor):
    """Watches chunks go by."""

    # Events have no terminator, and what a search found may come after the text has ended.
    after_finish_seconds = 2.0

    def __init__(self, reader: BlockReader, *, begins_with: bytes) -> None:
        super().__init__(reader, begins_with=begins_with)
        self._open: set[str] = set()
        self._ended: set[str] = set()

    def _see(self, event: sse.Event) -> bool:
        chunk = parsed(event.data)
        if (reason := error_reason(chunk)) is not None:
            self.failure = reason
            return False
        # An object without candidates is about the answer, or news that this version does not know.
        candidates = _candidates(chunk)
        if candidates is None:
            return False
        self.usage = _counted(chunk) or self.usage
        for candidate in candidates:
            self._take(candidate)
        feedback = chunk.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason") not in _UNSPECIFIED:
            self._end_of("")
        self.finished = bool(self._ended) and self._ended >= self._open
        return True

    def _take(self, candidate: dict[str, Any]) -> None:
        # An index of 0 may be left out, as any value that is its type's default.
        index = str(candidate.get("index") or 0)
        self._open.add(index)
        if index == "0" and (text := _text(candidate)):
            self.texts.append(text)
        if said := [part for part in _parts(candidate) if any(part.values())]:
            self.started = True
            # After a thought, or while a tool is at work, a model may be silent for long.
            self.pausing = bool(said[-1].get("thought")) or "executableCode" in said[-1]
        if (reason := candidate.get("finishReason")) not in _UNSPECIFIED:
            self._end_of(index)
            self.finish_reason = FinishReason.LENGTH if reason in _CUT_SHORT else FinishReason.STOP

    def _end_of(self, index: str) -> None:
        """One candidate is complete, or with "" the prompt was blocked: that is all there is."""
        self.started = True
        self._ended.add(index)


class _ArrayMonitor(_Monitor):
    """Watches the elements of an array; one that is closed before its answer is finished is left open."""

    def __init__(self) -> None:
        self._array = ArrayReader()
        super().__init__(self._array, begins_with=b"[ \t\r\n")

    def feed(self, data: bytes) -> bytes:
        """What may be sent on now."""
        passed = super().feed(data)
        if self._array.closed and not self.terminated and self.failure is None:
            self.terminated = True
            if not self.finished:
                return passed[: passed.rindex(b"]")]
        return passed

    def missing_end(self) -> bytes:
        """The closing bracket, where it did not come."""
        return b"" if self._array.closed else b"]"

    def _passes(self, event: sse.Event, raw: bytes) -> bool:
        passes = super()._passes(event, raw)
        if self.error_event:
            self.error_event += b"]"
        return passes
