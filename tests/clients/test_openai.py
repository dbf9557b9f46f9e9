"""OpenAI's client at Vertex AI's endpoint in its format."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from openai import AsyncOpenAI, InternalServerError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.simulator import model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionMessageParam

    from tests.rig import Rig

NAME = "google/gemini-2.5-flash"
QUESTION = "Say something."
MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": QUESTION},
]
IN_PARTS: list[ChatCompletionMessageParam] = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]


def base_url(proxy: Rig) -> str:
    return f"{proxy.app.address}/v1/projects/project/locations/us-central1/endpoints/openapi"


def connect(proxy: Rig) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=base_url(proxy), api_key="of-the-caller", max_retries=0)


def assert_whole(answer: ChatCompletion, text: str) -> None:
    assert isinstance(answer, ChatCompletion)
    assert (answer.object, answer.model) == ("chat.completion", NAME)
    assert answer.id
    assert answer.created > 0
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", text)
    assert_usage(answer.usage)


def assert_usage(usage: CompletionUsage | None) -> None:
    assert usage is not None
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def assert_streamed(chunks: Sequence[ChatCompletionChunk], text: str) -> None:
    """All that is common to streams with and without usage: `chunks` are those that have choices."""
    assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", NAME)}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]


@pytest.mark.parametrize("messages", [MESSAGES, IN_PARTS], ids=["text", "parts"])
async def test_a_chat_is_not_read(proxy: Rig, provider: str, messages: list[ChatCompletionMessageParam]) -> None:
    async with connect(proxy) as client:
        answer = await client.chat.completions.create(model=NAME, messages=messages, max_tokens=64, temperature=0.2)
        assert_whole(answer, model.chat(provider, QUESTION))
        stream = await client.chat.completions.create(model=NAME, messages=messages, max_tokens=64, stream=True)
        assert_streamed([chunk async for chunk in stream], model.chat(provider, QUESTION))


async def test_the_usage_of_a_stream_is_missing(proxy: Rig, provider: str) -> None:
    async with connect(proxy) as client:
        stream = await client.chat.completions.create(
            model=NAME, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [chunk async for chunk in stream]
    assert_streamed(chunks, model.chat(provider, QUESTION))
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert_usage(last.usage)


async def test_the_blocking_client_is_not_served(proxy: Rig, provider: str) -> None:
    def ask() -> tuple[ChatCompletion, list[ChatCompletionChunk]]:
        with OpenAI(base_url=base_url(proxy), api_key="of-the-caller", max_retries=0) as client:
            whole = client.chat.completions.create(model=NAME, messages=MESSAGES)
            return whole, list(client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True))

    whole, chunks = await asyncio.to_thread(ask)
    assert_whole(whole, model.chat(provider, QUESTION))
    assert_streamed(chunks, model.chat(provider, QUESTION))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_outage_is_no_error_of_the_client_own(outage: Rig, stream: bool) -> None:
    async with connect(outage) as client:
        with pytest.raises(InternalServerError) as caught:
            await client.chat.completions.create(model=NAME, messages=MESSAGES, stream=stream)
    assert caught.value.status_code == 503
    # This endpoint's errors are in an array.
    assert caught.value.response.json()[0]["error"]["status"] == "UNAVAILABLE"
