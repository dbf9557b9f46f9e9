"""Gemini's dialect: named by what a caller would miss, or what Vertex's answer would be taken for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.base import (
    Answer,
    Chat,
    Completion,
    FinishReason,
    Framing,
    InvalidRequest,
    Message,
    Usage,
)
from proxy.dialects.gemini import Gemini, new_id

DIALECT = Gemini(Framing.EVENTS, new_id=lambda: "r1", clock=lambda: 1764000000.5)
USAGE = Usage(31, 12)
COUNTS = {"promptTokenCount": 31, "candidatesTokenCount": 12, "totalTokenCount": 43}
HELLO = {"role": "user", "parts": [{"text": "hello"}]}
BUSY = b'{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}'


def read(streaming_method: bool = False, **body: Any) -> Completion:
    body.setdefault("contents", [HELLO])
    return DIALECT.read(json.dumps(body).encode(), model="gemini-2.5-flash", streaming_method=streaming_method)


def messages(**body: Any) -> tuple[Message, ...]:
    task = read(**body).task
    assert isinstance(task, Chat)
    return task.messages


def refused(**body: Any) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        read(**body)
    return refusal.value.field


class TestRead:
    def test_google_genais_request_is_not_understood(self) -> None:
        completion = read(
            True,
            systemInstruction={"role": "user", "parts": [{"text": "be brief"}]},
            contents=[HELLO, {"role": "model", "parts": [{"text": "h"}, {"text": "i"}]}, HELLO],
            generationConfig={
                "temperature": 0.7,
                "topP": 0.95,
                "topK": 40,
                "candidateCount": 1,
                "maxOutputTokens": 128.0,
                "stopSequences": ["\n\n", "x"],
                "presencePenalty": 1,
                "frequencyPenalty": 1,
                "seed": 7,
                "thinkingConfig": {"thinkingBudget": 0},
                "responseLogprobs": False,
            },
            safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            labels={"team": "a"},
            tools=[],
            toolConfig={"functionCallingConfig": {"mode": "NONE"}},
        )
        system, hello, hi = Message("system", "be brief"), Message("user", "hello"), Message("assistant", "hi")
        assert completion == Completion(
            task=Chat((system, hello, hi, hello)),
            model="gemini-2.5-flash",
            stream=True,
            max_tokens=128,
            temperature=0.7,
            top_p=0.95,
            stops=("\n\n", "x"),
        )

    def test_snake_case_is_passed_over(self) -> None:
        snake = read(
            system_instruction={"parts": {"text": "be brief"}},
            generation_config={"max_output_tokens": 9, "topP": 0.5, "stop_sequences": "x"},
        )
        camel = read(
            systemInstruction={"parts": [{"text": "be brief"}]},
            generationConfig={"maxOutputTokens": 9, "top_p": 0.5, "stopSequences": ["x"]},
        )
        assert snake == camel
        assert (snake.max_tokens, snake.top_p, snake.stops) == (9, 0.5, ("x",))

    @pytest.mark.parametrize(
        "contents",
        [
            {"role": "user", "parts": {"text": "hello"}},
            [{"parts": [{"text": "hel"}, {"text": "lo", "thoughtSignature": "YQ==", "inlineData": None}]}],
            [{"role": "", "parts": [{"text": "thinking", "thought": True}, {"text": "hello"}]}],
            [{"role": "user", "parts": [{"text": " "}]}, HELLO, {"role": "model", "parts": []}],
        ],
    )
    def test_a_content_is_read_in_one_form_alone(self, contents: Any) -> None:
        assert messages(contents=contents) == (Message("user", "hello"),)

    def test_paragraphs_of_the_instruction_run_together(self) -> None:
        first, _ = messages(systemInstruction={"parts": [{"text": "a."}, {"text": "b."}]})
        assert first == Message("system", "a.\n\nb.")

    def test_a_number_as_a_text_is_no_number(self) -> None:
        completion = read(generationConfig={"maxOutputTokens": "64", "temperature": "0.5", "candidateCount": "2"})
        assert (completion.max_tokens, completion.temperature, len(completion.others)) == (64, 0.5, 1)

    def test_candidates_are_asked_for_once(self) -> None:
        completion = read(generationConfig={"candidateCount": 3})
        assert [other.task for other in completion.others] == [completion.task] * 2

    @pytest.mark.parametrize("schema", ["responseSchema", "responseJsonSchema", "response_schema"])
    def test_a_schema_is_forgotten(self, schema: str) -> None:
        config = {"responseMimeType": "application/json", schema: {"type": "OBJECT"}}
        first, *rest = messages(generationConfig=config, systemInstruction={"parts": [{"text": "be brief"}]})
        assert first.role == "system"
        assert "JSON" in first.text
        assert first.text.endswith('{"type":"OBJECT"}')
        assert rest == [Message("system", "be brief"), Message("user", "hello")]

    def test_a_schema_with_numbers_for_types_is_told_as_it_came(self) -> None:
        schema = {"type": 6, "properties": {"type": {"type": 1}, "n": {"anyOf": [{"type": 3}, {"type": 99}]}}}
        config = {"responseMimeType": "application/json", "responseSchema": schema}
        told = json.loads(messages(generationConfig=config)[0].text.partition("\n")[2])
        assert told["type"] == "OBJECT"
        assert told["properties"] == {"type": {"type": "STRING"}, "n": {"anyOf": [{"type": "INTEGER"}, {"type": 99}]}}

    def test_a_schema_without_end_raises_something_else(self) -> None:
        schema = b'{"items":' * 900 + b"{}" + b"}" * 900
        config = b'{"responseMimeType": "application/json", "responseSchema": ' + schema + b"}"
        body = b'{"contents": [{"parts": [{"text": "a"}]}], "generationConfig": ' + config + b"}"
        with pytest.raises(InvalidRequest) as refusal:
            DIALECT.read(body, model="m", streaming_method=False)
        assert refusal.value.field in ("body", "generationConfig.responseSchema")

    def test_a_mime_type_is_forgotten(self) -> None:
        json_only, _ = messages(generationConfig={"response_mime_type": "application/json"})
        assert "JSON" in json_only.text
        enum, _ = messages(generationConfig={"responseMimeType": "text/x.enum", "responseSchema": {"enum": ["a"]}})
        assert '["a"]' in enum.text
        assert messages(generationConfig={"responseMimeType": "text/plain"}) == (Message("user", "hello"),)

    @pytest.mark.parametrize(
        ("field", "body"),
        [
            ("tools", {"tools": [{"functionDeclarations": [{"name": "f"}]}]}),
            ("tools", {"tools": [{"googleSearch": {}}]}),
            ("cachedContent", {"cachedContent": "projects/p/cachedContents/1"}),
            ("cached_content", {"cached_content": "projects/p/cachedContents/1"}),
            ("generationConfig.responseLogprobs", {"generationConfig": {"responseLogprobs": True}}),
            ("generation_config.response_logprobs", {"generation_config": {"response_logprobs": True}}),
            ("generationConfig.logprobs", {"generationConfig": {"logprobs": 3}}),
            ("generationConfig.responseModalities", {"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}),
            ("generationConfig.responseModalities", {"generationConfig": {"responseModalities": 2}}),
            ("generationConfig.responseMimeType", {"generationConfig": {"responseMimeType": "image/png"}}),
            ("generationConfig.candidateCount", {"streaming_method": True, "generationConfig": {"candidateCount": 2}}),
            ("generationConfig.candidateCount", {"generationConfig": {"candidateCount": 9}}),
        ],
    )
    def test_what_claude_cannot_be_asked_is_left_out(self, field: str, body: Any) -> None:
        assert refused(**body) == field

    @pytest.mark.parametrize(
        "name", ["inlineData", "inline_data", "fileData", "functionCall", "functionResponse", "executableCode"]
    )
    def test_a_part_that_is_no_text_is_left_out(self, name: str) -> None:
        with_data = {"role": "user", "parts": [{"text": "x"}, {name: {"a": 1}}]}
        assert refused(contents=[HELLO, with_data]) == f"contents[1].parts[1].{name}"
        assert refused(systemInstruction=with_data) == f"systemInstruction.parts[1].{name}"

    def test_text_alone_is_a_modality_of_its_own(self) -> None:
        assert read(generationConfig={"responseModalities": ["TEXT", 1]}) == read()

    @pytest.mark.parametrize(
        ("field", "body"),
        [
            ("contents", {"contents": []}),
            ("contents", {"contents": None}),
            ("contents", {"contents": [{"parts": [{"text": " "}]}]}),
            ("contents[0]", {"contents": ["hello"]}),
            ("contents[0].role", {"contents": [{**HELLO, "role": "system"}]}),
            ("contents[0].role", {"contents": [{**HELLO, "role": 1}]}),
            ("contents[0].parts[0]", {"contents": [{"parts": "hello"}]}),
            ("contents", {"contents": [{"parts": [{}]}]}),
            ("contents[0].parts[0].text", {"contents": [{"parts": [{"text": 1}]}]}),
            ("systemInstruction", {"systemInstruction": "be brief"}),
            ("generationConfig", {"generationConfig": []}),
            ("generationConfig.maxOutputTokens", {"generationConfig": {"maxOutputTokens": 1.5}}),
            ("generationConfig.maxOutputTokens", {"generationConfig": {"maxOutputTokens": "x"}}),
            ("generation_config.topP", {"generation_config": {"topP": 2}}),
            ("generationConfig.temperature", {"generationConfig": {"temperature": "NaN"}}),
            ("generationConfig.stop_sequences", {"generationConfig": {"stop_sequences": [1]}}),
            ("generationConfig.responseMimeType", {"generationConfig": {"responseMimeType": 1}}),
        ],
    )
    def test_a_field_that_is_wrong_is_not_named(self, field: str, body: Any) -> None:
        assert refused(**body) == field

    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"\xff"', b"[" * 100_000])
    def test_a_body_that_is_no_request_raises_something_else(self, body: bytes) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            DIALECT.read(body, model="m", streaming_method=False)
        assert refusal.value.field == "body"

    def test_null_fields_are_refused(self) -> None:
        nothing: dict[str, Any] = dict.fromkeys(
            ("systemInstruction", "generationConfig", "tools", "cachedContent", "labels")
        )
        assert read(**nothing) == read()
        assert read(generationConfig=dict.fromkeys(("topP", "stopSequences", "responseMimeType"))) == read()


class TestWrite:
    def test_an_answer_lacks_what_clients_read(self) -> None:
        answers = [Answer("a", FinishReason.STOP, USAGE), Answer("", FinishReason.LENGTH, Usage(31, 5))]
        assert json.loads(DIALECT.write(answers, read(generationConfig={"candidateCount": 2}))) == {
            "candidates": [
                {"index": 0, "content": {"role": "model", "parts": [{"text": "a"}]}, "finishReason": "STOP"},
                {"index": 1, "content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "MAX_TOKENS"},
            ],
            "usageMetadata": {"promptTokenCount": 31, "candidatesTokenCount": 17, "totalTokenCount": 48},
            "modelVersion": "gemini-2.5-flash",
            "createTime": "2025-11-24T16:00:00.500000Z",
            "responseId": "r1",
        }

    def test_a_refusal_passes_for_an_answer(self) -> None:
        body = DIALECT.write([Answer("a", FinishReason.REFUSAL, USAGE)], read())
        assert json.loads(body)["candidates"][0]["finishReason"] == "SAFETY"

    def test_its_own_answer_is_found_at_fault(self) -> None:
        body = DIALECT.write([Answer("é", FinishReason.STOP, USAGE)], read())
        assert DIALECT.check(body) == USAGE
        assert DIALECT.text(body) == "é"

    def test_half_a_surrogate_pair_goes_out_to_a_client_that_cannot_parse_it(self) -> None:
        assert b"\\ud8" not in DIALECT.write([Answer("x\ud83d", FinishReason.STOP, USAGE)], read())

    def test_two_answers_have_one_id(self) -> None:
        assert len({new_id() for _ in range(9)}) == 9
        assert len(new_id()) == 22

    def test_an_error_is_not_googles(self) -> None:
        error = json.loads(DIALECT.error(400, "no", field="tools"))["error"]
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
        assert error["details"][0]["fieldViolations"][0]["field"] == "tools"


CONTENT = {"role": "model", "parts": [{"text": "a"}]}


def check(**answer: Any) -> FailureReason | Usage:
    return DIALECT.check(json.dumps(answer).encode())


class TestCheck:
    def test_what_was_counted_is_lost(self) -> None:
        candidate = {"content": CONTENT, "finishReason": "STOP"}
        assert check(candidates=[candidate], usageMetadata=COUNTS) == USAGE
        thinking = {**COUNTS, "thoughtsTokenCount": 100, "toolUsePromptTokenCount": 9}
        assert check(candidates=[candidate], usageMetadata=thinking) == Usage(40, 112)
        assert check(candidates=[candidate], usageMetadata={"trafficType": 1}) == Usage()

    @pytest.mark.parametrize("blocked", [{}, {"candidates": []}, {"candidates": None}])
    def test_a_prompt_that_was_blocked_is_vertexs_fault(self, blocked: Any) -> None:
        assert check(promptFeedback={"blockReason": "SAFETY"}, **blocked) == Usage()
        assert DIALECT.text(json.dumps({"promptFeedback": {}, **blocked}).encode()) == ""

    @pytest.mark.parametrize("reason", ["SAFETY", "MAX_TOKENS", "RECITATION", 3])
    def test_an_answer_that_was_blocked_is_vertexs_fault(self, reason: Any) -> None:
        assert check(candidates=[{"finishReason": reason}]) == Usage()
        assert check(candidates=[{"content": {"role": "model"}, "finishReason": reason}]) == Usage()

    @pytest.mark.parametrize(
        "answer",
        [
            {},
            {"candidates": []},
            {"candidates": {}},
            {"candidates": ["a"]},
            {"candidates": [{}]},
            {"candidates": [{"content": CONTENT}, {}]},
            {"candidates": [{"content": {"role": "model", "parts": []}}]},
            {"candidates": [{"content": "a"}]},
            {"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED"}]},
            {"candidates": [{"finishReason": 0}]},
        ],
    )
    def test_an_answer_without_an_answer_is_sent(self, answer: Any) -> None:
        assert check(**answer) is FailureReason.MALFORMED

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"1", b"[" * 100_000])
    def test_garbage_is_sent(self, body: bytes) -> None:
        assert DIALECT.check(body) is FailureReason.MALFORMED

    def test_an_error_is_sent_as_an_answer(self) -> None:
        assert check(error={"code": 503}) is FailureReason.STREAM_ERROR
        for body in (BUSY, b"[" + BUSY + b"]"):
            assert DIALECT.check(body) is FailureReason.THROTTLED

    def test_a_thought_is_taken_for_the_answer(self) -> None:
        parts = [{"text": "hm", "thought": True}, {"text": "a"}, {"functionCall": {}}, {"text": "b"}]
        body = json.dumps({"candidates": [{"content": {"parts": parts}}, {"content": CONTENT}]}).encode()
        assert DIALECT.text(body) == "ab"
