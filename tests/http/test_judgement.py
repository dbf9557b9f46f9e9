"""Whose fault an answer is, and what it counts as: the circuit is only as good as this."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from health.outcome import OutcomeKind
from proxy import events
from proxy.simulator import Fault
from proxy.upstreams.credentials import PassthroughCredentials
from proxy.upstreams.transport import Transport
from proxy.upstreams.vertex import Vertex
from tests.rig import circuit_is, expected, fim, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig import Rig

pytestmark = pytest.mark.virtual_time

WHOLE = json.dumps(
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}
).encode()
EVENT = b'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


def attempt(proxy: Rig) -> events.AttemptEnded:
    ended: list[events.AttemptEnded] = proxy.seen(events.AttemptEnded)
    return ended[0]


@asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[str]:
    """A server that sends the same bytes to everyone and closes; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(("status", "kind"), [(408, "failed"), (499, "neutral")])
async def test_a_timeout_or_a_cancellation_at_vertex_is_the_callers(status: int, kind: str) -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=status, body={"error": {}})
        assert (await proxy.ask()).served_by[0] == "claude"
        assert attempt(proxy).outcome.kind == kind


async def test_a_retry_after_does_not_hold_the_circuit_open() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503, headers={"Retry-After": "40"})
        for _ in range(5):
            await proxy.ask()
        assert attempt(proxy).detail == "503 UNAVAILABLE"
        assert await proxy.until(circuit_is(proxy, "vertex", "half_open"), seconds=60) > 35


@pytest.mark.parametrize(
    ("body", "headers", "served"),
    [
        (gzip.compress(WHOLE), GZIP, ("vertex", "primary")),
        (gzip.compress(WHOLE)[:-9], GZIP, ("claude", "truncated")),
        (WHOLE, GZIP, ("claude", "malformed")),
        (b"what brotli makes of it", {**GZIP, "Content-Encoding": "br"}, ("vertex", "primary")),
    ],
    ids=["whole", "truncated", "not gzip", "unknown coding"],
)
async def test_a_compressed_answer_is_judged_by_its_compressed_bytes(
    body: bytes, headers: dict[str, str], served: tuple[str, str]
) -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=200, body=body, headers=headers)
        answer = await proxy.ask()
        assert answer.served_by == served
        if served[0] == "vertex":
            assert answer.body == body


async def test_a_finished_stream_whose_connection_breaks_counts_as_a_cut() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = EVENT + b"data: [DONE]\n\n"
    async with (
        answering(head + b"%x\r\n%s\r\n" % (len(body), body)) as url,
        rig(VERTEX__BASE_URL=url) as proxy,
    ):
        answer = await proxy.ask(fim(stream=True))
        assert (answer.body, answer.broken) == (body, False)
        assert attempt(proxy).outcome.kind is OutcomeKind.OK


async def test_a_header_is_added_that_vertex_did_not_send() -> None:
    raw = b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(WHOLE), WHOLE)
    async with answering(raw) as url, rig(VERTEX__BASE_URL=url) as proxy:
        async with proxy.session.post(proxy.app.address + "/", data=b""):
            pass
        answer = await proxy.ask()
        assert answer.body == WHOLE
        names = {name.lower() for name in answer.headers}
        assert names == {"content-length", "date", "x-completion-proxy-upstream", "x-completion-proxy-reason"}


async def test_a_long_stream_is_taken_for_a_slow_one() -> None:
    """Latency is the time to the first content; how long the rest takes says nothing of it."""
    async with rig(BREAKER__MINIMUM_CALLS="3") as proxy:
        proxy.vertex.latency = 0.5
        proxy.vertex.fault = Fault(delay_between_chunks=1.0)
        for _ in range(4):
            answer = await proxy.ask(fim(stream=True))
            assert answer.text == expected("vertex")
            assert answer.seconds > 2
        assert circuit_is(proxy, "vertex", "closed")()
        assert proxy.metric("breaker_slow_ratio", upstream="vertex", model="codestral-2") == 0
        seconds = proxy.metric("upstream_time_to_first_byte_seconds_sum", upstream="vertex")
        assert seconds == pytest.approx(4 * 0.5, abs=0.1)


async def test_places_at_claude_are_not_given_back_after_failures() -> None:
    async with rig(CLAUDE__MAX_CONCURRENCY="2", BREAKER__CONSECUTIVE_FAILURES="50") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for fault in (Fault(status=500), Fault(reset_before_headers=True), Fault(garbage_body=True)):
            proxy.claude.fault = fault
            for stream in (False, True):
                assert (await proxy.ask(fim(stream=stream))).status == 503
        proxy.claude.fault = None
        answer = await proxy.ask()
        assert (answer.served_by, answer.seconds < 1) == (("claude", "server_error"), True)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("europe-west9", "https://europe-west9-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
    ],
)
async def test_a_location_is_asked_at_the_wrong_host(location: str, host: str) -> None:
    transport = Transport(connect_seconds=1)
    assert Vertex(transport, PassthroughCredentials(), base_url=None)._host(location) == host
    await transport.close()


async def test_a_bug_in_the_proxy_looks_like_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as proxy:
        monkeypatch.setattr(proxy.app.engine.listener, "_plan", None)
        answer = await proxy.ask()
        assert (answer.status, answer.json["error"]["status"]) == (500, "INTERNAL")
        assert proxy.metric("requests_total", upstream="none", code="500") == 1
        assert proxy.metric("requests_lost_total", reason="internal") == 1


async def test_a_draining_proxy_keeps_its_connections() -> None:
    async with rig() as proxy:
        for body in (fim(), fim(stream=True)):
            assert "Connection" not in (await proxy.ask(body)).headers
            proxy.app.engine.listener.draining = True
            assert (await proxy.ask(body)).headers["Connection"] == "close"
            assert (await proxy.ask(body, url="/nothing")).headers["Connection"] == "close"
            proxy.app.engine.listener.draining = False
