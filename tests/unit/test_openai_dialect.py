"""OpenAI's dialect on Vertex: named by what a caller would miss. What it shares with Codestral's is tested there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.base import Answer, Chat, Completion, FinishReason, InvalidRequest, Message, Usage
from proxy.dialects.openai import OpenAI

DIALECT = OpenAI(new_id=lambda: "chatcmpl-1", clock=lambda: 1764000000.9)
USAGE = Usage(31, 12)
COUNTS = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43}
MODEL = "google/gemini-2.5-flash"
HELLO = {"role": "user", "content": "hello"}
CHAT = Completion(task=Chat((Message("user", "hello"), Message("assistant", "Sure: "))), model=MODEL)


def read(**body: Any) -> Completion:
    body = {"model": MODEL, "messages": [HELLO], **body}
    return DIALECT.read(json.dumps(body).encode(), model="openapi", streaming_method=False)


def chunks(stream: bytes) -> list[Any]:
    *events, done, rest = stream.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


class TestRead:
    def test_a_request_of_openais_library_is_not_understood(self) -> None:
        completion = read(
            messages=[{"role": "developer", "content": "be brief"}, HELLO],
            max_tokens=10,
            max_completion_tokens=64,
            temperature=1.5,
            top_p=0.9,
            stop="\n",
            stream=True,
            stream_options={"include_usage": True},
            seed=1,
            user="me",
            tool_choice="none",
            modalities=["text"],
        )
        assert completion == Completion(
            task=Chat((Message("system", "be brief"), Message("user", "hello"))),
            model=MODEL,
            stream=True,
            max_tokens=64,
            temperature=1.5,
            top_p=0.9,
            stops=("\n",),
        )

    def test_null_fields_are_refused(self) -> None:
        fields = "stop stream stream_options max_tokens n tools modalities audio extra_body google response_format"
        assert read(**dict.fromkeys(fields.split())) == read()

    def test_parts_of_text_are_not_read(self) -> None:
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        task = read(messages=[{"role": "user", "content": parts}]).task
        assert task == Chat((Message("user", "ab"),))

    @pytest.mark.parametrize(
        ("options", "told"),
        [(None, False), ({}, False), ({"include_usage": False}, False), ({"include_usage": True}, True)],
    )
    def test_counts_come_unasked_in_a_stream(self, options: Any, told: bool) -> None:
        assert read(stream=True, stream_options=options).include_usage is told

    def test_several_choices_are_one(self) -> None:
        completion = read(n=3)
        assert completion.others == (read(), read())

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("model", None),
            ("model", ""),
            ("messages", None),
            ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            ("stream", "true"),
            ("stream_options", True),
            ("max_completion_tokens", 1.5),
            ("temperature", 2.5),
            ("top_p", 1.5),
            ("stop", [1]),
            ("n", 9),
            ("tools", [{"type": "function"}]),
            ("functions", [{"name": "f"}]),
            ("logprobs", True),
            ("top_logprobs", 2),
            ("audio", {"voice": "x"}),
            ("modalities", ["text", "audio"]),
            ("modalities", "text"),
            ("response_format", {"type": "grammar"}),
        ],
    )
    def test_a_refusal_does_not_name_the_field(self, field: str, value: Any) -> None:
        with pytest.raises(InvalidRequest) as refused:
            read(**{field: value})
        assert refused.value.field == field

    @pytest.mark.parametrize("name", ["cached_content", "cachedContent"])
    def test_a_request_is_answered_without_the_cached_content_it_rests_on(self, name: str) -> None:
        addition = {"google": {name: "projects/p/locations/l/cachedContents/1"}}
        for body in (addition, {"extra_body": addition}):
            with pytest.raises(InvalidRequest) as refused:
                read(**body)
            assert refused.value.field == "google.cached_content"


class TestWrite:
    def test_a_whole_answer_is_not_of_openais_shape(self) -> None:
        answers = [Answer("x", FinishReason.STOP, USAGE), Answer("y", FinishReason.LENGTH, USAGE)]
        assert json.loads(DIALECT.write(answers, CHAT)) == {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1764000000,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"},
                {"index": 1, "message": {"role": "assistant", "content": "y"}, "finish_reason": "length"},
            ],
            "usage": {"prompt_tokens": 31, "completion_tokens": 24, "total_tokens": 55},
        }

    def test_the_callers_own_words_are_repeated(self) -> None:
        writer = DIALECT.stream_writer(CHAT)
        stream = writer.delta("yes") + writer.finish(FinishReason.STOP, USAGE)
        assert "Sure" not in DIALECT.write([Answer("yes", FinishReason.STOP, USAGE)], CHAT).decode() + stream.decode()

    def test_counts_stand_in_the_chunk_that_ends_the_choice(self) -> None:
        writer = DIALECT.stream_writer(CHAT)
        first, last, counts = chunks(writer.delta("x") + writer.finish(FinishReason.STOP, USAGE))
        assert first["choices"][0] == {
            "index": 0,
            "delta": {"role": "assistant", "content": "x"},
            "finish_reason": None,
        }
        assert (last["choices"][0]["finish_reason"], "usage" in last) == ("stop", False)
        assert (counts["choices"], counts["usage"]) == ([], COUNTS)

    def test_counts_are_told_to_a_caller_who_did_not_ask(self) -> None:
        (only,) = chunks(DIALECT.stream_writer(read(stream=True)).finish(FinishReason.STOP, USAGE))
        assert "usage" not in only

    def test_two_answers_have_the_same_id(self) -> None:
        ids = {json.loads(OpenAI().write([Answer("", FinishReason.STOP, USAGE)], CHAT))["id"] for _ in range(2)}
        assert len(ids) == 2
        assert all(each.startswith("chatcmpl-") for each in ids)


class TestErrors:
    def test_an_error_is_not_in_an_array_as_this_endpoints_are(self) -> None:
        (error,) = json.loads(DIALECT.error(400, "no", field="tools"))
        assert error["error"]["status"] == "INVALID_ARGUMENT"

    def test_an_error_in_a_stream_is_none_to_openais_library(self) -> None:
        event = DIALECT.stream_error(503, "gone")
        assert event.startswith(b"data: {")
        assert event.endswith(b"}\n\n")
        assert json.loads(event[6:])["error"] == {"code": 503, "message": "gone", "status": "UNAVAILABLE"}
        monitor = DIALECT.monitor()
        monitor.feed(event)
        assert monitor.failure is FailureReason.STREAM_ERROR

    def test_vertexs_answer_is_not_judged(self) -> None:
        whole = DIALECT.write([Answer("x", FinishReason.STOP, USAGE)], CHAT)
        assert (DIALECT.check(whole), DIALECT.text(whole)) == (USAGE, "x")
        assert DIALECT.check(DIALECT.error(503, "x")) is FailureReason.STREAM_ERROR
