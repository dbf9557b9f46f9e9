"""The simulated code-gecko and text-embedding answer as wire formats and client library have it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from proxy.simulator import SimulatedVertex, model

from .test_simulator_vertex import Asker

MODELS = "/v1/projects/p/locations/l/publishers/google/models"
GECKO, EMBEDDING = f"{MODELS}/code-gecko%40002:predict", f"{MODELS}/text-embedding-005:predict"
PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"
INSTANCE = {"prefix": PREFIX, "suffix": SUFFIX}
ANSWER = model.complete("vertex", PREFIX, SUFFIX)


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    async with SimulatedVertex() as vertex, ClientSession() as session:
        yield Asker(session, vertex)


async def predictions(ask: Asker, instances: list[Any], **parameters: Any) -> list[dict[str, Any]]:
    status, content_type, data = await ask({"instances": instances, "parameters": parameters}, GECKO)
    assert (status, content_type) == (200, "application/json; charset=UTF-8"), data
    found = json.loads(data)["predictions"]
    assert isinstance(found, list)
    return found


async def refusal(ask: Asker, body: object, target: str = GECKO) -> str:
    status, _, data = await ask(body, target)
    error = json.loads(data)["error"]
    assert (status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    return str(error["message"])


async def test_a_prediction_lacks_what_clients_read(ask: Asker) -> None:
    status, _, data = await ask({"instances": [INSTANCE]}, GECKO.replace("%40", "@").replace("/v1/", "/v1beta1/"))
    answer = json.loads(data)
    assert status == 200
    assert answer["predictions"] == [
        {
            "content": ANSWER,
            "score": -0.125,
            "citationMetadata": {"citations": []},
            "safetyAttributes": {"blocked": False, "categories": [], "scores": [], "errors": []},
        }
    ]
    counts = answer["metadata"]["tokenMetadata"]
    assert counts["inputTokenCount"]["totalTokens"] == model.tokens(PREFIX + SUFFIX)
    assert counts["outputTokenCount"]["totalTokens"] == model.tokens(ANSWER)
    assert counts["outputTokenCount"]["totalBillableCharacters"] == len("".join(ANSWER.split()))


async def test_floats_for_integers_are_refused(ask: Asker) -> None:
    found = await predictions(ask, [INSTANCE], maxOutputTokens=128.0, candidateCount=2.0, topK=40.0, temperature=0)
    assert len(found) == 2


async def test_candidates_are_too_few_or_alike(ask: Asker) -> None:
    other = {"prefix": "x = ", "suffix": ""}
    found = await predictions(ask, [INSTANCE, other], candidateCount=4)
    contents = [each["content"] for each in found]
    assert len(set(contents)) == 8
    assert (contents[0], contents[4]) == (ANSWER, model.complete("vertex", "x = ", ""))
    scores = [each["score"] for each in found[:4]]
    assert scores == sorted(scores, reverse=True)
    assert contents == [each["content"] for each in await predictions(ask, [INSTANCE, other], candidateCount=4)]


async def test_an_answer_goes_on_past_its_stops_and_limit(ask: Asker) -> None:
    for parameters, text in (
        ({"stopSequences": ["\n"]}, ANSWER.partition("\n")[0]),
        ({"maxOutputTokens": 2}, ANSWER[:8]),
        ({"echo": True, "maxOutputTokens": 2}, PREFIX + ANSWER[:8]),
    ):
        assert (await predictions(ask, [INSTANCE], **parameters))[0]["content"] == text
    ask.vertex.completes = lambda prefix, suffix: "x" * 1000
    assert (await predictions(ask, [INSTANCE]))[0]["content"] == "x" * 256


async def test_log_probabilities_are_missing_when_asked_for(ask: Asker) -> None:
    told = (await predictions(ask, [INSTANCE], logprobs=2))[0]["logprobs"]
    assert "".join(told["tokens"]) == ANSWER
    assert len(told["tokenLogProbs"]) == len(told["tokens"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": ["x"]}, "instances[0] must be a struct"),
        ({"instances": [{"suffix": "x"}]}, "instances[0].prefix"),
        ({"instances": [{"prefix": 7}]}, "Invalid value at 'instances[0].prefix' (TYPE_STRING), 7"),
        ({"instances": [{"prefix": "x", "prompt": "y"}]}, "Unknown name \"prompt\" at 'instances[0]'"),
        ({"instances": [INSTANCE], "prompt": "x"}, 'Unknown name "prompt": Cannot find field.'),
        ({"instances": [INSTANCE], "parameters": {"max_tokens": 1}}, "Unknown name \"max_tokens\" at 'parameters'"),
        ({"instances": [INSTANCE], "parameters": {"maxOutputTokens": 1.5}}, "(TYPE_INT32), 1.5"),
        ({"instances": [INSTANCE], "parameters": {"candidateCount": 5}}, "from 1 (inclusive) to 5 (exclusive)"),
        ({"instances": [INSTANCE], "parameters": {"candidateCount": 0}}, "candidateCount value of 0"),
        ({"instances": [INSTANCE], "parameters": {"temperature": 1.5}}, "temperature value of 1.5"),
        ({"instances": [INSTANCE], "parameters": {"stopSequences": [7]}}, "stopSequences[0]"),
    ],
)
async def test_a_wrong_body_is_taken(ask: Asker, body: object, said: str) -> None:
    assert said in await refusal(ask, body)


async def test_an_embedding_depends_on_anything_but_its_text(ask: Asker) -> None:
    body = {"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}, {"content": "b"}, {"content": "a"}]}
    status, _, data = await ask(body, EMBEDDING)
    found = [each["embeddings"]["values"] for each in json.loads(data)["predictions"]]
    assert status == 200
    assert found[0] == found[2] != found[1]
    assert {len(values) for values in found} == {768}
    assert all(-1 <= value <= 1 for value in found[0])
    _, _, data = await ask({**body, "parameters": {"outputDimensionality": 3.0}}, EMBEDDING)
    assert [len(each["embeddings"]["values"]) for each in json.loads(data)["predictions"]] == [3, 3, 3]


@pytest.mark.parametrize(
    "body",
    [{"instances": [{"content": ""}]}, {"instances": [{"prefix": "x"}]}, {"instances": [{"content": "a"}] * 251}],
)
async def test_a_wrong_body_is_embedded(ask: Asker, body: object) -> None:
    assert await refusal(ask, body, EMBEDDING)


async def test_a_retired_model_still_predicts(ask: Asker) -> None:
    ask.vertex.predicting_models.discard("code-gecko@002")
    status, _, _ = await ask({"instances": [INSTANCE]}, GECKO)
    assert status == 404
