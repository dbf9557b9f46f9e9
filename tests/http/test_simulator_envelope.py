"""The simulated Vertex AI speaks the envelope of google-cloud-aiplatform's REST client."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from proxy.simulator import SimulatedVertex

from .test_simulator_vertex import ANSWER, FIM, Asker, path

CLAUDE = {
    "anthropic_version": "vertex-2023-10-16",
    "max_tokens": 64,
    "thinking": {"type": "disabled"},
    "messages": [{"role": "user", "content": "How?"}],
}
HAIKU = path("claude-haiku-5-5", publisher="anthropic")
JSON = "application/json; charset=UTF-8"


def enveloped(body: object, content_type: str = "application/json") -> dict[str, Any]:
    data = base64.b64encode(json.dumps(body).encode()).decode()
    return {"httpBody": {"contentType": content_type, "data": data}}


def inside(envelope: dict[str, str]) -> bytes:
    assert envelope.keys() == {"contentType", "data"}
    return base64.b64decode(envelope["data"], validate=True)


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    async with SimulatedVertex() as vertex, ClientSession() as session:
        yield Asker(session, vertex)


@pytest.mark.parametrize(("body", "target"), [(FIM, path()), (CLAUDE, HAIKU)])
async def test_an_answer_to_an_envelope_is_in_none(ask: Asker, body: object, target: str) -> None:
    status, content_type, data = await ask(enveloped(body), target)
    found = json.loads(data)
    assert (status, content_type, found["contentType"]) == (200, JSON, "application/json")
    assert json.loads(inside(found)).keys() == json.loads((await ask(body, target))[2]).keys()


@pytest.mark.parametrize(("body", "target"), [(FIM, path()), (CLAUDE, HAIKU)])
async def test_an_envelope_of_a_stream_holds_more_or_less_than_an_event(ask: Asker, body: Any, target: str) -> None:
    target = target.replace("raw", "streamRaw")
    status, content_type, data = await ask(enveloped({**body, "stream": True}), target)
    found = json.loads(data)
    assert (status, content_type) == (200, JSON)
    assert {each["contentType"].partition(";")[0] for each in found} == {"text/event-stream"}
    assert all(inside(each).count(b"\n\n") == 1 and inside(each).endswith(b"\n\n") for each in found)
    assert inside(found[-1]) in (b"data: [DONE]\n\n", b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
async def test_a_stream_that_is_cut_anywhere_loses_a_byte(ask: Asker, size: int) -> None:
    ask.vertex.envelope_bytes = size
    _, _, data = await ask(enveloped({**FIM, "stream": True}), path(method="streamRawPredict"))
    found = [inside(each) for each in json.loads(data)]
    assert {len(each) for each in found[:-1]} <= {size}
    assert 0 < len(found[-1]) <= size
    *events, _, end = b"".join(found).split(b"\n\n")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == ANSWER
    assert end == b""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (enveloped(FIM, "text/plain"), "Invalid content type"),
        ({"httpBody": {}}, "Invalid content type"),
        ({"httpBody": {"contentType": "application/json", "data": "?"}}, "Base64 decoding failed"),
        ({"httpBody": {"contentType": "application/json", "data": ""}}, "Invalid JSON payload"),
        (enveloped([]), "Root element must be a message"),
        ({**enveloped(FIM), **FIM}, 'Unknown name "model"'),
        ({"httpBody": {"data": "", "mimeType": "x"}}, "Unknown name \"mimeType\" at 'http_body'"),
    ],
)
async def test_an_envelope_that_is_none_is_opened(ask: Asker, body: object, said: str) -> None:
    status, _, data = await ask(body)
    assert (status, json.loads(data)["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert said in json.loads(data)["error"]["message"]


async def test_an_error_of_the_model_is_put_in_an_envelope(ask: Asker) -> None:
    status, _, data = await ask(enveloped({**FIM, "prompt": 7}))
    assert (status, json.loads(data)["detail"][0]["loc"]) == (422, ["body", "prompt"])
