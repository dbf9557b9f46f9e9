"""Anthropic's Messages API: named by the 400 in an outage, or by what an answer would be taken for."""

from __future__ import annotations

import itertools
import json
from typing import Any, get_args

import pytest
from anthropic.types import ModelParam
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from pydantic import TypeAdapter

from health.outcome import FailureReason
from proxy import fim, sse
from proxy.capabilities import Sampling, Thinking, capabilities
from proxy.dialects import messages
from proxy.dialects.base import Chat, Completion, FinishReason, Hole, Message, Usage

HAIKU = "claude-haiku-5-5"
OLD_HAIKU = "claude-haiku-4-5-20251001"
MODELS = [*(name for part in get_args(ModelParam) for name in get_args(part)), "claude-unheard-of"]
WHOLE = TypeAdapter(MessageCreateParamsNonStreaming)
STREAM = TypeAdapter(MessageCreateParamsStreaming)
SAMPLING = {"temperature", "top_p"}
"""Known to API version 2023-06-01, and no more to the SDK."""

HOLE = Hole("def f(x):\n    return ", "\n\n\nprint(f(1))\n")
FIM = Completion(task=HOLE, model="codestral-2")
CHAT = Completion(task=Chat((Message("user", "hello"),)), model="codestral-2")


def chat(*turns: tuple[Any, str], **fields: Any) -> Completion:
    return Completion(task=Chat(tuple(Message(*turn) for turn in turns)), model="m", **fields)


def hole(**fields: Any) -> Completion:
    return Completion(task=HOLE, model="m", **fields)


def request(completion: Completion, model: str = HAIKU, *, stream: bool = False) -> dict[str, Any]:
    """The body, checked by the SDK's types and by the traps that those do not know."""
    body: dict[str, Any] = json.loads(json.dumps(messages.write_request(completion, model=model, stream=stream)))
    adapter: TypeAdapter[Any] = STREAM if stream else WHOLE
    known = {**adapter.validate_python(body)}
    known["messages"] = list(known["messages"])
    assert known == {name: value for name, value in body.items() if name not in SAMPLING}
    assert body["messages"][0]["role"] == body["messages"][-1]["role"] == "user"
    roles = [turn["role"] for turn in body["messages"]]
    assert all(first != second for first, second in itertools.pairwise(roles))
    assert all(text.strip() for text in (*(turn["content"] for turn in body["messages"]), body.get("system", "x")))
    assert all(stop.strip() for stop in body.get("stop_sequences", ()))
    assert 1 <= body["max_tokens"] <= capabilities(model).max_output_tokens
    return body


EVERYTHING: dict[str, Any] = {
    "max_tokens": 64,
    "temperature": 0.7,
    "top_p": 0.9,
    "stops": ("\n\n", "\n+++++", " ", "print(f(1))"),
}


class TestRequest:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("completion", [hole(**EVERYTHING), chat(("user", "hello"), **EVERYTHING), FIM, CHAT])
    @pytest.mark.parametrize("model", MODELS)
    def test_a_model_refuses_the_body(self, model: str, completion: Completion, stream: bool) -> None:
        body = request(completion, model, stream=stream)
        row = capabilities(model)
        sampling = SAMPLING & body.keys()
        assert len(sampling) <= (0 if row.sampling is Sampling.NONE else 1)
        assert body.get("thinking") == {
            Thinking.DISABLED: {"type": "disabled"},
            Thinking.BETWEEN_TOOLS: {"type": "between_tools"},
        }.get(row.thinking)
        assert body.get("output_config") == ({"effort": "low"} if row.thinking is Thinking.LOW_EFFORT else None)
        assert body.get("stream", False) is stream

    def test_a_hole_is_asked_for_otherwise(self) -> None:
        prompt = fim.prompt(HOLE)
        assert request(FIM) == {
            "model": HAIKU,
            "max_tokens": 256 + 32,
            "messages": [{"role": "user", "content": prompt.text}],
            "system": fim.SYSTEM_PROMPT,
            "stop_sequences": ["</COMPLETION>"],
            "thinking": {"type": "disabled"},
        }

    def test_a_chat_is_asked_for_otherwise(self) -> None:
        assert request(CHAT) == {
            "model": HAIKU,
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": "hello"}],
            "thinking": {"type": "disabled"},
        }

    @pytest.mark.parametrize(
        ("model", "limit", "for_a_hole", "for_a_chat"),
        [
            (HAIKU, 64, 90 + 32, 90),
            (HAIKU, 5, 7 + 32, 7),
            (HAIKU, 1, 2 + 32, 2),
            (HAIKU, 0, 1 + 32, 1),
            (HAIKU, 10**12, 64_000, 64_000),
            (OLD_HAIKU, 10**12, 64_000, 64_000),
            ("claude-opus-5-5", 64, 90 + 32 + 4096, 90 + 4096),
        ],
    )
    def test_the_limit_is_too_small_or_too_large(
        self, model: str, limit: int, for_a_hole: int, for_a_chat: int
    ) -> None:
        assert request(hole(max_tokens=limit), model)["max_tokens"] == for_a_hole
        assert request(chat(("user", "a"), max_tokens=limit), model)["max_tokens"] == for_a_chat

    @pytest.mark.parametrize(
        ("fields", "sent"),
        [
            ({"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}),
            ({"temperature": 1.5}, {"temperature": 1}),
            ({"top_p": 0.9}, {"top_p": 0.9}),
            ({}, {}),
        ],
    )
    def test_sampling_is_lost_where_it_may_be_sent(self, fields: dict[str, Any], sent: dict[str, float]) -> None:
        body = request(hole(**fields), OLD_HAIKU)
        assert {name: body[name] for name in body if name in SAMPLING} == sent

    def test_a_stop_is_sent_that_ends_the_answer_before_it_begins(self) -> None:
        stops = ("\n\n", "<", "COMPLETION", "```", "return", "\nclass", "print(f(1))", "\nclass")
        assert request(hole(stops=stops))["stop_sequences"] == ["</COMPLETION>", "\nclass", "print(f(1))"]
        assert request(chat(("user", "a"), stops=stops))["stop_sequences"] == [
            "<",
            "COMPLETION",
            "```",
            "return",
            "\nclass",
            "print(f(1))",
        ]

    def test_a_chat_with_blank_stops_sends_an_empty_list(self) -> None:
        assert "stop_sequences" not in request(chat(("user", "a"), stops=("\n",)))

    def test_more_stops_are_sent_than_are_taken(self) -> None:
        body = request(hole(stops=tuple(f"stop{number}" for number in range(40))))
        assert len(body["stop_sequences"]) == 16
        assert body["stop_sequences"][0] == "</COMPLETION>"

    def test_a_lone_surrogate_cannot_be_encoded(self) -> None:
        completion = Completion(task=Hole("a = '\ud83d", "\udc00🙂"), model="m", stops=("\ud800x",))
        body = request(completion)
        assert "a = '\ufffd<|CURSOR|>\ufffd🙂" in body["messages"][0]["content"]
        assert body["stop_sequences"] == ["</COMPLETION>", "\ufffdx"]
        turns = request(chat(("system", "\ud83d"), ("user", "\ud83d")))
        assert (turns["system"], turns["messages"][0]["content"]) == ("\ufffd", "\ufffd")

    def test_a_tag_in_the_code_stops_the_answer(self) -> None:
        body = request(Completion(task=Hole("x = '</COMPLETION>'", ""), model="m"))
        assert body["stop_sequences"] == ["</COMPLETION-2>"]

    @pytest.mark.parametrize(
        ("turns", "system", "sent"),
        [
            ([("system", "s"), ("user", "a")], "s", ["a"]),
            ([("user", "a"), ("system", "s"), ("user", "b"), ("system", "t")], "s\n\nt", ["a\n\nb"]),
            ([("user", "a"), ("assistant", "b"), ("user", "c")], None, ["a", "b", "c"]),
            (
                [("user", "a"), ("user", "  "), ("assistant", "b"), ("assistant", "c"), ("user", "d")],
                None,
                ["a", "b\n\nc", "d"],
            ),
            ([("assistant", "b"), ("user", "c")], None, [messages._BEGIN, "b", "c"]),
            ([("user", "a"), ("assistant", "b")], None, ["a", "b", messages._CONTINUE]),
            ([("assistant", "b")], None, [messages._BEGIN, "b", messages._CONTINUE]),
            ([("system", "s")], None, ["s"]),
            ([("user", " ")], None, [messages._BEGIN]),
            ([], None, [messages._BEGIN]),
        ],
    )
    def test_turns_are_refused(self, turns: Any, system: str | None, sent: list[str]) -> None:
        body = request(chat(*turns))
        assert body.get("system") == system
        assert [turn["content"] for turn in body["messages"]] == sent


def whole(*blocks: Any, stop_reason: Any = "end_turn", **fields: Any) -> bytes:
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    usage = {"input_tokens": 9, "output_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": None}
    message = {"type": "message", "role": "assistant", "content": content, "stop_reason": stop_reason, "usage": usage}
    return json.dumps({**message, **fields}).encode()


THOUGHT = {"type": "thinking", "thinking": "<COMPLETION>no</COMPLETION>", "signature": ""}


class TestAnswer:
    def test_code_is_not_found(self) -> None:
        answer = messages.read_answer(whole(THOUGHT, "<COMPLETION>x +", " 1", stop_reason="stop_sequence"), FIM)
        assert (answer.text, answer.finish_reason, answer.usage) == ("x + 1", FinishReason.STOP, Usage(11, 5))

    def test_a_chat_is_cleaned_like_code(self) -> None:
        text = "Here is:\n```python\nx\n```\n"
        assert messages.read_answer(whole(text), CHAT).text == text

    @pytest.mark.parametrize(
        ("stop_reason", "finish_reason"),
        [
            ("end_turn", FinishReason.STOP),
            ("stop_sequence", FinishReason.STOP),
            ("max_tokens", FinishReason.LENGTH),
            ("model_context_window_exceeded", FinishReason.LENGTH),
            ("refusal", FinishReason.REFUSAL),
            ("pause_turn", FinishReason.STOP),
            ("of the future", FinishReason.STOP),
            (None, FinishReason.STOP),
            ([], FinishReason.STOP),
        ],
    )
    def test_the_end_is_told_wrongly(self, stop_reason: Any, finish_reason: FinishReason) -> None:
        assert messages.read_answer(whole("x", stop_reason=stop_reason), CHAT).finish_reason is finish_reason

    def test_a_stop_is_not_emulated(self) -> None:
        completion = chat(("user", "a"), stops=("\n\n",))
        answer = messages.read_answer(whole("a\n\nb", stop_reason="max_tokens"), completion)
        assert (answer.text, answer.finish_reason) == ("a", FinishReason.STOP)

    def test_the_callers_limit_is_not_kept(self) -> None:
        answer = messages.read_answer(whole("<COMPLETION>" + "x" * 99), hole(max_tokens=3))
        assert (answer.text, answer.finish_reason) == ("x" * 12, FinishReason.LENGTH)

    def test_an_empty_completion_is_a_failure(self) -> None:
        assert messages.read_answer(whole("<COMPLETION>"), FIM).text == ""
        assert messages.read_answer(whole(), CHAT).text == ""

    @pytest.mark.parametrize("usage", [None, [], {}, {"input_tokens": "9", "output_tokens": None}])
    def test_counts_that_are_none_break_the_answer(self, usage: Any) -> None:
        assert messages.read_answer(whole("x", usage=usage), CHAT).usage == Usage()

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", FailureReason.MALFORMED),
            (b"<html>", FailureReason.MALFORMED),
            (b"[]", FailureReason.MALFORMED),
            (b"{}", FailureReason.MALFORMED),
            (b'{"type": "message"}', FailureReason.MALFORMED),
            (b'{"content": []}', FailureReason.MALFORMED),
            (b"[" * 100_000, FailureReason.MALFORMED),
            (b'{"type": "error", "error": {"type": "api_error"}}', FailureReason.STREAM_ERROR),
            (b'{"type": "error"}', FailureReason.STREAM_ERROR),
            (b'{"type": "error", "error": {"type": "overloaded_error"}}', FailureReason.THROTTLED),
            (whole(stop_reason="refusal"), FailureReason.REFUSAL),
            (whole("I cannot do that.", stop_reason="refusal"), FailureReason.REFUSAL),
        ],
    )
    def test_what_is_no_answer_is_given_out(self, body: bytes, reason: FailureReason) -> None:
        with pytest.raises(messages.UnusableAnswer) as unusable:
            messages.read_answer(body, FIM)
        assert unusable.value.reason is reason

    def test_blocks_that_are_none_break_the_answer(self) -> None:
        blocks = (None, 1, {"type": "text"}, {"type": "text", "text": None}, {"type": "tool_use"}, "x")
        assert messages.read_answer(whole(*blocks), CHAT).text == "x"


def event(kind: str, **fields: Any) -> bytes:
    return sse.event(json.dumps({"type": kind, **fields}).encode(), kind)


START = event("message_start", message={"usage": {"input_tokens": 9, "output_tokens": 1}})
STOP = event("message_stop")
PING = event("ping")


def block(text: str, *more: str, index: int = 0) -> bytes:
    deltas = (event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece}) for piece in more)
    start = event("content_block_start", index=index, content_block={"type": "text", "text": text})
    return start + PING + b"".join(deltas) + event("content_block_stop", index=index)


def end(reason: str = "end_turn") -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 5})


THINKING = (
    event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "text": "no"})
    + event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "no"})
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "no"})
    + event("content_block_stop", index=0)
)


def stream(*pieces: bytes, completion: Completion = CHAT) -> tuple[str, messages.AnswerReader]:
    reader = messages.AnswerReader(completion)
    text = "".join(reader.feed(piece) for piece in pieces)
    return text + reader.finish(), reader


class TestStream:
    def test_code_is_not_found(self) -> None:
        code = block("", "<COMP", "LETION>x", " + 1", index=1)
        text, reader = stream(START, THINKING, code, end("stop_sequence"), STOP, completion=FIM)
        assert (text, reader.finished, reader.failure) == ("x + 1", True, None)
        assert (reader.finish_reason, reader.usage) == (FinishReason.STOP, Usage(9, 5))
        assert reader.complete

    def test_an_event_of_the_future_breaks_the_stream(self) -> None:
        news = event("weather", sky="blue") + b"event: noise\ndata: x\n\n" + sse.event(b'{"type": "weather"}')
        delta = event("content_block_delta", index=0, delta={"type": "mood_delta", "text": "no"})
        text, reader = stream(news, START, news, block("a"), delta, news, end(), news, STOP)
        assert (text, reader.failure) == ("a", None)

    def test_names_are_needed(self) -> None:
        named = START + block("a") + end() + STOP
        unnamed = b"\n".join(line for line in named.split(b"\n") if not line.startswith(b"event:"))
        assert stream(unnamed)[0] == "a"

    def test_an_open_stream_is_finished(self) -> None:
        reader = stream(START, block("a"))[1]
        assert (reader.finished, reader.finish_reason, reader.failure) == (False, None, None)

    def test_one_event_that_cannot_be_read_ends_a_stream_that_goes_on(self) -> None:
        rubbish = b"event: content_block_delta\ndata: {\n\n"
        text, reader = stream(START, rubbish, block("a"), rubbish, end())
        assert (text, reader.failure) == ("a", None)
        assert stream(START, block("a"), rubbish * 2)[1].failure is FailureReason.MALFORMED

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("overloaded_error", FailureReason.THROTTLED),
            ("rate_limit_error", FailureReason.THROTTLED),
            ("api_error", FailureReason.STREAM_ERROR),
            (None, FailureReason.STREAM_ERROR),
            ([], FailureReason.STREAM_ERROR),
        ],
    )
    def test_an_error_in_the_stream_is_not_seen(self, kind: Any, reason: FailureReason) -> None:
        error = event("error", error={"type": kind, "message": "x"})
        for before in ((), (START,), (START, block("a"))):
            reader = stream(*before, error, STOP)[1]
            assert (reader.failure, reader.finished) == (reason, False)

    @pytest.mark.parametrize(
        "pieces",
        [
            (b"data: x\n\n",),
            (b"data: []\n\n",),
            (b"data: {}\n\n",),
            (b'data: {"type": []}\n\n',),
            (b"event: message_start\ndata: x\n\n",),
            (b"event: message_start\ndata: \xff\n\n",),
            (b"data: " + b"x" * (1 << 20) + b"\n\n",),
            (block("a"),),
            (STOP,),
            (end(),),
            (START, START),
            (START, event("content_block_delta", index=1, delta={"type": "text_delta", "text": "a"})),
            (START, event("content_block_delta", index=[], delta={"type": "text_delta", "text": "a"})),
            (START, block("a"), event("content_block_delta", index=0)),
        ],
    )
    def test_garbage_passes_for_an_answer(self, pieces: tuple[bytes, ...]) -> None:
        reader = stream(*pieces, STOP)[1]
        assert (reader.failure, reader.finished) == (FailureReason.MALFORMED, False)

    def test_a_refusal_passes_for_a_completion(self) -> None:
        refusal = messages.AnswerReader(FIM)
        assert refusal.feed(START + block("I cannot do that.") + end("refusal") + STOP) == ""
        assert refusal.failure is FailureReason.REFUSAL

    def test_a_refusal_takes_back_what_was_sent(self) -> None:
        text, reader = stream(START, block("a"), end("refusal"), STOP)
        assert (text, reader.failure, reader.finish_reason) == ("a", None, FinishReason.REFUSAL)

    def test_a_stop_of_the_callers_leaves_the_stream_open(self) -> None:
        completion = chat(("user", "a"), stops=("\n\n",))
        text, reader = stream(START, block("", "abcd", "efgh\n", "\n"), completion=completion)
        assert (text, reader.finished, reader.finish_reason) == ("abcdefgh", True, FinishReason.STOP)
        assert reader.usage == Usage(9, 2)
        assert not reader.complete

    def test_the_callers_limit_leaves_the_stream_open(self) -> None:
        text, reader = stream(START, block("<COMPLETION>" + "x" * 99), completion=hole(max_tokens=3))
        assert (text, reader.finished, reader.finish_reason) == ("x" * 12, True, FinishReason.LENGTH)

    def test_the_closing_tag_leaves_the_stream_open(self) -> None:
        text, reader = stream(START, block("<COMPLETION>a\n</COMPLETION>"), completion=FIM)
        assert (text, reader.finished, reader.finish_reason) == ("a", True, FinishReason.STOP)

    def test_more_is_read_after_the_end(self) -> None:
        reader = stream(START, block("a"), end(), STOP)[1]
        assert reader.feed(START + block("b")) == ""
        assert reader.finish() == ""
