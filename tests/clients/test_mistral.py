"""Mistral's plain client, `mistralai.client`, which knows no Vertex: the proxy stands in for api.mistral.ai."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.models import (
    ChatCompletionResponse,
    CompletionChunk,
    FIMCompletionResponse,
    UserMessage,
)

from proxy.simulator import model
from tests.rig import PREFIX, SUFFIX, expected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mistralai.client.models import CompletionEvent

    from tests.rig import Rig

NAME = "codestral-latest"
"""What editors call it; the proxy asks for the model that it is set to."""
QUESTION = "Say something."
MESSAGES = [UserMessage(content=QUESTION)]


def connect(proxy: Rig) -> Mistral:
    return Mistral(api_key="of-the-caller", server_url=proxy.app.address)


def assert_whole(answer: ChatCompletionResponse | FIMCompletionResponse, text: str) -> None:
    assert (answer.object, answer.model) == ("chat.completion", "codestral-2")
    assert answer.id
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert choice.message is not None
    assert choice.message.content == text
    assert answer.usage.completion_tokens


def assert_streamed(events: Sequence[CompletionEvent], text: str) -> None:
    chunks = [event.data for event in events]
    assert all(isinstance(chunk, CompletionChunk) for chunk in chunks)
    assert len({(chunk.id, chunk.model) for chunk in chunks}) == 1
    assert "".join(str(chunk.choices[0].delta.content or "") for chunk in chunks) == text
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1].usage is not None


async def test_fill_in_the_middle_is_not_read(proxy: Rig, provider: str) -> None:
    async with connect(proxy) as client:
        answer = await client.fim.complete_async(model=NAME, prompt=PREFIX, suffix=SUFFIX, max_tokens=64)
        assert isinstance(answer, FIMCompletionResponse)
        assert_whole(answer, expected(provider))
        stream = await client.fim.stream_async(model=NAME, prompt=PREFIX, suffix=SUFFIX, max_tokens=64)
        async with stream:
            assert_streamed([event async for event in stream], expected(provider))


async def test_a_chat_is_not_read(proxy: Rig, provider: str) -> None:
    async with connect(proxy) as client:
        answer = await client.chat.complete_async(model=NAME, messages=MESSAGES)
        assert isinstance(answer, ChatCompletionResponse)
        assert_whole(answer, model.chat(provider, QUESTION))
        stream = await client.chat.stream_async(model=NAME, messages=MESSAGES)
        async with stream:
            assert_streamed([event async for event in stream], model.chat(provider, QUESTION))


async def test_an_outage_is_no_error_of_the_client_own(outage: Rig) -> None:
    async with connect(outage) as client:
        for ask in (client.fim.complete_async, client.fim.stream_async):
            with pytest.raises(SDKError) as caught:
                await ask(model=NAME, prompt=PREFIX)
            assert caught.value.status_code == 503
            assert '"object": "error"' in caught.value.body
