"""The simulated OpenAI endpoint of Vertex AI answers in OpenAI's format, and with errors of its own shape."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from proxy.simulator import SimulatedVertex, model

from .test_simulator_vertex import AUTHORIZED, Asker

CHAT = "/v1/projects/p/locations/l/endpoints/openapi/chat/completions"
GEMINI, LLAMA = "google/gemini-2.5-flash", "meta/llama-3.3-70b-instruct-maas"
ANSWER = model.chat("vertex", "How?")
TOOLS = [
    {
        "type": "function",
        "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    },
    {"type": "function", "function": {"name": "other"}},
]
CALL = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def asking(**fields: object) -> dict[str, Any]:
    return {"model": GEMINI, "messages": [{"role": "user", "content": "How?"}], **fields}


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    async with SimulatedVertex() as vertex, ClientSession() as session:
        yield Asker(session, vertex)


async def answer(ask: Asker, body: object, target: str = CHAT) -> Any:
    status, content_type, data = await ask(body, target)
    assert (status, content_type) == (200, "application/json; charset=UTF-8"), data
    return json.loads(data)


async def chunks(ask: Asker, body: dict[str, Any]) -> list[Any]:
    *events, done = await ask.stream({**body, "stream": True}, CHAT)
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


async def refusal(ask: Asker, body: object, status: int = 400, kind: str = "INVALID_ARGUMENT") -> str:
    answered, _, data = await ask(body, CHAT)
    [document] = json.loads(data)
    assert (answered, document["error"]["code"], document["error"]["status"]) == (status, status, kind)
    return str(document["error"]["message"])


@pytest.mark.parametrize("name", [GEMINI, LLAMA])
async def test_a_whole_answer_is_not_openais(ask: Asker, name: str) -> None:
    found = await answer(ask, asking(model=name), CHAT.replace("v1", "v1beta1"))
    assert (found["object"], found["model"], type(found["created"])) == ("chat.completion", name, int)
    message = {"role": "assistant", "content": ANSWER}
    assert found["choices"] == [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    usage = found["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


async def test_parts_of_a_content_are_not_read(ask: Asker) -> None:
    content = [
        {"type": "text", "text": "Ho"},
        {"type": "image_url", "image_url": {"url": "https://x.invalid/y.png"}},
        {"type": "text", "text": "w?"},
    ]
    found = await answer(ask, asking(messages=[{"role": "user", "content": content}]))
    assert found["choices"][0]["message"]["content"] == ANSWER


async def test_a_stream_is_not_one_answer_in_pieces(ask: Asker) -> None:
    found = await chunks(ask, asking())
    assert all(len(chunk["choices"]) == 1 and "usage" not in chunk for chunk in found)
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in found) == ANSWER
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None] * (len(found) - 1) + ["stop"]
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in found}) == 1


async def test_usage_is_missing_or_stands_in_other_chunks_than_the_last(ask: Asker) -> None:
    *others, last = await chunks(ask, asking(stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == model.tokens(ANSWER)
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in others)


@pytest.mark.parametrize(
    ("parameters", "text", "finish"),
    [
        ({"stop": " is "}, "This", "stop"),
        ({"stop": ["nowhere", " is "]}, "This", "stop"),
        ({"max_tokens": 2}, ANSWER[:8], "length"),
        ({"max_tokens": 4, "max_completion_tokens": 2}, ANSWER[:8], "length"),
    ],
)
async def test_stops_and_limits_are_not_kept(ask: Asker, parameters: dict[str, Any], text: str, finish: str) -> None:
    choice = (await answer(ask, asking(**parameters)))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, finish)
    found = await chunks(ask, asking(**parameters))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in found) == text


async def test_choices_are_too_few_or_alike(ask: Asker) -> None:
    found = (await answer(ask, asking(n=3)))["choices"]
    assert len({choice["message"]["content"] for choice in found}) == 3
    streamed = [""] * 3
    for chunk in await chunks(ask, asking(n=3)):
        streamed[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"]["content"]
    assert streamed == [choice["message"]["content"] for choice in found]


async def test_log_probabilities_are_missing_when_asked_for(ask: Asker) -> None:
    found = (await answer(ask, asking(logprobs=True, top_logprobs=2)))["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in found) == ANSWER
    assert {len(token["top_logprobs"]) for token in found} == {2}


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "look_up"}}])
async def test_a_tool_is_described_in_place_of_called(ask: Asker, choice: object) -> None:
    found = (await answer(ask, asking(tools=TOOLS, tool_choice=choice)))["choices"][0]
    assert found["finish_reason"] == "tool_calls"
    [call] = found["message"]["tool_calls"]
    assert (call["type"], call["function"]) == ("function", {"name": "look_up", "arguments": '{"city": "How?"}'})
    first, last = await chunks(ask, asking(tools=TOOLS, tool_choice=choice))
    assert first["choices"][0]["delta"]["tool_calls"][0]["function"] == call["function"]
    assert last["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_tool_is_called_for_ever(ask: Asker) -> None:
    messages = [
        {"role": "user", "content": "How?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "so"},
    ]
    for body in (asking(tools=TOOLS, messages=messages), asking(tools=TOOLS, tool_choice="none")):
        assert (await answer(ask, body))["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model": GEMINI}, "messages is required"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model is required"),
        (asking(prompt="x"), 'Unknown name "prompt"'),
        (asking(maxTokens=1), 'Unknown name "maxTokens"'),
        (asking(max_tokens=2.0), "(TYPE_INT32), 2.0"),
        (asking(max_tokens=0), "max_tokens must be"),
        (asking(n=9), "n must be from 1 to 8"),
        (asking(temperature=3), "temperature must be"),
        (asking(top_p="1"), "top_p"),
        (asking(stop=[7]), "stop[0]"),
        (asking(stream="yes"), "(TYPE_BOOL)"),
        (asking(top_logprobs=1), "requires logprobs"),
        (asking(stream_options={"include_usage": True}), "stream is true"),
        (asking(tool_choice="required"), "tools are given"),
        (asking(tools=[{"type": "function"}]), "tools[0] must be a function"),
        (asking(messages=[]), "messages must not be empty"),
        (asking(messages=[{"role": "robot", "content": "x"}]), "Invalid role in messages[0]"),
        (asking(messages=[{"role": "user", "content": ""}]), "messages[0].content must not be empty"),
        (asking(messages=[{"role": "user", "content": [{"type": "video"}]}]), "Invalid type"),
        (asking(messages=[{"role": "tool", "content": "x"}]), "tool_call_id"),
        (asking(messages=[{"role": "user", "content": "x", "tool_calls": [CALL]}]), 'Unknown name "tool_calls"'),
    ],
)
async def test_a_wrong_body_is_taken_or_its_error_is_no_array(ask: Asker, body: object, said: str) -> None:
    assert said in await refusal(ask, body)


@pytest.mark.parametrize("name", ["gemini-2.5-flash", "google/codestral-2", "meta/llama-1"])
async def test_an_unknown_model_answers(ask: Asker, name: str) -> None:
    await refusal(ask, asking(model=name), 404, "NOT_FOUND")


async def test_a_platform_error_is_no_array(ask: Asker) -> None:
    ask.vertex.fault = ask.vertex.preset("unavailable")
    await refusal(ask, asking(), 503, "UNAVAILABLE")
    ask.vertex.fault = None
    _, _, data = await ask(asking(), CHAT, {**AUTHORIZED, "Authorization": "Basic x"})
    assert json.loads(data)[0]["error"]["status"] == "UNAUTHENTICATED"
