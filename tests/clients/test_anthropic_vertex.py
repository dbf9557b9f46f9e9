"""Anthropic's client for Vertex AI: what it gets from Anthropic's own API is the same to it, the model's name too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from anthropic import AnthropicVertex, AsyncAnthropicVertex, InternalServerError
from anthropic.types import Message, MessageTokensCount, TextBlock, ToolUseBlock

from proxy.simulator import model

if TYPE_CHECKING:
    from anthropic.types import MessageParam, ToolParam

    from tests.rig import Rig

NAME = "claude-haiku-4-5@20251001"
ANSWERS_AS = "claude-haiku-4-5-20251001"
QUESTION = "Say something."
MESSAGES: list[MessageParam] = [{"role": "user", "content": QUESTION}]
TOOL: ToolParam = {
    "name": "look_up",
    "description": "Look a name up.",
    "input_schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def connect(proxy: Rig) -> AsyncAnthropicVertex:
    return AsyncAnthropicVertex(
        project_id="project",
        region="us-central1",
        access_token="of-the-caller",
        base_url=f"{proxy.app.address}/v1",
        max_retries=0,
    )


def assert_message(answer: Message, text: str) -> None:
    assert isinstance(answer, Message)
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", ANSWERS_AS)
    assert answer.id.startswith("msg_")
    (block,) = answer.content
    assert isinstance(block, TextBlock)
    assert block.text == text
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


async def test_a_message_is_not_read(proxy: Rig, provider: str) -> None:
    async with connect(proxy) as client:
        answer = await client.messages.create(model=NAME, max_tokens=64, messages=MESSAGES, system="Be brief.")
        assert_message(answer, model.chat(provider, QUESTION))
        async with client.messages.stream(model=NAME, max_tokens=64, messages=MESSAGES) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            assert_message(await stream.get_final_message(), text)
        assert text == model.chat(provider, QUESTION)


async def test_a_tool_is_not_called(proxy: Rig, provider: str) -> None:
    async with connect(proxy) as client:
        answer = await client.messages.create(
            model=NAME, max_tokens=256, messages=MESSAGES, tools=[TOOL], tool_choice={"type": "any"}
        )
        async with client.messages.stream(
            model=NAME, max_tokens=256, messages=MESSAGES, tools=[TOOL], tool_choice={"type": "tool", "name": "look_up"}
        ) as stream:
            streamed = await stream.get_final_message()
    for message in (answer, streamed):
        assert message.stop_reason == "tool_use"
        (call,) = message.content
        assert isinstance(call, ToolUseBlock)
        assert (call.name, list(call.input)) == ("look_up", ["name"])


async def test_an_image_is_lost(proxy: Rig, provider: str) -> None:
    async with connect(proxy) as client:
        answer = await client.messages.create(
            model=NAME,
            max_tokens=64,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                        {"type": "text", "text": QUESTION},
                    ],
                }
            ],
        )
    assert_message(answer, model.chat(provider, QUESTION))
    asked = proxy.vertex if provider == "vertex" else proxy.claude
    assert PIXEL.encode() in asked.requests[-1].body


async def test_the_blocking_client_is_not_served(proxy: Rig, provider: str) -> None:
    def ask() -> tuple[Message, Message]:
        with AnthropicVertex(
            project_id="project",
            region="us-central1",
            access_token="of-the-caller",
            base_url=f"{proxy.app.address}/v1",
            max_retries=0,
        ) as client:
            whole = client.messages.create(model=NAME, max_tokens=64, messages=MESSAGES)
            with client.messages.stream(model=NAME, max_tokens=64, messages=MESSAGES) as stream:
                return whole, stream.get_final_message()

    for answer in await asyncio.to_thread(ask):
        assert_message(answer, model.chat(provider, QUESTION))


@pytest.mark.parametrize("provider", ["vertex"], indirect=True)
async def test_a_count_of_tokens_does_not_pass(proxy: Rig) -> None:
    async with connect(proxy) as client:
        count = await client.messages.count_tokens(model=NAME, messages=MESSAGES)
    assert isinstance(count, MessageTokensCount)
    assert count.input_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_an_outage_is_no_error_of_the_client_own(outage: Rig, stream: bool) -> None:
    async with connect(outage) as client:
        with pytest.raises(InternalServerError) as caught:
            await client.messages.create(model=NAME, max_tokens=64, messages=MESSAGES, stream=stream)
    assert caught.value.status_code == 503
    assert caught.value.response.json()["error"]["status"] == "UNAVAILABLE"
