"""Mistral's own client for Vertex AI, `mistralai.gcp`: its models are what must come out, whoever answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mistralai.gcp.client import MistralGCP
from mistralai.gcp.client.errors import SDKError
from mistralai.gcp.client.models import (
    ChatCompletionResponse,
    CompletionChunk,
    CompletionEvent,
    FIMCompletionResponse,
    UserMessage,
)

from proxy.simulator import model
from tests.rig import PREFIX, SUFFIX, expected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.rig import Rig

NAMES = ["codestral-2", "codestral-2501"]
QUESTION = "Say something."
MESSAGES = [UserMessage(content=QUESTION)]


def connect(proxy: Rig) -> MistralGCP:
    return MistralGCP(
        project_id="project", region="us-central1", access_token="of-the-caller", server_url=proxy.app.address
    )


def assert_whole(answer: ChatCompletionResponse | FIMCompletionResponse, name: str, text: str) -> None:
    assert (answer.object, answer.model) == ("chat.completion", name)
    assert answer.id
    assert answer.created > 0
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert choice.message is not None
    assert (choice.message.role, choice.message.content) == ("assistant", text)
    assert answer.usage.prompt_tokens
    assert answer.usage.completion_tokens
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def assert_streamed(events: Sequence[CompletionEvent], name: str, text: str) -> None:
    chunks = [event.data for event in events]
    assert all(isinstance(chunk, CompletionChunk) for chunk in chunks)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", name)}
    assert "".join(str(chunk.choices[0].delta.content or "") for chunk in chunks) == text
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("name", NAMES)
async def test_fill_in_the_middle_is_not_read(proxy: Rig, provider: str, name: str) -> None:
    async with connect(proxy) as client:
        answer = await client.fim.complete_async(
            model=name, prompt=PREFIX, suffix=SUFFIX, max_tokens=64, temperature=0.7, stop=["\n\n", "\n+++++"]
        )
    assert isinstance(answer, FIMCompletionResponse)
    assert_whole(answer, name, expected(provider))


@pytest.mark.parametrize("name", NAMES)
async def test_a_stream_of_fill_in_the_middle_is_not_read(proxy: Rig, provider: str, name: str) -> None:
    async with connect(proxy) as client:
        stream = await client.fim.stream_async(model=name, prompt=PREFIX, suffix=SUFFIX, max_tokens=64)
        async with stream:
            assert_streamed([event async for event in stream], name, expected(provider))


async def test_a_chat_is_not_read(proxy: Rig, provider: str) -> None:
    async with connect(proxy) as client:
        answer = await client.chat.complete_async(model="codestral-2", messages=MESSAGES)
        assert isinstance(answer, ChatCompletionResponse)
        assert_whole(answer, "codestral-2", model.chat(provider, QUESTION))
        stream = await client.chat.stream_async(model="codestral-2", messages=MESSAGES)
        async with stream:
            assert_streamed([event async for event in stream], "codestral-2", model.chat(provider, QUESTION))


async def test_the_blocking_client_is_not_served(proxy: Rig, provider: str) -> None:
    def ask() -> tuple[FIMCompletionResponse, list[CompletionEvent]]:
        with connect(proxy) as client:
            whole = client.fim.complete(model="codestral-2", prompt=PREFIX, suffix=SUFFIX)
            with client.fim.stream(model="codestral-2", prompt=PREFIX, suffix=SUFFIX) as stream:
                return whole, list(stream)

    whole, events = await asyncio.to_thread(ask)
    assert_whole(whole, "codestral-2", expected(provider))
    assert_streamed(events, "codestral-2", expected(provider))


async def test_an_outage_is_no_error_of_the_client_own(outage: Rig) -> None:
    async with connect(outage) as client:
        for ask in (client.fim.complete_async, client.fim.stream_async):
            with pytest.raises(SDKError) as caught:
                await ask(model="codestral-2", prompt=PREFIX)
            assert caught.value.status_code == 503
            assert "The service is currently unavailable." in caught.value.body
