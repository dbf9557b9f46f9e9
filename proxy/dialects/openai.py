"""OpenAI's chat completions, as Vertex speaks them at `…/endpoints/openapi/chat/completions`.

Pure but for the clock and the source of ids, which are handed in. The shapes are those that the `openai` package reads.
The opening of the assistant's last message is not repeated in the answer: only Mistral's models do that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from proxy import sse
from proxy.dialects import chat_completions
from proxy.dialects.base import Completion, InvalidRequest
from proxy.dialects.chat_completions import (
    ChatCompletions,
    ChunkMonitor,
    ChunkWriter,
    choices_asked_for,
    refuse_inexpressible,
)
from proxy.dialects.requests import count, json_object, number, stops, typed
from proxy.errors import google_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.dialects.base import Answer
    from proxy.dialects.stream import StreamMonitor


def new_id() -> str:
    """`chatcmpl-` and 32 hexadecimal digits."""
    return f"chatcmpl-{chat_completions.new_id()}"


class OpenAI(ChatCompletions):
    """The dialect; see `StreamedDialect` for the methods."""

    def __init__(self, *, new_id: Callable[[], str] = new_id, clock: Callable[[], float] = time.time) -> None:
        """`new_id` makes an answer's id; `clock` tells Unix time in seconds."""
        super().__init__(new_id=new_id, clock=clock)

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body, which names the model; seed, penalties and what is unknown are passed over.

        Raises InvalidRequest that names the field.
        """
        request = json_object(body)
        _refuse_inexpressible(request)
        named = typed(request, "model", str, "a string")
        if not named:
            raise InvalidRequest("model", "no model is given")
        stream = typed(request, "stream", bool, "a boolean") or False
        options = typed(request, "stream_options", dict, "an object") or {}
        limit = count(request, "max_completion_tokens")
        completion = Completion(
            task=chat_completions.chat(request),
            model=named,
            stream=stream,
            max_tokens=count(request, "max_tokens") if limit is None else limit,
            temperature=number(request, "temperature", at_most=2),
            top_p=number(request, "top_p", at_most=1),
            stops=stops(request, "stop"),
            include_usage=not stream or bool(options.get("include_usage")),
        )
        return completion.times(choices_asked_for(request, stream=stream))

    def write(self, answers: Sequence[Answer], completion: Completion) -> bytes:
        """The whole answer."""
        return chat_completions.write(
            answers,
            completion,
            answer_id=self._new_id(),
            created=int(self._clock()),
            extra={},
            repeats_opening=False,
            refusal="content_filter",
        )

    def stream_writer(self, completion: Completion, *, after: StreamMonitor | None = None) -> ChunkWriter:
        """A writer for one streamed answer; the counts come apart, and only where they are asked for."""
        assert after is None or isinstance(after, ChunkMonitor)
        return ChunkWriter(
            completion,
            self._new_id(),
            int(self._clock()),
            after=after,
            usage_apart=True,
            repeats_opening=False,
            refusal="content_filter",
        )

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """Google's, in an array: that is how this endpoint tells of errors."""
        return b"[" + google_error(code, message, field=field) + b"]"

    def stream_error(self, code: int, message: str) -> bytes:
        """An event with `error`, at which OpenAI's library raises APIError; within an array it would not see it."""
        return sse.event(google_error(code, message))


def _refuse_inexpressible(request: dict[str, Any]) -> None:
    refuse_inexpressible(request)
    modalities = typed(request, "modalities", list, "a list")
    if any(modality != "text" for modality in modalities or ()):
        raise InvalidRequest("modalities", "nothing but text can be answered by the backup")
    if request.get("audio"):
        raise InvalidRequest("audio", "audio cannot be answered by the backup")
    # Vertex's own additions stand in `google`, at the top or, as its documentation has it, within `extra_body`.
    for holder in (request, typed(request, "extra_body", dict, "an object") or {}):
        additions = holder.get("google")
        if isinstance(additions, dict) and (additions.get("cached_content") or additions.get("cachedContent")):
            raise InvalidRequest("google.cached_content", "cached content is not at hand for the backup")
