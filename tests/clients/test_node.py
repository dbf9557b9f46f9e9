"""The client libraries of node: each in one process that asks a proxy in every state and tells what it made of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import model
from tests.clients.states import NOBODY, PROVIDERS, served_by
from tests.rig import PREFIX, SUFFIX, expected

NODE = Path(__file__).parent / "node"
QUESTION = "Say something."
UNAVAILABLE = "The service is currently unavailable."

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules" / ".installed").exists(),
    reason="the client libraries of node are not there; `make test` installs them where npm is",
)

Told = dict[str, Any]


async def told(script: str) -> dict[str, Told]:
    """What `script` tells, by who answers and by what was asked."""
    async with AsyncExitStack() as stack:
        proxies = {who: await stack.enter_async_context(served_by(who)) for who in (*PROVIDERS, NOBODY)}
        given = {
            "urls": {who: proxy.app.address for who, proxy in proxies.items()},
            "prefix": PREFIX,
            "suffix": SUFFIX,
            "question": QUESTION,
        }
        process = await asyncio.create_subprocess_exec(
            "node",
            f"{script}.js",
            json.dumps(given),
            cwd=NODE,
            # Whose credentials are on this machine is nothing to them.
            env={**os.environ, "GOOGLE_APPLICATION_CREDENTIALS": os.devnull},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    tells: dict[str, Told] = json.loads(output)
    return tells


def assert_error(error: dict[str, Any], kind: str) -> None:
    """The library's own error, and in it what Vertex had said."""
    assert kind in error["kinds"]
    assert error["status"] == 503
    assert UNAVAILABLE in error["message"]


def assert_mistral(answer: Told, text: str) -> None:
    assert (answer["object"], answer["model"]) == ("chat.completion", "codestral-2")
    assert answer["id"]
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finishReason"]) == (0, "stop")
    assert (choice["message"]["role"], choice["message"]["content"]) == ("assistant", text)
    assert answer["usage"]["totalTokens"] == answer["usage"]["promptTokens"] + answer["usage"]["completionTokens"]


def assert_mistral_stream(events: list[Told], text: str) -> None:
    chunks = [event["data"] for event in events]
    assert len({(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == text
    assert [choice["finishReason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert chunks[-1]["usage"]["completionTokens"] > 0


@pytest.mark.parametrize(("script", "kind"), [("mistral_gcp", "MistralGCPError"), ("mistral", "MistralError")])
async def test_mistrals_clients_do_not_read_it(script: str, kind: str) -> None:
    tells = await told(script)
    for provider in PROVIDERS:
        answers = {name: each["answer"] for name, each in tells[provider].items()}
        assert_mistral(answers["fim"], expected(provider))
        assert_mistral_stream(answers["fimStream"], expected(provider))
        assert_mistral(answers["chat"], model.chat(provider, QUESTION))
        assert_mistral_stream(answers["chatStream"], model.chat(provider, QUESTION))
    assert len(tells[NOBODY]) == 4
    for each in tells[NOBODY].values():
        assert_error(each["error"], kind)


async def test_googles_client_does_not_read_it() -> None:
    tells = await told("google_genai")
    for provider in PROVIDERS:
        whole, chunks = tells[provider]["content"]["answer"], tells[provider]["contentStream"]["answer"]
        assert whole["text"] == "".join(chunk["text"] for chunk in chunks) == model.chat(provider, QUESTION)
        for last in (whole, chunks[-1]):
            assert last["candidates"][0]["finishReason"] == "STOP"
            assert last["usageMetadata"]["candidatesTokenCount"] > 0
            assert last["modelVersion"] == "gemini-2.5-flash"
        assert len({chunk["responseId"] for chunk in chunks}) == 1
    assert len(tells[NOBODY]) == 2
    for each in tells[NOBODY].values():
        assert_error(each["error"], "ApiError")


async def test_anthropics_client_does_not_read_it() -> None:
    tells = await told("anthropic_vertex")
    for provider in PROVIDERS:
        for name in ("message", "messageStream"):
            message = tells[provider][name]["answer"]
            assert (message["type"], message["role"]) == ("message", "assistant")
            assert message["model"] == "claude-haiku-4-5-20251001"
            assert [block["text"] for block in message["content"]] == [model.chat(provider, QUESTION)]
            assert message["stop_reason"] == "end_turn"
            assert message["usage"]["output_tokens"] > 0
    assert len(tells[NOBODY]) == 2
    for each in tells[NOBODY].values():
        assert_error(each["error"], "InternalServerError")


async def test_openais_client_does_not_read_it() -> None:
    tells = await told("openai")
    for provider in PROVIDERS:
        whole, chunks = tells[provider]["chat"]["answer"], tells[provider]["chatStream"]["answer"]
        assert (whole["object"], whole["model"]) == ("chat.completion", "google/gemini-2.5-flash")
        assert whole["choices"][0]["message"]["content"] == model.chat(provider, QUESTION)
        assert whole["choices"][0]["finish_reason"] == "stop"
        *chunks, last = chunks
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert "".join(delta.get("content") or "" for delta in deltas) == model.chat(provider, QUESTION)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert (last["choices"], last["usage"]["total_tokens"]) == ([], whole["usage"]["total_tokens"])
        assert len({chunk["id"] for chunk in (*chunks, last)}) == 1
    assert len(tells[NOBODY]) == 2
    for each in tells[NOBODY].values():
        assert_error(each["error"], "InternalServerError")


async def test_continue_does_not_read_it() -> None:
    tells = await told("continue")
    for provider in PROVIDERS:
        answers = {name: each["answer"] for name, each in tells[provider].items()}
        for name in ("fimStream", "vertexFimStream"):
            deltas = [chunk["choices"][0]["delta"] for chunk in answers[name]]
            assert "".join(delta.get("content") or "" for delta in deltas) == expected(provider)
        # Continue makes the chunks of the other stream anew.
        assert answers["fimStream"][-1]["choices"][0]["finish_reason"] == "stop"
        for name in ("chat", "vertexChat"):
            assert answers[name]["choices"][0]["message"]["content"] == model.chat(provider, QUESTION)
    # All its errors are plain ones, whose message is for the user to read.
    errors = {name: each["error"]["message"] for name, each in tells[NOBODY].items()}
    assert set(errors) == {"fimStream", "vertexFimStream", "vertexChat"}
    assert UNAVAILABLE in errors["fimStream"]
    assert errors["vertexFimStream"] == "VertexAI API error: 503 Service Unavailable"
    assert UNAVAILABLE in errors["vertexChat"]
