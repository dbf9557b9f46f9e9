"""Each dialect through the whole proxy: Vertex's bytes while it serves, and its own shape while Claude does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy import events
from proxy.simulator import Fault, model
from tests.http.test_atomic import CLAUDE, GEMINI, MESSAGES, OPENAI, PLACE, QUESTION, STREAMS, texts_of
from tests.rig import PREFIX, SUFFIX, circuit_is, expected, fim, path, rig

pytestmark = pytest.mark.virtual_time

FRONT = {"VERTEX__PROJECT": "project", "VERTEX__LOCATION": "us-central1", "VERTEX__MODEL": "codestral-2"}
GENERATE = GEMINI.replace("streamG", "g")
GECKO = f"{PLACE}/publishers/google/models/code-gecko%40002:predict"
ASKED = {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
HOLE = {"instances": [{"prefix": PREFIX, "suffix": SUFFIX}], "parameters": {"maxOutputTokens": 64.0}}
ANTHROPIC = {"anthropic_version": "2026-10-21", "max_tokens": 64, "messages": MESSAGES}
TOOL = {"name": "f", "description": "x", "input_schema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("fault", [None, Fault(status=503)])
@pytest.mark.parametrize("dialect", STREAMS)
async def test_a_stream_is_not_in_the_callers_format(dialect: str, fault: Fault | None) -> None:
    url, body = STREAMS[dialect]
    async with rig() as proxy:
        proxy.vertex.fault = fault
        answer = await proxy.ask(body, url=url)
        assert not answer.broken
        assert texts_of(answer) == model.chat("claude" if fault else "vertex", QUESTION)
        array = dialect == "gemini"
        assert answer.headers["Content-Type"].startswith("application/json" if array else "text/event-stream")
        assert answer.served_by == (("claude", "server_error") if fault else ("vertex", "primary"))


async def test_code_gecko_is_not_answered_as_often_as_asked() -> None:
    body = {**HOLE, "parameters": {"candidateCount": 3.0, "maxOutputTokens": 64.0, "temperature": 0.2}}
    async with rig() as proxy:
        for fault in (None, Fault(status=503)):
            proxy.vertex.fault = fault
            predictions = (await proxy.ask(body, url=GECKO)).json["predictions"]
            assert len(predictions) == 3
            assert predictions[0]["content"] == expected("claude" if fault else "vertex")
            assert not any(prediction["safetyAttributes"]["blocked"] for prediction in predictions)
        assert len(proxy.claude.requests) == 3


async def test_a_candidate_that_fails_costs_the_others() -> None:
    body = {**HOLE, "parameters": {"candidateCount": 3}}
    async with rig(OVERRIDE="claude") as proxy:
        proxy.claude.fault = Fault(error="overloaded", share=0.5)
        answer = await proxy.ask(body, url=GECKO)
        assert answer.served_by == ("claude", "override")
        contents = [prediction["content"] for prediction in answer.json["predictions"]]
        assert contents == [expected("claude")] * 3


async def test_more_candidates_than_places_wait_for_each_other() -> None:
    body = {**HOLE, "parameters": {"candidateCount": 4}}
    async with rig(OVERRIDE="claude", CLAUDE__MAX_CONCURRENCY="2") as proxy:
        proxy.claude.latency = 0.5
        answer = await proxy.ask(body, url=GECKO)
        assert len(answer.json["predictions"]) == 4
        assert proxy.claude.max_in_flight == 2


async def test_an_instance_that_fails_is_answered_with_anothers_code() -> None:
    body = {"instances": [HOLE["instances"][0], {"prefix": "x = ", "suffix": ""}]}  # type: ignore[index]
    async with rig(OVERRIDE="claude") as proxy:
        contents = [each["content"] for each in (await proxy.ask(body, url=GECKO)).json["predictions"]]
        assert contents == [expected("claude"), model.complete("claude", "x = ", "")]
        proxy.claude.fault = Fault(error="internal", share=0.5)
        assert (await proxy.ask(body, url=GECKO)).served_by == ("vertex", "server_error")


async def test_claudes_own_callers_lose_their_tools_and_images() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    body = {
        **ANTHROPIC,
        "messages": [{"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}],
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
        "metadata": {"user_id": "u"},
    }
    url = CLAUDE.replace("streamR", "r")
    async with rig() as proxy:
        healthy = await proxy.ask(body, url=url)
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(
            body, url=url, headers={"anthropic-beta": "a-2025-01-01, b;c", "x-goog-user-project": "p"}
        )
        assert answer.served_by == ("claude", "server_error")
        assert [block["type"] for block in answer.json["content"]] == [
            block["type"] for block in healthy.json["content"]
        ]
        assert answer.json["stop_reason"] == "tool_use"
        assert answer.json["model"] == healthy.json["model"] == "claude-haiku-4-5-20251001"
        (sent,) = proxy.claude.requests
        assert sent.json == {
            **{name: value for name, value in body.items() if name != "anthropic_version"},
            "model": "claude-haiku-4-5-20251001",
        }
        assert sent.header("anthropic-version") == "2023-06-01"
        assert sent.header("anthropic-beta") == "a-2025-01-01"
        assert proxy.claude.leaks == []
        assert circuit_is(proxy, "claude", "closed", "claude-haiku-4-5-20251001")()


async def test_anthropics_own_errors_reach_a_caller_who_speaks_its_format() -> None:
    body = {**ANTHROPIC, "stream": True}
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        proxy.claude.fault = Fault(error="overloaded")
        answer = await proxy.ask(body, url=CLAUDE)
        assert (answer.status, answer.json["error"]["status"]) == (503, "UNAVAILABLE")
        proxy.claude.fault = Fault(error_after_chunks=2)
        answer = await proxy.ask(body, url=CLAUDE)
        assert answer.broken
        (error,) = [line for line in answer.body.decode().split("\n") if '"error"' in line and "data" in line]
        assert json.loads(error.removeprefix("data: "))["type"] == "error"
        assert "Overloaded" not in error


@pytest.mark.parametrize(
    ("url", "body", "field"),
    [
        (GENERATE, {**ASKED, "tools": [{"functionDeclarations": [{"name": "f", "description": "d"}]}]}, "tools"),
        (GENERATE, {**ASKED, "generationConfig": {"responseLogprobs": True}}, "generationConfig.responseLogprobs"),
        (OPENAI, {"model": "google/gemini-2.5-flash", "messages": MESSAGES, "logprobs": True}, "logprobs"),
        (OPENAI, {"model": "google/gemini-2.5-flash", "messages": MESSAGES, "n": 2, "stream": True}, "n"),
        (path(), fim(n=9) | {"messages": MESSAGES, "prompt": None}, "n"),
    ],
)
async def test_what_claude_cannot_say_is_refused_while_vertex_serves(url: str, body: Any, field: str) -> None:
    if url == path():
        body = {name: value for name, value in body.items() if name not in ("prompt", "suffix")}
    async with rig() as proxy:
        assert (await proxy.ask(body, url=url)).served_by == ("vertex", "primary")
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(body, url=url)
        assert answer.status == 400
        error = (answer.json[0] if url == OPENAI else answer.json)["error"]
        assert error["status"] == "INVALID_ARGUMENT"
        assert field in error["message"]
        assert error["details"][0]["fieldViolations"][0]["field"].startswith(field)
        assert not proxy.claude.requests


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (GENERATE.replace("generateContent", "countTokens"), ASKED),
        (f"{PLACE}/publishers/google/models/text-embedding-005:predict", {"instances": [{"content": "x"}]}),
        (
            f"{PLACE}/publishers/anthropic/models/count-tokens:rawPredict",
            {"anthropic_version": "2026-10-21", "model": "claude-haiku-4-5@20251001", "messages": MESSAGES},
        ),
    ],
    ids=["count", "embedding", "claude count"],
)
async def test_an_outage_is_told_as_the_callers_mistake_where_nobody_else_can_answer(url: str, body: Any) -> None:
    async with rig() as proxy:
        assert (await proxy.ask(body, url=url)).served_by == ("vertex", "primary")
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(body, url=url)
        assert (answer.status, answer.json["error"]["status"]) == (503, "UNAVAILABLE")
        await proxy.vertex.refuse()
        answer = await proxy.ask(body, url=url)
        assert answer.status == 503
        assert "no other provider" in answer.json["error"]["message"]
        assert "Retry-After" in answer.headers
        assert len(proxy.seen(events.RequestLost)) == 2


async def test_one_model_of_the_openai_endpoint_trips_the_others() -> None:
    async with rig(BREAKER__CONSECUTIVE_FAILURES="2") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(2):
            await proxy.ask({"model": "google/gemini-2.5-flash", "messages": MESSAGES}, url=OPENAI)
        proxy.vertex.fault = None
        assert circuit_is(proxy, "vertex", "open", "google/gemini-2.5-flash")()
        other = await proxy.ask({"model": "google/gemini-2.5-pro", "messages": MESSAGES}, url=OPENAI)
        assert other.served_by == ("vertex", "primary")


@pytest.mark.parametrize("fault", [None, Fault(status=503)])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_editor_that_knows_mistral_alone_is_not_served(stream: bool, fault: Fault | None) -> None:
    asked = {"model": "codestral-latest", "prompt": PREFIX, "suffix": SUFFIX, "stream": stream}
    async with rig(**FRONT) as proxy:
        proxy.vertex.fault = fault
        answer = await proxy.ask(asked, url="/v1/fim/completions")
        assert answer.text == expected("claude" if fault else "vertex")
        talk = await proxy.ask({"model": "x", "messages": MESSAGES, "stream": stream}, url="/v1/chat/completions")
        assert talk.text == model.chat("claude" if fault else "vertex", QUESTION)


async def test_mistrals_paths_without_a_model_behind_them_say_nothing() -> None:
    async with rig() as proxy:
        answer = await proxy.ask({"prompt": ""}, url="/v1/fim/completions")
        assert answer.status == 404
        assert "COMPLETION_PROXY_VERTEX__MODEL" in answer.json["message"]


async def test_an_editor_gets_googles_errors() -> None:
    async with rig(**FRONT, CLIENT_TOKENS="secret") as proxy:
        answer = await proxy.ask({"prompt": ""}, url="/v1/fim/completions")
        assert (answer.status, answer.json["type"]) == (401, "authentication_error")
        headers = {"Authorization": "Bearer secret"}
        answer = await proxy.ask(b"{", url="/v1/fim/completions", headers=headers)
        assert (answer.status, answer.json["object"]) == (400, "error")
        answer = await proxy.ask({"prompt": 1}, url="/v1/fim/completions", headers=headers)
        assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", "prompt"])
        await proxy.vertex.refuse()
        await proxy.claude.refuse()
        answer = await proxy.ask({"prompt": "x"}, url="/v1/fim/completions", headers=headers)
        assert (answer.status, answer.json["object"]) == (503, "error")


async def test_errors_of_the_openai_endpoint_are_no_array() -> None:
    body = {"model": "google/gemini-2.5-flash", "messages": MESSAGES}
    async with rig(CLIENT_TOKENS="secret") as proxy:
        assert (await proxy.ask(body, url=OPENAI)).json[0]["error"]["code"] == 401
        await proxy.vertex.refuse()
        await proxy.claude.refuse()
        answer = await proxy.ask(body, url=OPENAI, headers={"Authorization": "Bearer secret"})
        assert (answer.status, answer.json[0]["error"]["status"]) == (503, "UNAVAILABLE")
