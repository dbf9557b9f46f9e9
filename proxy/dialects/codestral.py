"""Codestral as Mistral's models speak on Vertex: fill-in-the-middle (`prompt`) and chat (`messages`).

Pure but for the clock and the source of ids, which are handed in. The shapes are those of Mistral's API, as its SDKs
1.12 and 3.7 read them.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from proxy.dialects import chat_completions
from proxy.dialects.base import Chat, Completion, Framing, Hole, InvalidRequest
from proxy.dialects.chat_completions import ChunkMonitor, ChunkWriter, choices_asked_for, new_id, refuse_inexpressible
from proxy.dialects.requests import count, json_object, number, stops, typed
from proxy.errors import google_error
from proxy.stops import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from health.outcome import FailureReason
    from proxy.dialects.base import Answer, Usage
    from proxy.dialects.stream import StreamMonitor


class Codestral:
    """The dialect; see `Dialect` for the methods."""

    framing = Framing.EVENTS

    def __init__(self, *, new_id: Callable[[], str] = new_id, clock: Callable[[], float] = time.time) -> None:
        """`new_id` makes an answer's id (Mistral's are 32 hexadecimal digits); `clock` tells Unix time in seconds."""
        self._new_id = new_id
        self._clock = clock

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body; unknown fields and `min_tokens` are passed over.

        Raises InvalidRequest that names the field.
        """
        request = json_object(body)
        stream = typed(request, "stream", bool, "a boolean")
        stream = streaming_method if stream is None else stream
        completion = Completion(
            task=_task(request),
            model=typed(request, "model", str, "a string") or model,
            stream=stream,
            max_tokens=count(request, "max_tokens"),
            temperature=number(request, "temperature"),
            top_p=number(request, "top_p", at_most=1),
            stops=stops(request, "stop"),
        )
        return completion.times(choices_asked_for(request, stream=stream))

    def write(self, answers: Sequence[Answer], completion: Completion) -> bytes:
        """The whole answer, for FIM in the shape of a chat's, too."""
        return chat_completions.write(
            answers,
            completion,
            answer_id=self._new_id(),
            created=int(self._clock()),
            extra={"tool_calls": None},
        )

    def stream_writer(self, completion: Completion, *, after: StreamMonitor | None = None) -> ChunkWriter:
        """A writer for one streamed answer."""
        assert after is None or isinstance(after, ChunkMonitor)
        return ChunkWriter(completion, self._new_id(), int(self._clock()), after=after)

    def resume(self, body: bytes, text: str) -> bytes:
        """The request for the rest: the prompt goes on with `text`, and the limit is lower by it."""
        request = json.loads(body)
        request["prompt"] += text
        for field in ("max_tokens", "min_tokens"):
            if type(limit := request.get(field)) in (int, float):
                request[field] = max(1, int(limit) - len(text) // CHARACTERS_PER_TOKEN)
        return json.dumps(request).encode()

    def check(self, body: bytes) -> FailureReason | Usage:
        """What Vertex's whole answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED."""
        return chat_completions.check(body)

    def text(self, body: bytes) -> str:
        """The text of a whole, well-formed answer; of a chunked content, its text chunks."""
        return chat_completions.answer_text(body)

    def monitor(self) -> ChunkMonitor:
        """A fresh monitor for one stream of Vertex's."""
        return ChunkMonitor()

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """Google's, which stands before the model."""
        return google_error(code, message, field=field)

    def stream_error(self, code: int, message: str) -> bytes:
        """Mistral's streams have no words for it."""
        return b""


def _task(request: dict[str, Any]) -> Hole | Chat:
    refuse_inexpressible(request)
    prompt = typed(request, "prompt", str, "a string")
    if prompt is not None:
        return Hole(prompt, typed(request, "suffix", str, "a string") or "")
    if request.get("messages") is None:
        raise InvalidRequest("prompt", "neither prompt nor messages is given")
    return chat_completions.chat(request)
