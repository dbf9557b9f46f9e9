"""Codestral as Mistral's models speak on Vertex: fill-in-the-middle (`prompt`) and chat (`messages`).

Pure but for the clock and the source of ids, which are handed in. The shapes are those of Mistral's API, as its SDKs
1.12 and 3.7 read them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from proxy.dialects import chat_completions
from proxy.dialects.base import Chat, Completion, Hole, InvalidRequest
from proxy.dialects.chat_completions import (
    ChatCompletions,
    ChunkMonitor,
    ChunkWriter,
    choices_asked_for,
    refuse_inexpressible,
)
from proxy.dialects.requests import count, json_object, number, stops, typed
from proxy.errors import google_error
from proxy.stops import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.dialects.base import Answer
    from proxy.dialects.stream import StreamMonitor


class Codestral(ChatCompletions):
    """The dialect; see `ResumableDialect` for the methods."""

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
