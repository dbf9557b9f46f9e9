"""With nobody left to ask, the caller gets an honest answer in time, and nothing of Anthropic's."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.rig import CLAUDE_KEY, VERTEX_TOKEN, chat, circuit_is, expected, fim, path, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.virtual_time

SOON_AND_LONG = {
    "BREAKER__CONSECUTIVE_FAILURES": "2",
    "BREAKER__OPEN_SECONDS": "600",
    "BREAKER__MAX_OPEN_SECONDS": "600",
}


@pytest.mark.parametrize("stream", [False, True])
async def test_vertexs_own_last_answer_is_hidden(stream: bool) -> None:
    async with rig() as proxy:
        body = {"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}}
        proxy.vertex.fault = Fault(status=503, body=body, headers={"x-vertex": "1"})
        proxy.claude.fault = Fault(status=529)
        answer = await proxy.ask(fim(stream=stream))
        assert (answer.status, answer.json, answer.headers["x-vertex"]) == (503, body, "1")
        assert answer.served_by == ("vertex", "server_error")
        assert proxy.metric("requests_lost_total", reason="throttled") == 1
        assert proxy.metric("requests_total", upstream="vertex", code="503") == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=529), Fault(status=401), Fault(garbage_body=True), Fault(error_in_body=True)],
)
async def test_something_of_anthropics_reaches_the_caller(fault: Fault) -> None:
    async with rig() as proxy:
        await proxy.vertex.refuse()
        proxy.claude.fault = fault
        answer = await proxy.ask()
        assert answer.status == 503
        assert answer.json["error"]["status"] == "UNAVAILABLE"
        assert answer.json["error"]["code"] == 503
        assert int(answer.headers["Retry-After"]) >= 1
        everything = f"{answer.headers!r} {answer.body!r}".lower()
        for word in ("anthropic", "overloaded", "request_id", "msg_", "haiku", CLAUDE_KEY, VERTEX_TOKEN):
            assert word not in everything
        assert 'next-hop="vertex"; error=connection_refused' in answer.headers["Proxy-Status"]
        (lost,) = proxy.seen(events.RequestLost)
        assert lost.model == "codestral-2"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_hangs_for_ever(stream: bool) -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        proxy.claude.fault = Fault(delay_before_headers=math.inf)
        answer = await proxy.ask(fim(stream=stream))
        assert (answer.status, answer.json["error"]["status"]) == (504, "DEADLINE_EXCEEDED")
        assert "Retry-After" in answer.headers
        assert answer.seconds == pytest.approx(30, abs=0.2)
        assert proxy.metric("requests_in_flight") == 0


async def test_a_stream_drips_for_ever() -> None:
    async with rig() as proxy:
        text = (
            "data: "
            + '{"id": "x", "choices": [{"index": 0, "delta": {"content": "y"}, "finish_reason": null}]}'
            + "\n\n"
        )
        proxy.vertex.fault = Fault(
            status=200, body=text * 400, headers={"Content-Type": "text/event-stream"}, delay_between_chunks=15.0
        )
        answer = await proxy.ask(chat(stream=True))
        assert answer.broken
        assert answer.seconds <= 30.2


async def test_a_trickling_upload_holds_a_request_for_ever() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(3_600)

    async with rig() as proxy:
        async with proxy.session.post(proxy.app.address + path(), data=trickle()) as response:
            assert response.status == 408
            assert (await response.json())["error"]["status"] == "DEADLINE_EXCEEDED"
        assert not proxy.vertex.calls


async def test_a_request_is_given_up_while_an_open_circuit_could_have_served_it() -> None:
    """Both circuits open, and Vertex well again: the last resort finds it."""
    async with rig(BREAKER__OPEN_SECONDS="50", BREAKER__CONSECUTIVE_FAILURES="3") as proxy:
        await proxy.vertex.refuse()
        await proxy.claude.refuse()
        for _ in range(6):
            assert (await proxy.ask()).status == 503
        assert circuit_is(proxy, "vertex", "open")()
        assert circuit_is(proxy, "claude", "open", model="claude-haiku-5-5")()
        answer = await proxy.ask()
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 30
        await proxy.vertex.accept()
        answer = await proxy.ask()
        assert (answer.text, answer.served_by) == (expected("vertex"), ("vertex", "circuit_open"))
        await proxy.vertex.refuse()
        await proxy.claude.accept()
        answer = await proxy.ask()
        assert (answer.text, answer.served_by[0]) == (expected("claude"), "claude")


async def test_a_slow_vertex_is_abandoned_for_a_claude_that_is_dead() -> None:
    """Past the first-byte time, with nobody else ready, the only answer to be had is the one that is on its way."""
    async with rig(
        BREAKER__CONSECUTIVE_FAILURES="2", BREAKER__OPEN_SECONDS="600", BREAKER__MAX_OPEN_SECONDS="600"
    ) as proxy:
        await proxy.claude.refuse()
        proxy.vertex.fault = Fault(status=503, times=2)
        for _ in range(2):
            assert (await proxy.ask()).status == 503
        assert circuit_is(proxy, "claude", "open", model="claude-haiku-5-5")()
        proxy.vertex.fault = Fault(delay_before_headers=4.0)
        for stream in (False, True):
            answer = await proxy.ask(fim(stream=stream))
            assert (answer.status, answer.text) == (200, expected("vertex"))
            assert answer.seconds == pytest.approx(4, abs=0.2)


async def test_a_hanging_vertex_takes_all_the_time_that_claude_needs() -> None:
    """Claude's circuit is open, but Claude is back: Vertex may not use up the request's whole time."""
    async with rig(
        BREAKER__CONSECUTIVE_FAILURES="2", BREAKER__OPEN_SECONDS="600", BREAKER__MAX_OPEN_SECONDS="600"
    ) as proxy:
        await proxy.claude.refuse()
        proxy.vertex.fault = Fault(status=503, times=1)
        await proxy.ask()
        proxy.vertex.fault = Fault(status=503, times=1)
        await proxy.ask()
        await proxy.claude.accept()
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        answer = await proxy.ask()
        assert (answer.status, answer.text) == (200, expected("claude"))
        assert answer.seconds < 30
