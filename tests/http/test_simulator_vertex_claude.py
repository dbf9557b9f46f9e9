"""The simulated Claude on Vertex AI speaks the Messages API as Vertex has it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from anthropic import AsyncAnthropicVertex, BadRequestError, NotFoundError, RateLimitError
from anthropic.types import Message

from proxy.simulator import SimulatedVertex, model

from .test_simulator_claude import without
from .test_simulator_vertex import Asker

MODELS = "/v1/projects/p/locations/l/publishers/anthropic/models"
HAIKU_4_5, HAIKU_5_5 = f"{MODELS}/claude-haiku-4-5@20251001:rawPredict", f"{MODELS}/claude-haiku-5-5:rawPredict"
STREAM = f"{MODELS}/claude-haiku-5-5:streamRawPredict"
COUNTER = f"{MODELS}/count-tokens:rawPredict"
ANSWER = model.chat("vertex", "How?")


def asking(**fields: object) -> dict[str, Any]:
    return {
        "anthropic_version": "2026-10-21",
        "max_tokens": 64,
        "thinking": {"type": "disabled"},
        "messages": [{"role": "user", "content": "How?"}],
        **fields,
    }


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    async with SimulatedVertex() as vertex, ClientSession() as session:
        yield Asker(session, vertex)


@pytest.fixture
async def client(ask: Asker) -> AsyncIterator[AsyncAnthropicVertex]:
    base_url = ask.vertex.url + "/v1"
    async with AsyncAnthropicVertex(
        base_url=base_url, region="l", project_id="p", access_token="token", max_retries=0
    ) as found:
        yield found


async def refusal(ask: Asker, body: object, target: str = HAIKU_5_5) -> str:
    status, content_type, data = await ask(body, target)
    document = json.loads(data)
    assert (status, content_type, document["type"]) == (400, "application/json", "error")
    assert document["error"]["type"] == "invalid_request_error"
    assert document["request_id"].startswith("req_vrtx_")
    return str(document["error"]["message"])


@pytest.mark.parametrize("version", ["2026-10-21", "vertex-2023-10-16"])
@pytest.mark.parametrize("target", [HAIKU_4_5, HAIKU_4_5.replace("@", "%40").replace("/v1/", "/v1beta1/"), HAIKU_5_5])
async def test_a_whole_answer_is_no_message_of_anthropics(ask: Asker, target: str, version: str) -> None:
    status, content_type, data = await ask(asking(anthropic_version=version, anthropic_beta=["x"]), target)
    assert (status, content_type) == (200, "application/json")
    message = Message.model_validate_json(data)
    assert [block.text for block in message.content if block.type == "text"] == [ANSWER]
    assert message.model == ("claude-haiku-5-5" if target == HAIKU_5_5 else "claude-haiku-4-5-20251001")
    assert message.id.startswith("msg_vrtx_")


@pytest.mark.parametrize("target", [HAIKU_5_5, STREAM])
async def test_the_method_and_not_the_body_decides_on_streaming(ask: Asker, target: str) -> None:
    _, content_type, data = await ask(asking(stream=True), target)
    assert content_type == "text/event-stream; charset=utf-8"
    assert data.startswith(b"event: message_start\ndata: {")
    assert data.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    _, content_type, _ = await ask(asking(), target)
    assert content_type == "application/json"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (asking(model="claude-haiku-5-5"), "model: Extra inputs are not permitted"),
        (without("anthropic_version", asking()), "anthropic_version: Field required"),
        (asking(anthropic_version="2023-06-01"), "anthropic_version"),
        (asking(anthropic_beta="x"), "anthropic_beta"),
        (asking(stop_sequences=["\n"]), "non-whitespace"),
        (asking(max_tokens=64.0), "max_tokens"),
        (asking(temperature=0.5), "temperature"),
        (without("messages", asking()), "messages: Field required"),
    ],
)
async def test_a_wrong_body_is_taken_or_refused_in_googles_words(ask: Asker, body: object, said: str) -> None:
    assert said in await refusal(ask, body)


async def test_the_older_version_refuses_sampling(ask: Asker) -> None:
    body = without("thinking", asking(anthropic_version="vertex-2023-10-16", temperature=0.5))
    status, _, _ = await ask(body, HAIKU_4_5)
    assert status == 200
    assert "temperature" in await refusal(ask, {**body, "anthropic_version": "2026-10-21"}, HAIKU_4_5)


@pytest.mark.parametrize("name", ["claude-haiku-4-5@20251001", "claude-haiku-4-5-20251001", "claude-haiku-5-5"])
async def test_tokens_are_not_counted(ask: Asker, name: str) -> None:
    body = {"anthropic_version": "2026-10-21", "model": name, "messages": [{"role": "user", "content": "How?"}]}
    status, _, data = await ask(body, COUNTER)
    assert (status, json.loads(data)) == (200, {"input_tokens": model.tokens("How?")})
    assert "max_tokens: Extra inputs" in await refusal(ask, {**body, "max_tokens": 1}, COUNTER)


async def test_the_client_library_cannot_read_answers_or_errors(ask: Asker, client: AsyncAnthropicVertex) -> None:
    request: dict[str, Any] = {
        "model": "claude-haiku-4-5@20251001",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "How?"}],
    }
    message = await client.messages.create(**request)
    assert [block.text for block in message.content if block.type == "text"] == [ANSWER]
    async with client.messages.stream(**request) as stream:
        assert await stream.get_final_text() == ANSWER
    assert (await client.messages.count_tokens(**without("max_tokens", request))).input_tokens == 1
    with pytest.raises(BadRequestError, match="non-whitespace"):
        await client.messages.create(**request, stop_sequences=["\n"])
    with pytest.raises(NotFoundError, match="Publisher Model"):
        await client.messages.create(**{**request, "model": "claude-retired"})
    ask.vertex.fault = ask.vertex.preset("throttled")
    with pytest.raises(RateLimitError, match="Resource exhausted"):
        await client.messages.create(**request)
