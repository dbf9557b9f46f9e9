"""The simulated Gemini answers as its client libraries want it, and refuses what the service refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from google.genai import types

from proxy.simulator import SimulatedVertex, model

from .test_simulator_vertex import Asker

MODELS = "/v1/projects/p/locations/l/publishers/google/models"
FLASH = f"{MODELS}/gemini-2.5-flash"
WHOLE, STREAM, SSE = (
    f"{FLASH}:generateContent",
    f"{FLASH}:streamGenerateContent",
    f"{FLASH}:streamGenerateContent?alt=sse",
)
NUMBERS = "%24alt=json%3Benum-encoding%3Dint"
ANSWER = model.chat("vertex", "How?")
FUNCTION = {
    "name": "look_up",
    "parameters": {
        "type": "OBJECT",
        "properties": {"city": {"type": "STRING"}, "days": {"type": "INTEGER"}, "unit": {"enum": ["C", "F"]}},
    },
}
TOOLS = [{"functionDeclarations": [{"name": "other"}, FUNCTION]}]


def user(text: str = "How?") -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": text}]}


def asking(**fields: Any) -> dict[str, Any]:
    return {"contents": [user()], **fields}


def configured(**config: Any) -> dict[str, Any]:
    return asking(generationConfig=config)


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    async with SimulatedVertex() as vertex, ClientSession() as session:
        yield Asker(session, vertex)


async def answer(ask: Asker, body: object, target: str = WHOLE) -> types.GenerateContentResponse:
    """A whole answer, read by the client library's own type."""
    status, content_type, data = await ask(body, target)
    assert (status, content_type) == (200, "application/json; charset=UTF-8"), data
    return types.GenerateContentResponse.model_validate_json(data)


async def elements(ask: Asker, body: object, target: str) -> list[dict[str, Any]]:
    """The parts of a stream, from an array or from events."""
    status, content_type, data = await ask(body, target)
    assert status == 200, data
    if content_type == "application/json; charset=UTF-8":
        found = json.loads(data)
        assert isinstance(found, list)
        return found
    assert content_type == "text/event-stream"
    assert data.endswith(b"\r\n\r\n")
    events = data.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


async def refusal(ask: Asker, body: object, target: str = WHOLE) -> str:
    status, _, data = await ask(body, target)
    error = json.loads(data)["error"]
    assert (status, error["status"]) == (400, "INVALID_ARGUMENT")
    return str(error["message"])


async def test_a_whole_answer_lacks_what_the_client_library_reads(ask: Asker) -> None:
    found = await answer(ask, asking(systemInstruction={"parts": [{"text": "Be brief."}]}))
    assert found.text == ANSWER
    assert found.candidates is not None
    assert found.candidates[0].finish_reason == types.FinishReason.STOP
    assert (found.model_version, bool(found.response_id)) == ("gemini-2.5-flash", True)
    assert found.usage_metadata is not None
    assert found.usage_metadata.prompt_token_count == model.tokens("Be brief.How?")
    assert found.usage_metadata.candidates_token_count == model.tokens(ANSWER)


@pytest.mark.parametrize("target", [STREAM, SSE, SSE.replace("alt", "%24alt"), SSE.replace("v1", "v1beta1")])
async def test_a_stream_is_not_one_answer_in_pieces(ask: Asker, target: str) -> None:
    parts = await elements(ask, asking(), target)
    texts = [part["candidates"][0]["content"]["parts"][0]["text"] for part in parts]
    assert "".join(texts) == ANSWER
    assert max(map(len, texts)) == 8
    finishes = [part["candidates"][0].get("finishReason") for part in parts]
    assert finishes == [None] * (len(parts) - 1) + ["STOP"]
    assert len({(part["responseId"], part["modelVersion"], part["createTime"]) for part in parts}) == 1
    assert ["totalTokenCount" in part["usageMetadata"] for part in parts] == [False] * (len(parts) - 1) + [True]


@pytest.mark.parametrize("target", [STREAM, SSE])
async def test_the_framing_of_a_stream_is_not_googles(ask: Asker, target: str) -> None:
    _, _, data = await ask(asking(), target)
    if target == SSE:
        assert b"\n" not in data.replace(b"\r\n", b"")
        assert b"event:" not in data
        assert b"[DONE]" not in data
    else:
        # google-api-core fails on anything behind the last bracket.
        assert data.startswith(b"[{\n  ")
        assert data.endswith(b"}\n]")
        assert b"}\n,\r\n{" in data


async def test_snake_case_or_a_proto_spelling_is_refused(ask: Asker) -> None:
    body = {
        "contents": {"role": "user", "parts": {"text": "How?"}},
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "generation_config": {"max_output_tokens": "2", "top_k": 1, "temperature": 0, "stop_sequences": ["q"]},
        "safety_settings": [{"category": 3, "threshold": "BLOCK_NONE"}],
        "labels": {"team": "x"},
        "cached_content": "projects/p/locations/l/cachedContents/1",
        "tools": None,
    }
    found = await answer(ask, body)
    assert found.text == ANSWER[:8]


async def test_enums_are_names_to_a_client_that_wants_numbers(ask: Asker) -> None:
    _, _, data = await ask(configured(maxOutputTokens=2), f"{WHOLE}?{NUMBERS}")
    found = json.loads(data)
    assert found["candidates"][0]["finishReason"] == 2
    assert found["usageMetadata"]["trafficType"] == 1
    parts = await elements(ask, asking(), f"{STREAM}?{NUMBERS}")
    assert parts[-1]["candidates"][0]["finishReason"] == 1


async def test_stops_and_limits_are_not_kept(ask: Asker) -> None:
    for config, text, finish in (
        ({"stopSequences": ["nowhere", " is "]}, "This", "STOP"),
        ({"maxOutputTokens": 2}, ANSWER[:8], "MAX_TOKENS"),
    ):
        for target in (STREAM, SSE):
            parts = await elements(ask, configured(**config), target)
            assert "".join(part["candidates"][0]["content"]["parts"][0]["text"] for part in parts) == text
            assert parts[-1]["candidates"][0]["finishReason"] == finish
        assert (await answer(ask, configured(**config))).text == text


async def test_an_empty_answer_has_parts(ask: Asker) -> None:
    ask.vertex.chats = lambda text: ""
    _, _, data = await ask(asking(), WHOLE)
    assert json.loads(data)["candidates"][0]["content"] == {"role": "model"}


async def test_candidates_are_too_few_or_alike(ask: Asker) -> None:
    found = await answer(ask, configured(candidateCount=8))
    assert found.candidates is not None
    assert [each.index for each in found.candidates] == list(range(8))
    contents = [each.content.parts[0].text for each in found.candidates if each.content and each.content.parts]
    assert len(set(contents)) == 8
    assert contents[0] == ANSWER
    status, _, data = await ask(configured(candidateCount=2), STREAM)
    assert (status, json.loads(data)[0]["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_log_probabilities_are_missing_when_asked_for(ask: Asker) -> None:
    found = await answer(ask, configured(responseLogprobs=True, logprobs=2))
    assert found.candidates is not None
    told = found.candidates[0].logprobs_result
    assert told is not None
    assert told.chosen_candidates is not None
    assert told.top_candidates is not None
    assert "".join(each.token or "" for each in told.chosen_candidates) == ANSWER
    assert {len(each.candidates or ()) for each in told.top_candidates} == {2}


@pytest.mark.parametrize("target", [WHOLE, STREAM, SSE])
async def test_a_function_is_described_in_place_of_called(ask: Asker, target: str) -> None:
    config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look_up"]}}
    body = asking(tools=TOOLS, toolConfig=config)
    if target == WHOLE:
        calls = (await answer(ask, body)).function_calls
        assert calls is not None
        assert (calls[0].name, calls[0].args) == ("look_up", {"city": "How?", "days": 4, "unit": "C"})
    else:
        first, last = await elements(ask, body, target)
        assert first["candidates"][0]["content"]["parts"][0]["functionCall"]["name"] == "look_up"
        assert last["candidates"][0]["finishReason"] == "STOP"


async def test_a_function_is_called_for_ever(ask: Asker) -> None:
    called = {"role": "model", "parts": [{"functionCall": {"name": "look_up", "args": {}}}]}
    result = {"role": "user", "parts": [{"functionResponse": {"name": "look_up", "response": {"sun": 1}}}]}
    assert (await answer(ask, {"contents": [user(), called, result], "tools": TOOLS})).text == model.chat("vertex", "")
    assert (await answer(ask, asking(tools=TOOLS, toolConfig={"functionCallingConfig": {"mode": "NONE"}}))).text
    assert "function response parts" in await refusal(ask, {"contents": [user(), called, user()], "tools": TOOLS})


@pytest.mark.parametrize("target", [WHOLE, STREAM, SSE])
async def test_a_blocked_prompt_has_candidates(ask: Asker, target: str) -> None:
    ask.vertex.block_prompts = True
    if target == WHOLE:
        found = json.loads((await ask(asking(), target))[2])
    else:
        [found] = await elements(ask, asking(), target)
    assert "candidates" not in found
    assert found["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"


async def test_tokens_are_not_counted(ask: Asker) -> None:
    status, _, data = await ask(asking(), f"{FLASH}:countTokens")
    assert status == 200
    assert json.loads(data) == {"totalTokens": model.tokens("How?"), "totalBillableCharacters": 4}
    assert "contents" in await refusal(ask, {}, f"{FLASH}:countTokens")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": "x"}, 'Invalid JSON payload received. Unknown name "prompt": Cannot find field.'),
        (configured(max_tokens=1), "Unknown name \"max_tokens\" at 'generation_config': Cannot find field."),
        ({"contents": [{"role": "user", "parts": [{"txt": "x"}]}]}, "Unknown name \"txt\" at 'contents[0].parts[0]'"),
        (configured(maxOutputTokens=1.5), "Invalid value at 'generation_config.max_output_tokens' (TYPE_INT32), 1.5"),
        (configured(temperature="hot"), "(TYPE_FLOAT)"),
        (configured(responseLogprobs=1), "(TYPE_BOOL), 1"),
        (asking(systemInstruction="x"), 'aiplatform.v1.Content), "x"'),
        (asking(systemInstruction=[user()]), "Proto field is not repeating, cannot start list."),
        (asking(safetySettings=[{"category": "RUDE"}]), "HarmCategory"),
        (
            {"contents": [{"role": "user", "parts": [{"text": "x", "inlineData": {"mimeType": "a/b", "data": ""}}]}]},
            "oneof field 'data' is already set. Cannot set 'inlineData'",
        ),
        ({"contents": [{"role": "user", "parts": [{"inlineData": {"data": "?"}}]}]}, "Base64 decoding failed"),
    ],
)
async def test_a_body_that_is_no_message_is_taken(ask: Asker, body: object, said: str) -> None:
    assert said in await refusal(ask, body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"contents": []}, "at least one contents field"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "Please use a valid role: user, model."),
        ({"contents": [user(), {"parts": [{"text": "x"}]}]}, "valid role"),
        ({"contents": [{"role": "user", "parts": []}]}, "at least one parts field"),
        ({"contents": [{"role": "user", "parts": [{"thought": True}]}]}, "must have a text parameter"),
        ({"contents": [user("")]}, "empty text parameter"),
        (
            configured(temperature=2.1),
            "temperature value of 2.1 but the supported range is from 0 (inclusive) to 2.0001",
        ),
        (configured(topP=-1), "topP"),
        (configured(candidateCount=9), "candidateCount value of 9"),
        (configured(maxOutputTokens=0), "maxOutputTokens"),
        (configured(maxOutputTokens=65_537), "maxOutputTokens"),
        (configured(presencePenalty=2), "presencePenalty"),
        (configured(stopSequences=list("abcdef")), "6 stopSequences"),
        (configured(logprobs=1), "responseLogprobs"),
        (configured(responseSchema={"type": "OBJECT"}), "mime type"),
        (configured(responseMimeType="text/html"), "mime type"),
        (configured(thinkingConfig={"thinkingBudget": 24_577}), "thinking budget"),
        (asking(tools=[{"functionDeclarations": [{"description": "x"}]}]), "no name"),
    ],
)
async def test_what_the_model_refuses_is_taken(ask: Asker, body: object, said: str) -> None:
    assert said in await refusal(ask, body)


async def test_models_take_the_same(ask: Asker) -> None:
    off, some = configured(thinkingConfig={"thinkingBudget": 0}), configured(thinkingConfig={"thinkingBudget": 128})
    assert (await answer(ask, off)).text
    assert "thinking budget 0" in await refusal(ask, off, f"{MODELS}/gemini-2.5-pro:generateContent")
    assert (await answer(ask, some, f"{MODELS}/gemini-2.5-pro:generateContent")).text
    assert "not supported" in await refusal(ask, some, f"{MODELS}/gemini-2.0-flash:generateContent")
    assert "8193" in await refusal(ask, configured(maxOutputTokens=8193), f"{MODELS}/gemini-2.0-flash:generateContent")


async def test_errors_of_the_array_are_no_array_or_those_of_others_are(ask: Asker) -> None:
    ask.vertex.fault = ask.vertex.preset("throttled")
    for target, wrapped in ((STREAM, True), (f"{STREAM}?{NUMBERS}", True), (SSE, False), (WHOLE, False)):
        _, _, data = await ask(asking(), target)
        document = json.loads(data)
        assert isinstance(document, list) == wrapped
        assert (document[0] if wrapped else document)["error"]["status"] == "RESOURCE_EXHAUSTED"
