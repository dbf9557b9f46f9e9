"""A body that is wrong is Vertex's to judge while Vertex is up, and named clearly where only Claude could serve it."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy.simulator import Fault
from tests.rig import expected, fim, path, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.virtual_time

WRONG: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{", "body"),
    "empty": (b"", "body"),
    "not an object": (b"[]", "body"),
    "neither prompt nor messages": (b'{"model": "codestral-2"}', "prompt"),
    "prompt of a wrong type": (b'{"model": "codestral-2", "prompt": 1}', "prompt"),
    "no messages": (b'{"model": "codestral-2", "messages": []}', "messages"),
    "max_tokens of a wrong type": (b'{"model": "codestral-2", "prompt": "x", "max_tokens": "many"}', "max_tokens"),
    "stop of a wrong type": (b'{"model": "codestral-2", "prompt": "x", "stop": 5}', "stop"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_body_is_kept_from_vertex(name: str) -> None:
    body, _ = WRONG[name]
    async with rig() as proxy:
        answer = await proxy.ask(body)
        assert answer.served_by == ("vertex", "primary")
        assert answer.status in {400, 422}
        assert proxy.vertex.requests[0].body == body
        assert not proxy.claude.requests


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_body_reaches_claude(name: str) -> None:
    body, field = WRONG[name]
    async with rig() as proxy:
        await proxy.vertex.refuse()
        answer = await proxy.ask(body)
        assert (answer.status, answer.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
        (violation,) = answer.json["error"]["details"][0]["fieldViolations"]
        assert violation["field"].startswith(field)
        assert field in answer.json["error"]["message"]
        assert not proxy.claude.requests


async def test_a_wrong_content_type_is_kept_from_vertex() -> None:
    async with rig() as proxy:
        answer = await proxy.ask(headers={"Content-Type": "text/plain"})
        assert answer.served_by == ("vertex", "primary")
        assert dict(proxy.vertex.requests[0].headers)["Content-Type"] == "text/plain"


async def test_a_large_body_is_kept_from_vertex() -> None:
    body = json.dumps(fim(prompt="x" * 10_000)).encode()
    async with rig(MAX_BODY_BYTES="5000") as proxy:
        answer = await proxy.ask(body)
        assert answer.served_by == ("vertex", "primary")
        assert answer.status == 200
        assert proxy.vertex.requests[0].body == body


@pytest.mark.parametrize("override", ["auto", "claude"])
async def test_a_large_body_is_lost_without_a_word(override: str) -> None:
    body = json.dumps(fim(prompt="x" * 100_000)).encode()
    async with rig(MAX_BODY_BYTES="5000", OVERRIDE=override) as proxy:
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(body)
        assert answer.status == 413
        assert "MAX_BODY_BYTES" in answer.json["error"]["message"]
        assert not proxy.claude.requests


async def test_a_compressed_body_cannot_be_failed_over() -> None:
    body = gzip.compress(json.dumps(fim()).encode())
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(body, headers={"Content-Encoding": "gzip"})
        assert answer.text == expected("claude")
        assert proxy.vertex.requests[0].body == body


@pytest.mark.parametrize("body", [gzip.compress(b"x" * 50_000_000), b"not gzip", gzip.compress(b"{}")[:8]])
async def test_a_bomb_in_a_compressed_body(body: bytes) -> None:
    async with rig() as proxy:
        await proxy.vertex.refuse()
        answer = await proxy.ask(body, headers={"Content-Encoding": "gzip"})
        assert answer.status == 400


async def test_what_claude_cannot_do_is_answered_with_a_guess() -> None:
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    body = {"model": "codestral-2", "messages": [{"role": "user", "content": "x"}], "tools": tools}
    async with rig() as proxy:
        await proxy.vertex.refuse()
        answer = await proxy.ask(body)
        assert answer.status == 400
        assert "tools" in answer.json["error"]["message"]


async def test_lone_surrogates_from_an_editor_break_the_failover() -> None:
    body = b'{"model": "codestral-2", "prompt": "x = \\"\\ud83d", "suffix": "\\ude00\\""}'
    async with rig() as proxy:
        await proxy.vertex.refuse()
        answer = await proxy.ask(body)
        assert answer.status == 200
        assert answer.served_by == ("claude", "connect")


async def _stalled(body: bytes) -> AsyncIterator[bytes]:
    yield body
    await asyncio.sleep(3_600)


async def test_a_large_upload_that_stalls_is_held_against_vertex() -> None:
    async with rig(MAX_BODY_BYTES="1000", BREAKER__CONSECUTIVE_FAILURES="2") as proxy:
        for _ in range(4):
            async with proxy.session.post(proxy.app.address + path(), data=_stalled(b"x" * 5_000)) as response:
                assert response.status == 408
        (vertex,) = [entry for entry in (await proxy.status())["circuits"] if entry["upstream"] == "vertex"]
        assert (vertex["state"], vertex["calls"]) == ("closed", 0)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_a_wrong_content_type_reaches_claude(content_type: str) -> None:
    async with rig() as proxy:
        await proxy.vertex.refuse()
        answer = await proxy.ask(headers={"Content-Type": content_type})
        assert answer.status == 400
        assert "content-type" in answer.json["error"]["message"]
        answer = await proxy.ask(headers={"Content-Type": "application/json; charset=utf-8"})
        assert answer.served_by == ("claude", "connect")


async def test_a_refusal_for_capacity_is_told_as_the_callers_mistake() -> None:
    """What Claude cannot be asked may still be asked of Vertex in a moment: its 429 says so, a 400 would not."""
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    body = {"model": "codestral-2", "messages": [{"role": "user", "content": "x"}], "tools": tools}
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=429)
        answer = await proxy.ask(body)
        assert (answer.status, answer.served_by) == (429, ("vertex", "throttled"))
