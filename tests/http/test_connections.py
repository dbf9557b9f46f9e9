"""What a request does to connections: none is left behind, and none is opened that need not be."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.rig import expected, fim, path, rig

if TYPE_CHECKING:
    from proxy.simulator import SimulatedProvider
    from tests.rig import Rig

pytestmark = pytest.mark.virtual_time


def _connections(provider: SimulatedProvider) -> int:
    assert provider._web is not None
    return len(provider._web.connections)


async def _raw(proxy: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.app.address.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


def _head(target: str, body: bytes, *, version: str = "1.1", expect: bool = False) -> bytes:
    lines = [f"POST {target} HTTP/{version}", "Host: x", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *(["Expect: 100-continue"] if expect else []), "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ["vertex", "claude"])
async def test_each_request_opens_a_connection_of_its_own(stream: bool, provider: str) -> None:
    """A new TLS handshake for every completion would cost more than the completion."""
    async with rig(OVERRIDE=provider) as proxy:
        asked = proxy.vertex if provider == "vertex" else proxy.claude
        for _ in range(10):
            assert (await proxy.ask(fim(stream=stream))).text == expected(provider)
        assert _connections(asked) == 1


async def test_a_stream_that_is_never_read_keeps_its_upstream_busy() -> None:
    """The caller is gone by the time when the first byte could be sent."""
    async with rig() as proxy:
        proxy.vertex.latency = 0.5
        proxy.vertex.fault = Fault(delay_between_chunks=5.0)
        reader, writer = await _raw(proxy)
        body = json.dumps(fim(stream=True)).encode()
        writer.write(_head(path(stream=True), body) + body)
        await proxy.vertex.received(1)
        await asyncio.sleep(0.4999)
        writer.transport.abort()
        await proxy.until(lambda: proxy.vertex.requests[0].aborted_at is not None, seconds=2)
        await proxy.until(lambda: proxy.metric("requests_in_flight") == 0, seconds=1)
        del reader


async def test_a_caller_who_does_not_read_holds_a_request_for_ever() -> None:
    event = 'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "y"}, "finish_reason": null}]}\n\n'
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=200, body=event * 200_000, headers={"Content-Type": "text/event-stream"})
        reader, writer = await _raw(proxy)
        body = json.dumps(fim(stream=True)).encode()
        writer.write(_head(path(stream=True), body) + body)
        assert b"200 OK" in await reader.readline()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await proxy.until(lambda: proxy.metric("requests_in_flight") == 1, seconds=1)
        assert await proxy.until(lambda: proxy.metric("requests_in_flight") == 0, seconds=40) == pytest.approx(
            30, abs=3
        )
        (attempt,) = proxy.seen(events.AttemptEnded)
        assert attempt.outcome.kind == "neutral"
        writer.transport.abort()


async def test_a_caller_who_waits_for_leave_to_send_its_body_waits_in_vain() -> None:
    async with rig() as proxy:
        reader, writer = await _raw(proxy)
        body = json.dumps(fim()).encode()
        writer.write(_head(path(), body, expect=True))
        async with asyncio.timeout(1):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        async with asyncio.timeout(5):
            assert b"200 OK" in await reader.readline()
        assert proxy.vertex.requests[0].body == body
        assert "expect" not in {name.lower() for name, _ in proxy.vertex.requests[0].headers}
        writer.close()


async def test_a_caller_of_http_1_0_is_not_understood() -> None:
    async with rig() as proxy:
        for stream in (False, True):
            reader, writer = await _raw(proxy)
            body = json.dumps(fim(stream=stream)).encode()
            writer.write(_head(path(stream=stream), body, version="1.0") + body)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.0 200 OK")
            assert b"chunked" not in answer.partition(b"\r\n\r\n")[0].lower()
            assert b"vertex_" in answer
            writer.close()


async def test_a_body_that_is_badly_framed_is_the_proxys_failure() -> None:
    async with rig() as proxy:
        reader, writer = await _raw(proxy)
        writer.write(f"POST {path()} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode())
        async with asyncio.timeout(5):
            assert b" 400 " in await reader.readline()
        assert not proxy.vertex.calls
        writer.close()
