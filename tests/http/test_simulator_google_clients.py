"""Google's own client libraries read what the simulated Vertex AI answers. Apart, for they take long to import."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from google import genai
from google.api.httpbody_pb2 import HttpBody
from google.cloud.aiplatform_v1 import PredictionServiceClient
from google.cloud.aiplatform_v1.services.prediction_service.transports.rest import PredictionServiceRestTransport
from google.cloud.aiplatform_v1.types import Content, Part
from google.genai import errors, types
from google.oauth2.credentials import Credentials
from google.protobuf.struct_pb2 import Struct, Value

from proxy.simulator import Fault, SimulatedVertex, model

from .test_simulator_vertex import ANSWER, FIM, path

CREDENTIALS = Credentials("token")
CHAT = model.chat("vertex", "How?")
CODESTRAL = path().removeprefix("/v1/").partition(":")[0]
GOOGLE = CODESTRAL.replace("mistralai/models/codestral-2", "google/models/")
CONTENTS = [Content(role="user", parts=[Part(text="How?")])]


@pytest.fixture
async def vertex() -> AsyncIterator[SimulatedVertex]:
    async with SimulatedVertex() as provider:
        yield provider


def aiplatform(vertex: SimulatedVertex) -> PredictionServiceClient:
    transport = PredictionServiceRestTransport(host=vertex.url, url_scheme="http", credentials=CREDENTIALS)
    return PredictionServiceClient(transport=transport)


async def test_aiplatform_cannot_read_envelopes(vertex: SimulatedVertex) -> None:
    def calls() -> tuple[bytes, bytes]:
        with aiplatform(vertex) as client:
            body = HttpBody(content_type="application/json", data=json.dumps(FIM).encode())
            whole = client.raw_predict(endpoint=CODESTRAL, http_body=body)
            stream = client.stream_raw_predict(endpoint=CODESTRAL, http_body=body)
            return whole.data, b"".join(each.data for each in stream)

    whole, stream = await asyncio.to_thread(calls)
    assert json.loads(whole)["choices"][0]["message"]["content"] == ANSWER
    assert stream.endswith(b"data: [DONE]\n\n")
    assert vertex.requests[0].raw_path == path() + "?%24alt=json%3Benum-encoding%3Dint"
    vertex.envelope_bytes = 7
    _, cut = await asyncio.to_thread(calls)
    assert cut.count(b"\n\n") == stream.count(b"\n\n")


async def test_aiplatform_cannot_read_gemini_or_its_array(vertex: SimulatedVertex) -> None:
    def calls() -> tuple[str, str, int]:
        with aiplatform(vertex) as client:
            whole = client.generate_content(model=f"{GOOGLE}gemini-2.5-flash", contents=CONTENTS)
            stream = client.stream_generate_content(model=f"{GOOGLE}gemini-2.5-flash", contents=CONTENTS)
            text = "".join(part.candidates[0].content.parts[0].text for part in stream)
            return whole.candidates[0].content.parts[0].text, text, int(whole.candidates[0].finish_reason)

    assert await asyncio.to_thread(calls) == (CHAT, CHAT, 1)


async def test_aiplatform_cannot_read_predictions(vertex: SimulatedVertex) -> None:
    def calls() -> list[str]:
        instance, parameters = Struct(), Struct()
        instance.update({"prefix": FIM["prompt"], "suffix": FIM["suffix"]})
        parameters.update({"maxOutputTokens": 128, "candidateCount": 2})
        with aiplatform(vertex) as client:
            found = client.predict(
                endpoint=f"{GOOGLE}code-gecko@002",
                instances=[Value(struct_value=instance)],
                parameters=Value(struct_value=parameters),
            )
            return [str(each["content"]) for each in found.predictions]

    assert await asyncio.to_thread(calls) == [ANSWER, model.alternative(ANSWER, 1)]
    assert b"128.0" in vertex.requests[0].body


async def test_genai_cannot_read_answers_or_errors(vertex: SimulatedVertex) -> None:
    options = types.HttpOptions(base_url=vertex.url)

    def calls() -> tuple[str | None, str, str]:
        with genai.Client(
            vertexai=True, project="p", location="l", credentials=CREDENTIALS, http_options=options
        ) as client:
            models, name = client.models, "gemini-2.5-flash"
            whole = models.generate_content(model=name, contents="How?").text
            stream = "".join(part.text or "" for part in models.generate_content_stream(model=name, contents="How?"))
            vertex.fault = Fault(error_after_chunks=2)
            with pytest.raises(errors.ServerError) as raised:
                list(models.generate_content_stream(model=name, contents="How?"))
            return whole, stream, str(raised.value)

    whole, stream, said = await asyncio.to_thread(calls)
    assert (whole, stream) == (CHAT, CHAT)
    assert "503 UNAVAILABLE" in said
