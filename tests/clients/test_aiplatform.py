"""google-cloud-aiplatform over REST: its envelopes, its arrays, and numbers that are all floats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import ServiceUnavailable
from google.auth.aio.credentials import StaticCredentials
from google.cloud.aiplatform_v1 import PredictionServiceAsyncClient, PredictionServiceClient
from google.cloud.aiplatform_v1.services.prediction_service.transports.rest_asyncio import (
    AsyncPredictionServiceRestTransport,
)
from google.cloud.aiplatform_v1.types import (
    Candidate,
    GenerateContentRequest,
    GenerateContentResponse,
    PredictResponse,
    StreamRawPredictRequest,
)
from google.oauth2.credentials import Credentials
from google.protobuf.json_format import MessageToDict

from proxy.simulator import model
from tests.rig import PREFIX, SUFFIX, expected, fim

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Sequence

    from tests.rig import Rig

PUBLISHERS = "projects/project/locations/us-central1/publishers"
GECKO = f"{PUBLISHERS}/google/models/code-gecko@002"
CODESTRAL = f"{PUBLISHERS}/mistralai/models/codestral-2"
CLAUDE = f"{PUBLISHERS}/anthropic/models/claude-haiku-4-5@20251001"
QUESTION = "Say something."
HOLE = {"prefix": PREFIX, "suffix": SUFFIX}
PARAMETERS = {"temperature": 0.2, "maxOutputTokens": 64, "candidateCount": 2}
CONTENT = GenerateContentRequest(
    model=f"{PUBLISHERS}/google/models/gemini-2.5-flash",
    contents=[{"role": "user", "parts": [{"text": QUESTION}]}],
    generation_config={"max_output_tokens": 64, "stop_sequences": ["END"]},
)
MESSAGES = {
    "anthropic_version": "vertex-2023-10-16",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": QUESTION}],
}

Calls = dict[str, Callable[[PredictionServiceClient], Any]]
CALLS: Calls = {
    "predict": lambda client: client.predict(endpoint=GECKO, instances=[HOLE], parameters=PARAMETERS),
    "raw_predict": lambda client: client.raw_predict(endpoint=CODESTRAL, http_body=envelope(fim())),
    "raw_predict of Claude": lambda client: client.raw_predict(endpoint=CLAUDE, http_body=envelope(MESSAGES)),
    "stream_raw_predict": lambda client: list(
        client.stream_raw_predict(endpoint=CODESTRAL, http_body=envelope(fim(stream=True)))
    ),
    "stream_raw_predict of Claude": lambda client: list(
        client.stream_raw_predict(endpoint=CLAUDE, http_body=envelope({**MESSAGES, "stream": True}))
    ),
    "generate_content": lambda client: client.generate_content(CONTENT),
    "stream_generate_content": lambda client: list(client.stream_generate_content(CONTENT)),
}


def envelope(body: dict[str, Any]) -> HttpBody:
    return HttpBody(content_type="application/json", data=json.dumps(body).encode())


def connect(proxy: Rig) -> PredictionServiceClient:
    return PredictionServiceClient(
        transport="rest",
        credentials=Credentials("of-the-caller"),
        client_options=ClientOptions(api_endpoint=proxy.app.address),
    )


async def call(proxy: Rig, name: str) -> Any:
    """What the blocking client makes of the answer to one of `CALLS`."""

    def ask() -> Any:
        with connect(proxy) as client:
            return CALLS[name](client)

    return await asyncio.to_thread(ask)


def data_of(stream: Sequence[HttpBody]) -> list[str]:
    """The data lines of server-sent events that came in envelopes, wherever those were cut."""
    assert all(isinstance(element, HttpBody) for element in stream)
    assert {element.content_type.partition(";")[0] for element in stream} == {"text/event-stream"}
    received = b"".join(element.data for element in stream).decode()
    assert received.endswith("\n\n")
    return [line.removeprefix("data: ") for line in received.splitlines() if line.startswith("data: ")]


def assert_predictions(answer: PredictResponse, provider: str) -> None:
    assert isinstance(answer, PredictResponse)
    first, second = (MessageToDict(each) for each in type(answer).pb(answer).predictions)
    assert first["content"] == expected(provider)
    assert second["content"]
    for prediction in (first, second):
        assert prediction["score"] <= 0
        assert prediction["safetyAttributes"]["blocked"] is False
        assert prediction["citationMetadata"] == {"citations": []}
    counts = MessageToDict(type(answer).pb(answer).metadata)["tokenMetadata"]
    assert counts["inputTokenCount"]["totalTokens"] > 0
    assert counts["outputTokenCount"]["totalTokens"] > 0


def assert_completion(answer: HttpBody, text: str) -> None:
    assert isinstance(answer, HttpBody)
    assert answer.content_type.partition(";")[0] == "application/json"
    completion = json.loads(answer.data)
    assert completion["choices"][0]["message"]["content"] == text
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"]["completion_tokens"] > 0


def assert_chunks(stream: Sequence[HttpBody], text: str) -> None:
    *chunks, terminator = data_of(stream)
    assert terminator == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert "".join(each["delta"].get("content") or "" for each in deltas) == text
    assert deltas[-1]["finish_reason"] == "stop"


def assert_content(answer: GenerateContentResponse, text: str) -> None:
    assert isinstance(answer, GenerateContentResponse)
    assert answer.model_version == "gemini-2.5-flash"
    (candidate,) = answer.candidates
    assert candidate.finish_reason == Candidate.FinishReason.STOP
    assert (candidate.content.role, candidate.content.parts[0].text) == ("model", text)
    assert answer.usage_metadata.candidates_token_count > 0


def assert_contents(stream: Sequence[GenerateContentResponse], text: str) -> None:
    assert all(isinstance(answer, GenerateContentResponse) for answer in stream)
    assert "".join(part.text for answer in stream for part in answer.candidates[0].content.parts) == text
    assert len({answer.response_id for answer in stream}) == 1
    finishes = [answer.candidates[0].finish_reason for answer in stream]
    unspecified = Candidate.FinishReason.FINISH_REASON_UNSPECIFIED
    assert finishes == [unspecified] * (len(stream) - 1) + [Candidate.FinishReason.STOP]
    assert stream[-1].usage_metadata.total_token_count > 0


async def test_predictions_are_not_read(proxy: Rig, provider: str) -> None:
    assert_predictions(await call(proxy, "predict"), provider)


async def test_an_envelope_is_not_opened(proxy: Rig, provider: str) -> None:
    assert_completion(await call(proxy, "raw_predict"), expected(provider))


async def test_a_stream_of_envelopes_is_not_read(proxy: Rig, provider: str) -> None:
    assert_chunks(await call(proxy, "stream_raw_predict"), expected(provider))


async def test_claude_in_an_envelope_is_not_read(proxy: Rig, provider: str) -> None:
    answer = await call(proxy, "raw_predict of Claude")
    message = json.loads(answer.data)
    assert (message["type"], message["model"]) == ("message", "claude-haiku-4-5-20251001")
    assert message["content"][0]["text"] == model.chat(provider, QUESTION)
    assert message["stop_reason"] == "end_turn"


async def test_a_stream_of_claude_in_envelopes_is_not_read(proxy: Rig, provider: str) -> None:
    events = [json.loads(data) for data in data_of(await call(proxy, "stream_raw_predict of Claude"))]
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(texts) == model.chat(provider, QUESTION)
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")


async def test_content_is_not_read(proxy: Rig, provider: str) -> None:
    assert_content(await call(proxy, "generate_content"), model.chat(provider, QUESTION))


async def test_an_array_of_content_is_not_read(proxy: Rig, provider: str) -> None:
    assert_contents(await call(proxy, "stream_generate_content"), model.chat(provider, QUESTION))


async def listed(stream: AsyncIterable[Any]) -> list[Any]:
    return [each async for each in stream]


async def test_the_client_without_threads_is_not_served(proxy: Rig, provider: str) -> None:
    transport = AsyncPredictionServiceRestTransport(
        host=proxy.app.address, credentials=StaticCredentials("of-the-caller")
    )
    try:
        client = PredictionServiceAsyncClient(transport=transport)
        assert_predictions(await client.predict(endpoint=GECKO, instances=[HOLE], parameters=PARAMETERS), provider)
        assert_completion(await client.raw_predict(endpoint=CODESTRAL, http_body=envelope(fim())), expected(provider))
        asked = StreamRawPredictRequest(endpoint=CODESTRAL, http_body=envelope(fim(stream=True)))
        assert_chunks(await listed(await client.stream_raw_predict(asked)), expected(provider))
        assert_content(await client.generate_content(CONTENT), model.chat(provider, QUESTION))
        assert_contents(await listed(await client.stream_generate_content(CONTENT)), model.chat(provider, QUESTION))
    finally:
        await transport.close()


@pytest.mark.parametrize("name", CALLS)
async def test_an_outage_is_no_error_of_the_client_own(outage: Rig, name: str) -> None:
    with pytest.raises(ServiceUnavailable, match=r"The service is currently unavailable\."):
        await call(outage, name)
