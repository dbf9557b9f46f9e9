"""The simulated Claude refuses what the Messages API refuses, model by model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from proxy.simulator import SimulatedClaude, model

from .test_simulator_claude import HAIKU_4_5, HAIKU_5_5, KEYED, TAGGED, Asker, asking, prompt, without


@pytest.fixture
async def claude() -> AsyncIterator[SimulatedClaude]:
    async with SimulatedClaude() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as client:
        yield client


@pytest.fixture
def ask(session: ClientSession, claude: SimulatedClaude) -> Asker:
    return Asker(session, claude)


@pytest.mark.parametrize("field", ["model", "max_tokens", "messages"])
async def test_required_fields(ask: Asker, field: str) -> None:
    assert await ask.refusal(without(field, asking())) == f"{field}: Field required"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": 128.0}, "max_tokens"),
        ({"max_tokens": "64"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 64_001}, "64001 > 64000"),
        ({"stop_sequences": ["\n\n"]}, "non-whitespace"),
        ({"stop_sequences": ["x", ""]}, "non-whitespace"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop": ["x"]}, "stop: Extra inputs are not permitted"),
        ({"suffix": ""}, "suffix: Extra inputs are not permitted"),
        ({"stream": "yes"}, "stream"),
        ({"system": ""}, "non-whitespace"),
        ({"system": [{"type": "text", "text": " \n"}]}, "non-whitespace"),
        ({"messages": []}, "at least one message"),
        ({"messages": "How?"}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-whitespace"),
        ({"messages": [{"role": "user", "content": " \n\t"}]}, "non-whitespace"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "non-whitespace"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "system", "content": "x"}]}, "Unexpected role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name"),
        ({"temperature": 1.5}, "temperature"),
        ({"metadata": {"user": "x"}}, "metadata"),
        ({"thinking": {"type": "off"}}, "thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"output_config": {"effort": "least"}}, "effort"),
        ({"model": 7}, "model"),
    ],
)
async def test_what_no_model_takes_is_refused(ask: Asker, fields: dict[str, Any], said: str) -> None:
    assert said in await ask.refusal(asking(**fields))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(ask: Asker, body: bytes) -> None:
    assert await ask.refusal(body)


PREFILLED = [{"role": "user", "content": prompt()}, {"role": "assistant", "content": "<COMPLETION>"}]


@pytest.mark.parametrize(
    "name", [HAIKU_5_5, "claude-opus-4-6", "claude-sonnet-4-6", "claude-sonnet-5", "claude-opus-5"]
)
async def test_prefill_is_refused_from_4_6_on(ask: Asker, name: str) -> None:
    assert "prefill" in await ask.refusal(asking(model=name, messages=PREFILLED))


async def test_prefill_is_continued_by_4_5(ask: Asker) -> None:
    body = asking(model=HAIKU_4_5, messages=PREFILLED)
    assert await ask.text(body) == TAGGED.removeprefix("<COMPLETION>")
    trailing = [PREFILLED[0], {"role": "assistant", "content": "<COMPLETION>\n"}]
    assert "trailing whitespace" in await ask.refusal(asking(model=HAIKU_4_5, messages=trailing))


@pytest.mark.parametrize("parameter", [{"temperature": 0.7}, {"temperature": 1}, {"top_p": 0.9}, {"top_k": 5}])
@pytest.mark.parametrize(
    "name",
    [HAIKU_5_5, "claude-sonnet-5", "claude-sonnet-5-5", "claude-opus-4-7", "claude-opus-5-5", "claude-fable-5-2"],
)
async def test_sampling_is_refused_by_the_newer_models(ask: Asker, name: str, parameter: dict[str, Any]) -> None:
    body = without("thinking", asking(model=name, **parameter))
    assert next(iter(parameter)) in await ask.refusal(body)


async def test_haiku_4_5_takes_one_sampling_parameter_of_two(ask: Asker) -> None:
    assert await ask.text(asking(model=HAIKU_4_5, temperature=0.7))
    assert await ask.text(asking(model=HAIKU_4_5, top_p=0.7))
    assert "both" in await ask.refusal(asking(model=HAIKU_4_5, temperature=0.7, top_p=0.7))


@pytest.mark.parametrize(
    ("name", "kind", "taken"),
    [
        (HAIKU_5_5, "disabled", True),
        ("claude-sonnet-5", "disabled", True),
        ("claude-opus-5", "disabled", True),
        (HAIKU_4_5, "disabled", True),
        ("claude-sonnet-5-5", "disabled", False),
        ("claude-sonnet-5-5", "between_tools", True),
        (HAIKU_5_5, "between_tools", False),
        ("claude-opus-5-5", "disabled", False),
        ("claude-fable-5", "disabled", False),
        ("claude-fable-5-2", "disabled", False),
    ],
)
async def test_where_thinking_can_be_switched_off(ask: Asker, name: str, kind: str, taken: bool) -> None:
    body = asking(model=name, thinking={"type": kind})
    if taken:
        assert await ask.text(body) == model.chat("claude", "How?")
    else:
        assert kind in await ask.refusal(body)


async def test_effort_is_refused_by_haiku_4_5(ask: Asker) -> None:
    assert await ask.text(asking(output_config={"effort": "low"}))
    assert "effort" in await ask.refusal(asking(model=HAIKU_4_5, output_config={"effort": "low"}))


async def test_an_unknown_or_retired_model_is_not_found(ask: Asker) -> None:
    for name in ("claude-3-5-haiku-20241022", "codestral-2"):
        status, document = await ask(asking(model=name))
        assert (status, document["error"]) == (404, {"type": "not_found_error", "message": f"model: {name}"})
    del ask.claude.models[HAIKU_5_5]
    status, _ = await ask(asking())
    assert status == 404


@pytest.mark.parametrize("key", [None, "", "other"])
async def test_without_an_accepted_key_it_is_an_authentication_error(ask: Asker, key: str | None) -> None:
    ask.claude.accepted_keys = {"key"}
    headers = without("x-api-key", KEYED) if key is None else {**KEYED, "x-api-key": key}
    status, document = await ask(asking(), headers)
    assert (status, document["error"]["type"]) == (401, "authentication_error")
    status, _ = await ask(asking())
    assert status == 200


async def test_the_version_is_required(ask: Asker) -> None:
    assert "anthropic-version" in await ask.refusal(asking(), without("anthropic-version", KEYED))
    assert "anthropic-version" in await ask.refusal(asking(), {**KEYED, "anthropic-version": "vertex-2023-10-16"})
    assert "content-type" in await ask.refusal(asking(), {**KEYED, "content-type": "text/plain"})


async def test_the_newest_version_takes_the_key_as_a_bearer_and_no_sampling(ask: Asker) -> None:
    headers = {"authorization": "Bearer key", "anthropic-version": "2026-10-21", "content-type": "application/json"}
    ask.claude.accepted_keys = {"key"}
    status, _ = await ask(asking(), headers)
    assert status == 200
    assert "temperature" in await ask.refusal(asking(model=HAIKU_4_5, temperature=0.5), headers)
    assert "authorization" in await ask.refusal(asking(), {**headers, "x-api-key": "key"})


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "cookie",
        "x-goog-user-project",
        "X-Goog-Api-Client",
        "x-completion-proxy-token",
        "proxy-authorization",
    ],
)
async def test_a_leaked_header_is_answered_400_and_remembered(ask: Asker, name: str) -> None:
    leaking = {**KEYED, name: "Bearer ya29.secret"}
    assert name.lower() in await ask.refusal(asking(), leaking)
    assert ask.claude.leaks == [name.lower()]
    ask.claude.strict_headers = False
    status, _ = await ask(asking(), leaking)
    assert (status, ask.claude.leaks) == (200, [name.lower()] * 2)


async def test_headers_of_tracing_and_of_libraries_are_no_leak(ask: Asker) -> None:
    status, _ = await ask(asking(), {**KEYED, "traceparent": "00-1-2-00", "x-stainless-lang": "python", "via": "1.1 x"})
    assert (status, ask.claude.leaks) == (200, [])


async def test_other_paths_and_methods(ask: Asker, session: ClientSession) -> None:
    async with session.post(ask.claude.url + "/v1/complete", json={}, headers=KEYED) as response:
        assert (response.status, (await response.json())["error"]["type"]) == (404, "not_found_error")
    async with session.get(ask.claude.url + "/v1/messages", headers=KEYED) as response:
        assert response.status == 405
