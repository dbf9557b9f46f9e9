"""Claude on Vertex: named by what a caller would miss, or what an answer would be taken for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.anthropic_vertex import AnthropicVertex, MessageMonitor, anthropic_model
from proxy.dialects.base import Completion, FinishReason, InvalidRequest, Usage, Verbatim
from proxy.dialects.messages import write_request

DIALECT = AnthropicVertex()
MODEL = "claude-haiku-4-5@20251001"
BODY = {
    "anthropic_version": "2026-10-21",
    "messages": [{"role": "user", "content": [{"type": "image", "source": {}}, {"type": "text", "text": "hi"}]}],
    "max_tokens": 64,
    "tools": [{"name": "f", "input_schema": {}}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
}


def read(model: str = MODEL, streaming_method: bool = False, **body: Any) -> Completion:
    body = {**BODY, **body}
    return DIALECT.read(json.dumps(body).encode(), model=model, streaming_method=streaming_method)


@pytest.mark.parametrize(
    ("on_vertex", "at_anthropic"),
    [
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5-20251001"),
        ("claude-haiku-5-5", "claude-haiku-5-5"),
        ("claude-sonnet-4-6@default", "claude-sonnet-4-6"),
        ("claude-opus-5@latest", "claude-opus-5"),
        ("claude-3-5-sonnet-v2@20241022", "claude-3-5-sonnet-20241022"),
        ("claude-3-opus@20240229", "claude-3-opus-20240229"),
    ],
)
def test_anthropic_does_not_know_the_model_by_vertexs_name(on_vertex: str, at_anthropic: str) -> None:
    assert anthropic_model(on_vertex) == at_anthropic


class TestRead:
    def test_anything_but_the_version_is_lost_on_the_way_to_anthropic(self) -> None:
        completion = read(stream=True)
        wanted = {**BODY, "stream": True}
        del wanted["anthropic_version"]
        assert (completion.model, completion.stream, completion.max_tokens) == (MODEL, True, 64)
        assert completion.task == Verbatim(wanted, "claude-haiku-4-5-20251001")
        sent = write_request(completion, model="claude-haiku-5-5", stream=True)
        assert sent == {**wanted, "model": "claude-haiku-4-5-20251001"}

    def test_betas_reach_the_body_that_anthropic_refuses_them_in(self) -> None:
        task = read(anthropic_beta=["context-1m-2025-08-07", "a1"]).task
        assert isinstance(task, Verbatim)
        assert task.betas == ("context-1m-2025-08-07", "a1")
        assert "anthropic_beta" not in task.body

    @pytest.mark.parametrize(
        ("given", "names"),
        [("a, b-1", ("a", "b-1")), ([1], ()), (["a\r\nx-api-key: b"], ()), (["a,b", "c"], ("c",)), ({"a": 1}, ())],
    )
    def test_what_is_no_name_reaches_a_header(self, given: Any, names: tuple[str, ...]) -> None:
        task = read(anthropic_beta=given).task
        assert isinstance(task, Verbatim)
        assert task.betas == names

    def test_a_float_of_the_limit_reaches_anthropic(self) -> None:
        task = read(max_tokens=10.0).task
        assert isinstance(task, Verbatim)
        assert type(task.body["max_tokens"]) is int

    @pytest.mark.parametrize(("stream", "streams"), [(None, False), (False, False), (True, True)])
    def test_the_method_overrules_the_body(self, stream: Any, streams: bool) -> None:
        body = {} if stream is None else {"stream": stream}
        assert [read(streaming_method=method, **body).stream for method in (True, False)] == [streams, streams]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("messages", None),
            ("messages", []),
            ("messages", "hi"),
            ("max_tokens", None),
            ("max_tokens", "64"),
            ("stream", 1),
        ],
    )
    def test_a_refusal_does_not_name_the_field(self, field: str, value: Any) -> None:
        with pytest.raises(InvalidRequest) as refused:
            read(**{field: value})
        assert refused.value.field == field


def message(*content: Any, **fields: Any) -> bytes:
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 6,
        "output_tokens": 12,
    }
    return json.dumps({"type": "message", "role": "assistant", "content": content, "usage": usage, **fields}).encode()


class TestCheck:
    def test_cached_tokens_are_not_counted(self) -> None:
        assert DIALECT.check(message()) == Usage(31, 12)

    @pytest.mark.parametrize("usage", [None, 1, {"input_tokens": "x", "output_tokens": -1}, {"input_tokens": True}])
    def test_an_answer_without_counts_fails_over(self, usage: Any) -> None:
        assert DIALECT.check(message(usage=usage)) == Usage()

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ({"type": "error", "error": {"type": "api_error"}}, FailureReason.STREAM_ERROR),
            ({"type": "error", "error": {"type": "overloaded_error"}}, FailureReason.THROTTLED),
            ({"type": "error", "error": None}, FailureReason.STREAM_ERROR),
            ({"error": {"code": 503, "status": "UNAVAILABLE"}}, FailureReason.STREAM_ERROR),
            ([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], FailureReason.THROTTLED),
        ],
    )
    def test_an_error_passes_for_an_answer(self, error: Any, reason: FailureReason) -> None:
        assert DIALECT.check(json.dumps(error).encode()) is reason

    @pytest.mark.parametrize(
        "body",
        [b"", b"<html>", b"null", b"[]", b"{}", message()[:-1], message(type="x"), message(1), message(content="x")],
    )
    def test_garbage_passes_for_an_answer(self, body: bytes) -> None:
        assert DIALECT.check(body) is FailureReason.MALFORMED

    def test_a_probe_sees_a_thought_for_text(self) -> None:
        blocks = [{"type": "thinking", "text": "no"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        assert DIALECT.text(message(*blocks)) == "ab"


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = event(
    "message_start", message={"usage": {"input_tokens": 5, "cache_read_input_tokens": 26, "output_tokens": 1}}
)
TEXT = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
PING = event("ping")
STOP = event("message_stop")


def delta(text: str, kind: str = "text") -> bytes:
    return event("content_block_delta", index=0, delta={"type": f"{kind}_delta", kind: text})


def end(reason: str | None = "end_turn") -> bytes:
    return event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 12})


def watch(*pieces: bytes) -> MessageMonitor:
    monitor = DIALECT.monitor()
    for piece in pieces:
        monitor.feed(piece)
    return monitor


def seen(*pieces: bytes) -> tuple[bool, bool, FailureReason | None]:
    monitor = watch(*pieces)
    return monitor.started, monitor.finished, monitor.failure


class TestMonitor:
    def test_a_stream_is_sent_before_it_has_content(self) -> None:
        assert seen(START, TEXT, PING, delta("")) == (False, False, None)

    @pytest.mark.parametrize(
        "first",
        [
            delta("x"),
            delta("x", "thinking"),
            event("content_block_start", index=0, content_block={"type": "text", "text": "x"}),
            event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
            event("content_block_start", index=0, content_block={"type": "tool_use", "name": "f", "input": {}}),
        ],
    )
    def test_content_is_not_seen(self, first: bytes) -> None:
        assert seen(START, PING, first) == (True, False, None)

    @pytest.mark.parametrize("size", [1, 7, 10_000])
    def test_a_whole_stream_is_changed_on_its_way(self, size: int) -> None:
        stream = START + TEXT + PING + delta("a\u00e9") + delta("b") + event("content_block_stop") + end() + STOP
        monitor = DIALECT.monitor()
        passed = b"".join(monitor.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + monitor.end()
        assert passed == stream
        assert (monitor.finished, monitor.terminated, monitor.missing_end()) == (True, True, b"")
        assert (monitor.usage, monitor.texts) == (Usage(31, 12), ["a\u00e9", "b"])

    @pytest.mark.parametrize(
        ("word", "reason"),
        [
            ("end_turn", FinishReason.STOP),
            ("tool_use", FinishReason.STOP),
            ("max_tokens", FinishReason.LENGTH),
            ("model_context_window_exceeded", FinishReason.LENGTH),
            ("refusal", FinishReason.REFUSAL),
        ],
    )
    def test_an_empty_message_fails_over(self, word: str, reason: FinishReason) -> None:
        monitor = watch(START, end(word))
        assert (monitor.started, monitor.finished, monitor.terminated) == (True, True, False)
        assert monitor.finish_reason is reason

    def test_counts_in_the_middle_end_the_stream(self) -> None:
        monitor = watch(START, TEXT, delta("x"), end(None))
        assert (monitor.finished, monitor.usage) == (False, Usage(31, 12))

    def test_a_missing_end_leaves_the_library_without_its_message(self) -> None:
        monitor = watch(START, TEXT, delta("x"), end())
        assert monitor.missing_end() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        monitor.feed(monitor.missing_end())
        assert (monitor.terminated, monitor.failure) == (True, None)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (event("error", error={"type": "overloaded_error"}), FailureReason.THROTTLED),
            (event("error", error={"type": "api_error"}), FailureReason.STREAM_ERROR),
            (b"event: error\ndata: gone\n\n", FailureReason.STREAM_ERROR),
            (b'data: {"error": {"code": 503}}\n\n', FailureReason.STREAM_ERROR),
            (b'data: {"error": {"status": "RESOURCE_EXHAUSTED"}}\n\n', FailureReason.THROTTLED),
        ],
    )
    def test_an_error_is_sent_to_the_caller(self, error: bytes, reason: FailureReason) -> None:
        assert seen(error) == (False, False, reason)
        monitor = watch(START, TEXT, delta("x"))
        assert monitor.feed(error) == b""
        assert (monitor.failure, monitor.error_event) == (reason, error)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"<html>",
            b"data: x\n\n",
            b"data: {}\n\n",
            b"data: 1\n\n",
            b'data: {"choices": []}\n\n',
            event("message_start"),
            delta("x"),
            end(),
            STOP,
        ],
    )
    def test_garbage_is_sent_to_the_caller(self, garbage: bytes) -> None:
        assert seen(garbage) == (False, False, FailureReason.MALFORMED)

    @pytest.mark.parametrize("garbage", [b"data: {\n\n", START, event("content_block_delta"), event("message_delta")])
    def test_one_garbled_event_breaks_a_stream_that_goes_on(self, garbage: bytes) -> None:
        monitor = watch(START, TEXT, delta("x"))
        assert monitor.feed(garbage + delta("y")) == delta("y")
        assert monitor.failure is None
        monitor.feed(garbage + garbage)
        assert monitor.failure is FailureReason.MALFORMED

    def test_an_event_that_is_yet_to_be_invented_is_left_out(self) -> None:
        news = event("content_block_news", index=0)
        assert DIALECT.monitor().feed(news + START + news) == news + START + news


class TestErrors:
    def test_an_error_is_not_googles(self) -> None:
        assert json.loads(DIALECT.error(503, "gone"))["error"]["status"] == "UNAVAILABLE"

    @pytest.mark.parametrize(("code", "kind"), [(500, "api_error"), (503, "overloaded_error"), (504, "timeout_error")])
    def test_an_error_in_a_stream_is_none_to_anthropics_library(self, code: int, kind: str) -> None:
        name, data = DIALECT.stream_error(code, "gone").decode().split("\n", 1)
        assert (name, data[-2:]) == ("event: error", "\n\n")
        error = {"type": kind, "message": "gone"}
        assert json.loads(data.removeprefix("data: ")) == {"type": "error", "error": error}

    def test_anthropics_own_answers_are_not_passed_on(self) -> None:
        assert DIALECT.pass_on(message()) == message()
        assert DIALECT.passing_monitor().feed(START) == START
