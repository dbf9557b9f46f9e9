"""Anthropic's Messages API as the proxy speaks it, being its client there: requests out, answers and streams in.

Pure. `anthropic` is imported for its types alone: it costs 1.6 s and its client's calls seven times aiohttp's.
Unknown events, blocks and fields are passed over, as Anthropic's versioning policy asks of clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from health.outcome import FailureReason
from proxy import fim
from proxy.capabilities import Sampling, Thinking, capabilities
from proxy.dialects.anthropic_errors import error_reason, error_type, json_object, read_error
from proxy.dialects.anthropic_usage import Counts
from proxy.dialects.base import Answer, Chat, Completion, FinishReason, Hole, Usage, Verbatim, sendable
from proxy.sse import EventTooLarge, SSEReader
from proxy.stops import CHARACTERS_PER_TOKEN, Stops

if TYPE_CHECKING:
    from collections.abc import Callable

    from anthropic.types import MessageParam
    from anthropic.types.message_create_params import MessageCreateParams, MessageCreateParamsBase

    from proxy.capabilities import Capabilities

__all__ = ["AnswerReader", "UnusableAnswer", "error_type", "read_answer", "read_error", "write_request"]

FIM_MAX_TOKENS = 256
CHAT_MAX_TOKENS = 4096
"""Claude's tokens where the caller sets no limit; `max_tokens` is required."""
_TAG_TOKENS = 32
"""The tags around a completion, and a code fence."""
_MOST_STOPS = 16

_BEGIN = "Begin."
_CONTINUE = (
    "Continue your last message exactly where it ends, in the middle of a line or word if it ends there. "
    "Do not repeat any of it and do not introduce it."
)


class UnusableAnswer(Exception):
    """A whole answer with status 200 that is none; `reason` says why."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def write_request(completion: Completion, *, model: str, stream: bool) -> MessageCreateParams:
    """The body that asks Claude's `model` for `completion`; it holds nothing that the model's row does not allow.

    There is never a prefill, which no model from 4.6 on takes. A `Verbatim` request names its model and its streaming
    itself.
    """
    if isinstance(completion.task, Verbatim):
        return cast("MessageCreateParams", {**completion.task.body, "model": completion.task.model})
    row = capabilities(model)
    stops = [sendable(stop) for stop in completion.stops if stop.strip()]
    if isinstance(completion.task, Hole):
        hole = Hole(sendable(completion.task.prefix), sendable(completion.task.suffix))
        prompt = fim.prompt(hole)
        system = fim.SYSTEM_PROMPT
        turns: list[MessageParam] = [{"role": "user", "content": prompt.text}]
        stops = [prompt.closing_tag, *(stop for stop in stops if fim.is_safe_stop(stop, hole))]
    else:
        system, turns = _turns(completion.task)
    body: MessageCreateParamsBase = {
        "model": model,
        "max_tokens": _max_tokens(completion, row),
        "messages": turns,
    }
    if system:
        body["system"] = system
    if stops:
        body["stop_sequences"] = list(dict.fromkeys(stops))[:_MOST_STOPS]
    _add_sampling(body, completion, row)
    _add_thinking(body, row)
    return cast("MessageCreateParams", {**body, "stream": True} if stream else body)


def _max_tokens(completion: Completion, row: Capabilities) -> int:
    """Claude's newest tokenizer makes some 30 % more tokens of a text than others do, hence 1.4 times the caller's."""
    is_fim = isinstance(completion.task, Hole)
    if completion.max_tokens is None:
        tokens = FIM_MAX_TOKENS if is_fim else CHAT_MAX_TOKENS
    else:
        left = completion.max_tokens - len(completion.already) // CHARACTERS_PER_TOKEN
        tokens = max(1, -(-left * 7 // 5))
    tokens += row.thinking_headroom + (_TAG_TOKENS if is_fim else 0)
    return min(tokens, row.max_output_tokens)


def _add_sampling(body: MessageCreateParamsBase, completion: Completion, row: Capabilities) -> None:
    if row.sampling is Sampling.NONE:
        return
    # The SDK's types are those of API version 2026-10-21, which has no sampling; 2023-06-01 has.
    sampling = cast("dict[str, float]", body)
    if completion.temperature is not None:
        # Mistral's go up to 1.5.
        sampling["temperature"] = min(1.0, max(0.0, completion.temperature))
    elif completion.top_p is not None:
        sampling["top_p"] = min(1.0, max(0.0, completion.top_p))


def _add_thinking(body: MessageCreateParamsBase, row: Capabilities) -> None:
    if row.thinking is Thinking.DISABLED:
        body["thinking"] = {"type": "disabled"}
    elif row.thinking is Thinking.BETWEEN_TOOLS:
        body["thinking"] = {"type": "between_tools"}
    elif row.thinking is Thinking.LOW_EFFORT:
        body["output_config"] = {"effort": "low"}


def _turns(chat: Chat) -> tuple[str, list[MessageParam]]:
    """The system prompt and the turns: none blank, the first and the last the user's, as Anthropic demands."""
    system = "\n\n".join(sendable(message.text) for message in chat.messages if message.role == "system")
    turns: list[tuple[str, list[str]]] = []
    for message in chat.messages:
        if message.role == "system" or not message.text.strip():
            continue
        if not turns or turns[-1][0] != message.role:
            turns.append((message.role, []))
        turns[-1][1].append(sendable(message.text))
    if not turns:
        turns.append(("user", [system if system.strip() else _BEGIN]))
        system = ""
    if turns[0][0] == "assistant":
        turns.insert(0, ("user", [_BEGIN]))
    if turns[-1][0] == "assistant":
        turns.append(("user", [_CONTINUE]))
    return system, [cast("MessageParam", {"role": role, "content": "\n\n".join(texts)}) for role, texts in turns]


_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}


class _Text:
    """The text of one answer on its way to the caller, and why it ended."""

    __slots__ = ("_cut", "_rest", "any", "ended", "received", "stop_reason")

    def __init__(self, completion: Completion) -> None:
        task, stops, limit = completion.task, completion.stops, completion.max_tokens
        self._cut: fim.Cleaner | Stops = (
            fim.Cleaner(task, stops=stops, max_tokens=limit, already=completion.already)
            if isinstance(task, Hole)
            else Stops(stops, limit)
        )
        self._rest = ""
        self.any = False
        self.ended = False
        self.received = 0
        self.stop_reason: object = None

    def feed(self, text: str) -> str:
        """The text that may be sent on now. Ends the answer where the caller wants no more of it."""
        self.received += len(text)
        text = self._cut.feed(text)
        self.any = self.any or bool(text)
        if self._cut.stopped:
            self.end()
        return text

    def end(self) -> None:
        """Nothing more comes, or is wanted."""
        if not self.ended:
            self.ended = True
            self._rest = self._cut.finish()
            self.any = self.any or bool(self._rest)

    def rest(self) -> str:
        """What was held back, once."""
        self.end()
        rest, self._rest = self._rest, ""
        return rest

    @property
    def finish_reason(self) -> FinishReason:
        """The caller's own ends go before Claude's: a stream is closed at them."""
        if self._cut.capped:
            return FinishReason.LENGTH
        if self._cut.stopped:
            return FinishReason.STOP
        reason = self.stop_reason
        return _FINISH_REASONS.get(reason, FinishReason.STOP) if isinstance(reason, str) else FinishReason.STOP

    @property
    def is_refusal(self) -> bool:
        return self.ended and not self.any and self.finish_reason is FinishReason.REFUSAL


def read_answer(body: bytes, completion: Completion) -> Answer:
    """The answer in a whole body of status 200.

    Raises UnusableAnswer: MALFORMED, for an error object STREAM_ERROR or THROTTLED, for a refusal without text REFUSAL.
    """
    message = json_object(body)
    if message is None:
        raise UnusableAnswer(FailureReason.MALFORMED)
    if message.get("type") == "error":
        raise UnusableAnswer(error_reason(message))
    content = message.get("content")
    if message.get("type") != "message" or not isinstance(content, list):
        raise UnusableAnswer(FailureReason.MALFORMED)
    text = _Text(completion)
    text.stop_reason = message.get("stop_reason")
    cleaned = text.feed("".join(_block_text(block) for block in content)) + text.rest()
    if text.is_refusal:
        raise UnusableAnswer(FailureReason.REFUSAL)
    usage = Counts()
    usage.add(message.get("usage"))
    return Answer(cleaned, text.finish_reason, usage.usage)


def _block_text(block: Any) -> str:
    text = block.get("text") if isinstance(block, dict) and block.get("type") == "text" else None
    return text if isinstance(text, str) else ""


class AnswerReader:
    """Reads one streamed answer.

    `feed` until `finished` or `failure`, then `finish`. A stream that ends before either was cut.
    """

    __slots__ = ("_blocks", "_counted", "_counts", "_doubtful", "_events", "_text", "complete", "failure", "finished")

    def __init__(self, completion: Completion) -> None:
        self._events = SSEReader()
        self._text = _Text(completion)
        self._counts = Counts()
        self._counted = False
        self._doubtful = False
        self._blocks: dict[object, bool] | None = None
        self.finished = False
        """Nothing more is needed: the message ended, or a stop or limit of the caller's was reached before it did."""
        self.complete = False
        """The message itself ended: no more of it will come."""
        self.failure: FailureReason | None = None
        """STREAM_ERROR or THROTTLED for an error event, MALFORMED for garbage, REFUSAL for a refusal without text."""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended; None until it has."""
        return self._text.finish_reason if self.finished else None

    @property
    def usage(self) -> Usage:
        """What was counted so far; the output of a stream that was left before its end is an estimate."""
        usage = self._counts.usage
        if self._counted:
            return usage
        return Usage(usage.input_tokens, max(usage.output_tokens, self._text.received // CHARACTERS_PER_TOKEN))

    def feed(self, data: bytes) -> str:
        """The text that may be sent on now, often ""."""
        if self.finished or self.failure is not None:
            return ""
        try:
            events = self._events.feed(data)
        except EventTooLarge:
            self.failure = FailureReason.MALFORMED
            return ""
        texts: list[str] = []
        for name, payload in events:
            texts.append(self._see(name, payload))
            if self._text.ended:
                self.finished = True
                self.failure = FailureReason.REFUSAL if self._text.is_refusal else None
            if self.finished or self.failure is not None:
                break
        return "".join(texts)

    def finish(self) -> str:
        """The held-back rest of the text."""
        return self._text.rest()

    def _see(self, name: str, payload: bytes) -> str:
        if name and name not in _STREAM:
            return ""
        event = json_object(payload)
        kind = None if event is None else event.get("type")
        if event is None or not isinstance(kind, str):
            # One event that cannot be read is left out, in the hope that the rest completes; see `StreamMonitor`.
            if self._doubtful or self._blocks is None:
                self.failure = FailureReason.MALFORMED
            self._doubtful = True
            return ""
        self._doubtful = False
        if (take := _STREAM.get(kind)) is None:
            return ""
        if self._blocks is None and kind not in ("message_start", "error"):
            self.failure = FailureReason.MALFORMED
            return ""
        return take(self, event)

    def _message_start(self, event: dict[str, Any]) -> str:
        if self._blocks is not None:
            self.failure = FailureReason.MALFORMED
            return ""
        self._blocks = {}
        if isinstance(message := event.get("message"), dict):
            self._counts.add(message.get("usage"))
        return ""

    def _block_start(self, event: dict[str, Any]) -> str:
        assert self._blocks is not None
        block = event.get("content_block")
        self._blocks[_index(event)] = isinstance(block, dict) and block.get("type") == "text"
        return self._text.feed(_block_text(block))

    def _block_delta(self, event: dict[str, Any]) -> str:
        assert self._blocks is not None
        is_text = self._blocks.get(_index(event))
        delta = event.get("delta")
        if is_text is None or not isinstance(delta, dict):
            self.failure = FailureReason.MALFORMED
            return ""
        text = delta.get("text")
        if not is_text or delta.get("type") != "text_delta" or not isinstance(text, str):
            return ""
        return self._text.feed(text)

    def _message_delta(self, event: dict[str, Any]) -> str:
        if isinstance(event.get("usage"), dict):
            self._counts.add(event["usage"])
            self._counted = True
        delta = event.get("delta")
        if isinstance(delta, dict) and (reason := delta.get("stop_reason")) is not None:
            # All is said: message_stop would add nothing, and need not be waited for.
            self._text.stop_reason = reason
            self._message_stop(event)
        return ""

    def _message_stop(self, _event: dict[str, Any]) -> str:
        self.complete = True
        self._text.end()
        return ""

    def _error(self, event: dict[str, Any]) -> str:
        self.failure = error_reason(event)
        return ""


_STREAM: dict[str, Callable[[AnswerReader, dict[str, Any]], str]] = {
    "message_start": AnswerReader._message_start,
    "content_block_start": AnswerReader._block_start,
    "content_block_delta": AnswerReader._block_delta,
    "message_delta": AnswerReader._message_delta,
    "message_stop": AnswerReader._message_stop,
    "error": AnswerReader._error,
}
"""Which events are read at all; `ping`, `content_block_stop` and what is yet to be invented are not."""


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else -1
