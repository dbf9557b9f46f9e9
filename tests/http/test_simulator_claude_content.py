"""The simulated Claude takes images, documents and tools, and refuses those that the Messages API refuses."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from anthropic import AsyncAnthropic

from proxy.simulator import SimulatedClaude, model

from .test_simulator_claude import HAIKU_4_5, HAIKU_5_5, KEYED, Asker, asking

DATA = base64.b64encode(b"\x89PNG").decode()
PNG = {"type": "base64", "media_type": "image/png", "data": DATA}
IMAGE = {"type": "image", "source": PNG}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": DATA}}
HOW = {"type": "text", "text": "How?"}
MARK = {"type": "ephemeral"}
TOOL: dict[str, Any] = {
    "name": "look_up",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"city": "Ulm"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"}
ANSWER = model.chat("claude", "How?")


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def saying(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return asking(messages=list(messages), **fields)


def using(*messages: dict[str, Any]) -> dict[str, Any]:
    return saying(*messages, tools=[TOOL])


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    async with SimulatedClaude() as claude, ClientSession() as session:
        yield Asker(session, claude)


@pytest.mark.parametrize(
    "block",
    [
        IMAGE,
        {"type": "image", "source": {"type": "url", "url": "https://x.invalid/y.png"}, "cache_control": MARK},
        PDF,
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "y"},
        {"type": "document", "source": {"type": "url", "url": "https://x.invalid/y.pdf"}},
        {"type": "document", "source": {"type": "content", "content": [HOW, IMAGE]}},
    ],
)
async def test_an_image_or_a_document_is_refused_or_read_as_text(ask: Asker, block: dict[str, Any]) -> None:
    assert await ask.text(saying(user(block, HOW))) == ANSWER


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"type": "image"}, "source: Field required"),
        ({"type": "image", "source": {**PNG, "media_type": "image/tiff"}}, "media_type"),
        ({"type": "image", "source": {**PNG, "data": "?"}}, "base64"),
        ({"type": "image", "source": {**PNG, "data": ""}}, "base64"),
        ({"type": "image", "source": {**PNG, "url": "https://x"}}, "url: Extra inputs"),
        ({"type": "image", "source": {"type": "url", "url": "x.png"}}, "valid URL"),
        ({"type": "image", "source": PNG, "name": "x"}, "image.name: Extra inputs"),
        ({"type": "image_url", "image_url": {"url": "https://x"}}, "'image_url'"),
        ({"type": "document", "source": {**PNG}}, "image/png"),
        ({"type": "document", "source": {"type": "content", "content": []}}, "not empty"),
        ({**HOW, "cache_control": {"type": "for ever"}}, "cache_control"),
        ({**HOW, "cache_control": {**MARK, "ttl": "2h"}}, "cache_control"),
        ({"type": "thinking", "thinking": "", "signature": "x"}, "'thinking'"),
        (USE, "'tool_use'"),
    ],
)
async def test_a_wrong_block_is_taken(ask: Asker, block: dict[str, Any], said: str) -> None:
    assert said in await ask.refusal(saying(user(block)))


async def test_a_use_of_a_tool_with_its_result_is_refused(ask: Asker) -> None:
    body = using(user(HOW), assistant({"type": "text", "text": "Hm."}, USE), user(RESULT, HOW))
    assert await ask.text(body) == ANSWER
    apart = [user(HOW), assistant(USE), user(RESULT), user(HOW)]
    assert await ask.text(using(*apart)) == ANSWER
    parts = {**RESULT, "content": [HOW, IMAGE], "is_error": True}
    assert await ask.text(using(user(HOW), assistant(USE), user(parts))) == model.chat("claude", "")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([user(HOW), assistant(USE), user(HOW)], "messages.1: `tool_use` ids were found without `tool_result`"),
        ([user(HOW), assistant(USE), user(HOW, RESULT)], "`tool_use` ids were found without `tool_result`"),
        ([user(HOW), assistant(USE)], "`tool_use` ids were found without `tool_result`"),
        ([user(RESULT)], "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1"),
        (
            [user(HOW), assistant(USE), user(RESULT), assistant(HOW), user(RESULT)],
            "messages.4.content.0: unexpected `tool_use_id`",
        ),
        ([user(HOW), assistant(USE, USE), user(RESULT)], "unique"),
        ([user(HOW), assistant({**USE, "input": "{}"}), user(RESULT)], "tool_use.input"),
        ([user(HOW), assistant({**USE, "id": ""}), user(RESULT)], "tool_use.id"),
        ([user(HOW), assistant(USE), user({**RESULT, "content": [USE]})], "'tool_use'"),
        ([user(HOW), assistant(USE), user({**RESULT, "is_error": 1})], "is_error"),
        ([user(HOW), assistant(IMAGE), user(HOW)], "'image'"),
    ],
)
async def test_uses_and_results_that_do_not_match_are_taken(
    ask: Asker, messages: list[dict[str, Any]], said: str
) -> None:
    assert said in await ask.refusal(using(*messages))


async def test_uses_are_taken_without_tools(ask: Asker) -> None:
    assert "must define tools" in await ask.refusal(saying(user(HOW), assistant(USE), user(RESULT)))


async def test_thinking_is_refused_or_taken_unsigned(ask: Asker) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "c2ln"}
    assert await ask.text(saying(user(HOW), assistant(thought, hidden, HOW), user(HOW))) == ANSWER
    unsigned = {"type": "thinking", "thinking": "hm", "signature": ""}
    for block, said in ((unsigned, "signature"), ({**thought, "cache_control": MARK}, "cache_control")):
        assert said in await ask.refusal(saying(user(HOW), assistant(block, HOW), user(HOW)))


async def test_more_than_four_marks_for_the_cache_are_taken(ask: Asker) -> None:
    marked = {**HOW, "cache_control": {**MARK, "ttl": "1h"}}
    four = {"system": [marked], "tools": [{**TOOL, "cache_control": MARK}]}
    assert await ask.text(saying(user(marked, marked), **four)) == model.chat("claude", "How?How?")
    assert "maximum of 4" in await ask.refusal(saying(user(marked, marked, marked), **four))


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look_up"}])
async def test_a_forced_tool_is_not_used(ask: Asker, choice: dict[str, Any]) -> None:
    body = asking(tools=[TOOL], tool_choice=choice)
    message = await ask.message(body)
    assert message.stop_reason == "tool_use"
    [block] = message.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("look_up", {"city": "How?", "days": 4})
    events = await ask.events(body)
    start = next(event for event in events if event["type"] == "content_block_start")
    assert (start["content_block"]["type"], start["content_block"]["input"]) == ("tool_use", {})
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert {delta["type"] for delta in deltas} == {"input_json_delta"}
    assert json.loads("".join(delta["partial_json"] for delta in deltas)) == block.input
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_the_client_library_cannot_read_a_use_from_a_stream(ask: Asker) -> None:
    async with (
        AsyncAnthropic(base_url=ask.claude.url, api_key="key", max_retries=0) as client,
        client.messages.stream(
            model=HAIKU_5_5,
            max_tokens=64,
            thinking={"type": "disabled"},
            messages=[{"role": "user", "content": "How?"}],
            tools=[{"name": "look_up", "input_schema": TOOL["input_schema"]}],
            tool_choice={"type": "any"},
        ) as stream,
    ):
        [block] = (await stream.get_final_message()).content
    assert block.type == "tool_use"
    assert block.input == {"city": "How?", "days": 4}


@pytest.mark.parametrize("choice", [None, {"type": "auto", "disable_parallel_tool_use": True}, {"type": "none"}])
async def test_a_tool_is_used_that_nobody_forces(ask: Asker, choice: object) -> None:
    server = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}
    fields: dict[str, Any] = {} if choice is None else {"tool_choice": choice}
    assert await ask.text(asking(tools=[TOOL, server], **fields)) == ANSWER


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tools": TOOL}, "valid list"),
        ({"tools": [{"name": "look_up"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{**TOOL, "input_schema": {"type": "OBJECT"}}]}, "Input should be 'object'"),
        ({"tools": [{**TOOL, "name": "look up"}]}, "name: String should match pattern"),
        ({"tools": [{**TOOL, "parameters": {}}]}, "tools.0.custom.parameters: Extra inputs"),
        ({"tools": [{"type": "function", "function": {}, "name": "x"}]}, "'function'"),
        ({"tools": [TOOL, TOOL]}, "unique"),
        ({"tools": [{**TOOL, "description": 7}]}, "description"),
        ({"tool_choice": {"type": "any"}}, "only be specified while providing tools"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "required"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "any", "name": "x"}}, "tool_choice.any.name: Extra inputs"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "name: Field required"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "'x' not found"),
        ({"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}, "boolean"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}, "thinking": {"type": "adaptive"}}, "forces tool use"),
    ],
)
async def test_wrong_tools_are_taken(ask: Asker, fields: dict[str, Any], said: str) -> None:
    assert said in await ask.refusal(asking(**fields))


async def test_a_beta_is_refused_or_anything_is_one(ask: Asker) -> None:
    for betas in ("prompt-caching-2024-07-31", "a-b-2025-01-01, context-1m-2025-08-07", ""):
        status, _ = await ask(asking(), {**KEYED, "anthropic-beta": betas})
        assert status == 200
    assert "anthropic-beta" in await ask.refusal(asking(), {**KEYED, "anthropic-beta": "a-2025-01-01,everything"})


async def test_a_prefill_that_uses_a_tool_is_continued(ask: Asker) -> None:
    body = asking(model=HAIKU_4_5, messages=[user(HOW), assistant(USE)], tools=[TOOL])
    assert "tool_use" in await ask.refusal(body)
