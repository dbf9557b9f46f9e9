"""Codestral's dialect: named by what a caller would miss, or what Vertex's answer would be taken for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.base import Answer, Chat, Completion, FinishReason, Hole, InvalidRequest, Message, Usage
from proxy.dialects.codestral import Codestral

DIALECT = Codestral(new_id=lambda: "0" * 32, clock=lambda: 1764000000.9)
USAGE = Usage(31, 12)
BUSY = [
    b'{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}',
    b'{"error": {"status": "RESOURCE_EXHAUSTED"}}',
    b'[{"error": {"code": 429}}]',
    b'{"object": "error", "message": "Rate limit exceeded", "code": "429"}',
]
COUNTS = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43}


def read(streaming_method: bool = False, **body: Any) -> Completion:
    return DIALECT.read(json.dumps(body).encode(), model="codestral-2", streaming_method=streaming_method)


def chat(*messages: Any, **fields: Any) -> tuple[Message, ...]:
    task = read(messages=list(messages), **fields).task
    assert isinstance(task, Chat)
    return task.messages


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


HELLO = user("hello")


class TestRead:
    def test_gitlabs_request_is_not_understood(self) -> None:
        completion = read(
            model="codestral-2501",
            prompt="def f():",
            suffix="\nx",
            max_tokens=64,
            min_tokens=1,
            temperature=0.7,
            top_p=0.95,
            stop=["\n\n", "\n+++++", "x"],
            random_seed=1,
            stream=True,
            safe_prompt=False,
        )
        assert completion == Completion(
            task=Hole("def f():", "\nx"),
            model="codestral-2501",
            stream=True,
            max_tokens=64,
            temperature=0.7,
            top_p=0.95,
            stops=("\n\n", "\n+++++", "x"),
        )

    def test_null_fields_and_missing_ones_are_refused(self) -> None:
        nothing: dict[str, Any] = dict.fromkeys(
            ("suffix", "max_tokens", "temperature", "top_p", "stop", "stream", "model", "n", "tools", "response_format")
        )
        assert read(prompt="", **nothing) == read(prompt="") == Completion(task=Hole("", ""), model="codestral-2")

    @pytest.mark.parametrize(
        ("stream", "method", "streams"), [(None, True, True), (False, True, False), (True, False, True)]
    )
    def test_the_method_overrules_the_body(self, stream: bool | None, method: bool, streams: bool) -> None:
        assert read(method, prompt="", stream=stream).stream is streams

    @pytest.mark.parametrize(("stop", "stops"), [("\n", ("\n",)), ([], ()), (["", "a"], ("a",)), ("", ())])
    def test_a_stop_is_read_in_one_form_alone(self, stop: Any, stops: tuple[str, ...]) -> None:
        assert read(prompt="", stop=stop).stops == stops

    def test_a_float_of_max_tokens_reaches_anthropic(self) -> None:
        limit = read(prompt="", max_tokens=128.0).max_tokens
        assert (limit, type(limit)) == (128, int)

    def test_a_lone_surrogate_of_an_editor_is_no_json(self) -> None:
        body = b'{"prompt": "\\ud83d", "suffix": "\\ud83d\\ude42"}'
        task = DIALECT.read(body, model="m", streaming_method=False).task
        assert task == Hole("\ud83d", "🙂")

    def test_messages_are_lost(self) -> None:
        assert chat({"role": "system", "content": "be brief"}, HELLO, {"role": "assistant", "content": "hi"}) == (
            Message("system", "be brief"),
            Message("user", "hello"),
            Message("assistant", "hi"),
        )

    def test_text_in_chunks_is_not_read(self) -> None:
        assert chat(user([{"type": "text", "text": "a"}, {"text": "b"}])) == (Message("user", "ab"),)

    def test_a_blank_message_reaches_anthropic(self) -> None:
        blank = [user(" \n"), user([]), {"role": "assistant", "content": None, "tool_calls": None}]
        assert chat(*blank, HELLO) == (Message("user", "hello"),)

    @pytest.mark.parametrize(
        "format_", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "n", "schema": {"x": 1}}}]
    )
    def test_a_response_format_is_forgotten(self, format_: dict[str, Any]) -> None:
        first, *rest = chat(HELLO, response_format=format_)
        assert first.role == "system"
        assert "JSON" in first.text
        assert ('{"x":1}' in first.text) == (format_["type"] == "json_schema")
        assert rest == [Message("user", "hello")]

    def test_a_text_response_format_asks_for_json(self) -> None:
        assert chat(HELLO, response_format={"type": "text"}) == (Message("user", "hello"),)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"", "body"),
            (b"{", "body"),
            (b"[]", "body"),
            (b"null", "body"),
            (b'"\xff"', "body"),
            (b"[" * 100_000, "body"),
            (b"{}", "prompt"),
            (b'{"prompt": null}', "prompt"),
            (b'{"prompt": 1}', "prompt"),
            (b'{"prompt": "", "suffix": 1}', "suffix"),
            (b'{"prompt": "", "model": 1}', "model"),
            (b'{"prompt": "", "stream": "true"}', "stream"),
            (b'{"prompt": "", "max_tokens": 1.5}', "max_tokens"),
            (b'{"prompt": "", "max_tokens": -1}', "max_tokens"),
            (b'{"prompt": "", "max_tokens": "64"}', "max_tokens"),
            (b'{"prompt": "", "max_tokens": true}', "max_tokens"),
            (b'{"prompt": "", "max_tokens": NaN}', "max_tokens"),
            (b'{"prompt": "", "max_tokens": 1' + b"0" * 400 + b"}", "max_tokens"),
            (b'{"prompt": "", "temperature": Infinity}', "temperature"),
            (b'{"prompt": "", "temperature": [1]}', "temperature"),
            (b'{"prompt": "", "top_p": 1.1}', "top_p"),
            (b'{"prompt": "", "stop": 1}', "stop"),
            (b'{"prompt": "", "stop": false}', "stop"),
            (b'{"prompt": "", "stop": [1]}', "stop"),
            (b'{"prompt": "", "stop": [' + b'"x", ' * 64 + b'"x"]}', "stop"),
            (b'{"prompt": "", "n": 9}', "n"),
            (b'{"prompt": "", "n": 2, "stream": true}', "n"),
            (b'{"prompt": "", "logprobs": true}', "logprobs"),
            (b'{"prompt": "", "tools": [{}]}', "tools"),
            (b'{"messages": []}', "messages"),
            (b'{"messages": "hello"}', "messages"),
            (b'{"messages": ["hello"]}', "messages"),
            (b'{"messages": [{"role": "user", "content": ""}]}', "messages"),
            (b'{"messages": [{"role": "user", "content": 1}]}', "messages"),
            (b'{"messages": [{"role": "user", "content": ["a"]}]}', "messages"),
            (b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "messages"),
            (b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}', "messages"),
            (b'{"messages": [{"role": "tool", "content": "x"}]}', "messages"),
            (b'{"messages": [{"role": "assistant", "tool_calls": [{}]}]}', "messages"),
            (b'{"messages": [{"role": "wizard", "content": "x"}]}', "messages"),
            (b'{"messages": [{"content": "x"}]}', "messages"),
            (b'{"messages": [{"role": ["user"], "content": "x"}]}', "messages"),
            (b'{"messages": [{"role": "user", "content": "x"}], "response_format": "json"}', "response_format"),
            (b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "x"}}', "response_format"),
            (
                b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}',
                "response_format",
            ),
        ],
    )
    def test_a_refusal_does_not_name_the_field(self, body: bytes, field: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            DIALECT.read(body, model="m", streaming_method=False)
        assert refused.value.field == field


FIM = Completion(task=Hole("", ""), model="codestral-2501")
CONTINUED = Completion(task=Chat((Message("user", "a"), Message("assistant", "Sure: "))), model="m")


class TestWrite:
    def test_a_whole_answer_is_not_of_mistrals_shape(self) -> None:
        assert json.loads(DIALECT.write([Answer("x\n", FinishReason.STOP, USAGE)], FIM)) == {
            "id": "0" * 32,
            "object": "chat.completion",
            "created": 1764000000,
            "model": "codestral-2501",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "x\n", "tool_calls": None},
                    "finish_reason": "stop",
                }
            ],
            "usage": COUNTS,
        }

    @pytest.mark.parametrize(
        ("reason", "word"),
        [(FinishReason.STOP, "stop"), (FinishReason.LENGTH, "length"), (FinishReason.REFUSAL, "stop")],
    )
    def test_a_finish_reason_is_no_word_of_mistrals(self, reason: FinishReason, word: str) -> None:
        whole = json.loads(DIALECT.write([Answer("", reason, USAGE)], FIM))
        assert whole["choices"][0]["finish_reason"] == word
        stream = DIALECT.stream_writer(FIM).finish(reason, USAGE)
        assert chunks(stream)[0]["choices"][0]["finish_reason"] == word

    def test_a_stream_is_not_of_mistrals_shape(self) -> None:
        writer = DIALECT.stream_writer(FIM)
        stream = writer.delta('a"\n') + writer.delta("é\ud83d") + writer.finish(FinishReason.LENGTH, USAGE)
        assert stream.endswith(b"}\n\ndata: [DONE]\n\n")
        fixed = {"id": "0" * 32, "object": "chat.completion.chunk", "created": 1764000000, "model": "codestral-2501"}
        deltas: list[tuple[dict[str, str], str | None]] = [
            ({"role": "assistant", "content": 'a"\n'}, None),
            ({"content": "é\ufffd"}, None),
            ({"content": ""}, "length"),
        ]
        wanted: list[dict[str, Any]] = [
            {**fixed, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas
        ]
        wanted[-1]["usage"] = COUNTS
        assert chunks(stream) == wanted

    def test_an_empty_stream_never_names_the_role(self) -> None:
        (only,) = chunks(DIALECT.stream_writer(FIM).finish(FinishReason.STOP, USAGE))
        assert only["choices"][0]["delta"] == {"role": "assistant", "content": ""}

    def test_two_answers_have_the_same_id(self) -> None:
        dialect = Codestral()
        first, second = (json.loads(dialect.write([Answer("", FinishReason.STOP, USAGE)], FIM))["id"] for _ in range(2))
        assert first != second
        assert len(first) == 32

    def test_a_client_cuts_the_answer_by_the_length_of_a_prefix_that_is_not_there(self) -> None:
        whole = json.loads(DIALECT.write([Answer("yes", FinishReason.STOP, USAGE)], CONTINUED))
        assert whole["choices"][0]["message"]["content"] == "Sure: yes"
        writer = DIALECT.stream_writer(CONTINUED)
        stream = writer.delta("y") + writer.delta("es") + writer.finish(FinishReason.STOP, USAGE)
        assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks(stream)] == ["Sure: ", "y", "es", ""]
        empty = chunks(DIALECT.stream_writer(CONTINUED).finish(FinishReason.STOP, USAGE))
        assert [chunk["choices"][0]["delta"] for chunk in empty] == [
            {"role": "assistant", "content": "Sure: "},
            {"content": ""},
        ]


def chunks(stream: bytes) -> list[Any]:
    """The chunks as google-genai, the strictest, finds them."""
    events = stream.decode().split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events if event != "data: [DONE]"]


def whole(content: Any = "x", reason: Any = "stop", **message: Any) -> Any:
    message = {"role": "assistant", "content": content, "tool_calls": None, **message}
    return {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": COUNTS}


class TestCheck:
    @pytest.mark.parametrize(
        "answer",
        [
            whole(),
            whole(""),
            whole("x", "model_length"),
            whole(None, "tool_calls", tool_calls=[{}]),
            whole([{}]),
            whole(None, "length"),
            whole(None, "stop", reasoning_content="hm"),
            whole(None, "content_filter", refusal="no"),
        ],
    )
    def test_a_good_answer_fails_over(self, answer: Any) -> None:
        assert DIALECT.check(json.dumps(answer).encode()) == USAGE

    def test_an_answer_without_counts_fails_over(self) -> None:
        answer = whole()
        del answer["usage"]
        assert DIALECT.check(json.dumps(answer).encode()) == Usage()

    @pytest.mark.parametrize(
        "body",
        [
            b'{"error": {"code": 500, "status": "INTERNAL"}}',
            b'{"error": "a text"}',
            b'[{"error": {"code": 503}}]',
            b'{"object": "error", "message": "Service unavailable."}',
            json.dumps(whole("x", "error")).encode(),
        ],
    )
    def test_an_error_passes_for_an_answer(self, body: bytes) -> None:
        assert DIALECT.check(body) is FailureReason.STREAM_ERROR

    @pytest.mark.parametrize("body", BUSY)
    def test_a_refusal_for_capacity_is_any_error(self, body: bytes) -> None:
        assert DIALECT.check(body) is FailureReason.THROTTLED

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"null",
            b"[]",
            b"{}",
            b'{"choices": []}',
            b'{"choices": [1]}',
            b'{"choices": {}}',
            b'{"choices": [{}]}',
            b'{"choices": [{"message": {}}]}',
            b'{"choices": [{"message": {"content": null}}]}',
            b'{"choices": [{"message": {"content": 1}}]}',
            b'{"choices": [{"message": {"content": "x"}}]',
            b'{"detail": []}',
            b"\xff\xfe\xfd",
            b"[" * 100_000,
        ],
    )
    def test_garbage_passes_for_an_answer(self, body: bytes) -> None:
        assert DIALECT.check(body) is FailureReason.MALFORMED

    @pytest.mark.parametrize(
        ("content", "text"),
        [("x", "x"), (None, ""), ([{"type": "text", "text": "a"}, {"type": "x"}, 1, {"text": "b"}], "ab")],
    )
    def test_a_probe_does_not_see_the_text(self, content: Any, text: str) -> None:
        assert DIALECT.text(json.dumps(whole(content)).encode()) == text
