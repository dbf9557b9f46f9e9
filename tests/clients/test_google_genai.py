"""Google's Gen AI client, `google-genai`, at Vertex AI: its reader of server-sent events takes nothing but Google's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from google import genai
from google.genai import types
from google.genai.errors import ServerError
from google.oauth2.credentials import Credentials

from proxy.simulator import model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.rig import Rig

# Google's own session class; the warning is for its authors.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

NAME = "gemini-2.5-flash"
QUESTION = "Say something."
CONFIG = types.GenerateContentConfig(
    system_instruction="Be brief.", temperature=0.2, top_p=0.9, max_output_tokens=64, stop_sequences=["\n\n", "END"]
)


def connect(proxy: Rig, version: str = "v1beta1") -> genai.Client:
    return genai.Client(
        vertexai=True,
        project="project",
        location="us-central1",
        credentials=Credentials("of-the-caller"),
        http_options=types.HttpOptions(base_url=proxy.app.address, api_version=version),
    )


def assert_whole(answer: types.GenerateContentResponse, text: str) -> None:
    assert isinstance(answer, types.GenerateContentResponse)
    assert answer.text == text
    assert answer.model_version == NAME
    assert answer.response_id
    assert answer.candidates is not None
    (candidate,) = answer.candidates
    assert candidate.finish_reason is types.FinishReason.STOP
    assert candidate.content is not None
    assert candidate.content.role == "model"
    assert_usage(answer)


def assert_usage(answer: types.GenerateContentResponse) -> None:
    usage = answer.usage_metadata
    assert usage is not None
    assert usage.prompt_token_count
    assert usage.candidates_token_count
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count


def assert_streamed(chunks: Sequence[types.GenerateContentResponse], text: str) -> None:
    assert all(isinstance(chunk, types.GenerateContentResponse) for chunk in chunks)
    assert "".join(chunk.text or "" for chunk in chunks) == text
    assert {chunk.model_version for chunk in chunks} == {NAME}
    assert len({chunk.response_id for chunk in chunks}) == 1
    finishes = [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates]
    assert finishes == [None] * (len(chunks) - 1) + [types.FinishReason.STOP]
    assert_usage(chunks[-1])


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_content_is_not_read(proxy: Rig, provider: str, version: str) -> None:
    async with connect(proxy, version).aio as client:
        answer = await client.models.generate_content(model=NAME, contents=QUESTION, config=CONFIG)
        assert_whole(answer, model.chat(provider, QUESTION))
        stream = await client.models.generate_content_stream(model=NAME, contents=QUESTION, config=CONFIG)
        assert_streamed([chunk async for chunk in stream], model.chat(provider, QUESTION))


async def test_the_blocking_client_is_not_served(proxy: Rig, provider: str) -> None:
    def ask() -> tuple[types.GenerateContentResponse, list[types.GenerateContentResponse]]:
        with connect(proxy) as client:
            whole = client.models.generate_content(model=NAME, contents=QUESTION, config=CONFIG)
            return whole, list(client.models.generate_content_stream(model=NAME, contents=QUESTION, config=CONFIG))

    whole, chunks = await asyncio.to_thread(ask)
    assert_whole(whole, model.chat(provider, QUESTION))
    assert_streamed(chunks, model.chat(provider, QUESTION))


@pytest.mark.parametrize("provider", ["vertex"], indirect=True)
async def test_a_count_of_tokens_does_not_pass(proxy: Rig) -> None:
    async with connect(proxy).aio as client:
        count = await client.models.count_tokens(model=NAME, contents=QUESTION)
    assert isinstance(count, types.CountTokensResponse)
    assert count.total_tokens


async def test_an_outage_is_no_error_of_the_client_own(outage: Rig) -> None:
    async with connect(outage).aio as client:
        with pytest.raises(ServerError) as caught:
            await client.models.generate_content(model=NAME, contents=QUESTION)
        assert (caught.value.code, caught.value.status) == (503, "UNAVAILABLE")
        with pytest.raises(ServerError) as caught:
            async for _ in await client.models.generate_content_stream(model=NAME, contents=QUESTION):
                pass
        assert (caught.value.code, caught.value.status) == (503, "UNAVAILABLE")
