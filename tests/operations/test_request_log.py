"""The line of a request, and its trace, through the whole proxy: what is missing in it, and what must not be."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy import events
from proxy.account import Account
from proxy.simulator import Fault
from tests.operations.test_commands import serving
from tests.rig import CLAUDE_KEY, PREFIX, VERTEX_TOKEN, fim, path, rig

if TYPE_CHECKING:
    from tests.rig import Rig

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = {"traceparent": f"00-{ID}-00f067aa0ba902b7-01", "tracestate": "vendor=value"}


def line(proxy: Rig) -> events.RequestEnded:
    ended: list[events.RequestEnded] = proxy.seen(events.RequestEnded)
    return ended[-1]


@pytest.mark.virtual_time
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_told_without_who_answered_why_and_how_long_it_took(stream: bool) -> None:
    async with rig() as proxy:
        proxy.vertex.latency = 0.25
        await proxy.ask(fim(stream=stream), headers=TRACE)
        told = line(proxy)
        assert (told.upstream, told.reason, told.code, told.complete) == ("vertex", "primary", 200, True)
        assert (told.model, told.dialect, told.stream, told.trace_id) == ("codestral-2", "codestral", stream, ID)
        assert told.first_byte_seconds == pytest.approx(0.25, abs=0.1)
        assert told.first_byte_seconds is not None
        assert told.seconds >= told.first_byte_seconds
        assert told.failed == ()
        proxy.vertex.fault = Fault(status=503)
        await proxy.ask(fim(stream=stream))
        told = line(proxy)
        assert (told.upstream, told.reason, told.failed) == ("claude", "server_error", ("vertex:server_error",))


@pytest.mark.virtual_time
async def test_what_was_not_answered_is_told_as_if_it_were() -> None:
    async with rig() as proxy:
        await proxy.ask({"prompt": 5}, url="/nothing")
        assert (line(proxy).reason, line(proxy).code, line(proxy).dialect) == ("refused", 404, "")
        proxy.vertex.fault = proxy.claude.fault = Fault(status=503)
        await proxy.ask()
        assert (line(proxy).upstream, line(proxy).reason, line(proxy).code) == ("vertex", "server_error", 503)
        await proxy.vertex.refuse()
        await proxy.claude.refuse()
        await proxy.ask()
        assert (line(proxy).upstream, line(proxy).reason, line(proxy).code) == ("none", "lost", 503)
        assert line(proxy).failed[:2] == ("vertex:connect", "claude:connect")
        assert line(proxy).first_byte_seconds is None


@pytest.mark.virtual_time
async def test_a_stream_that_breaks_off_or_is_left_is_told_as_whole() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        await proxy.claude.refuse()
        assert (await proxy.ask(fim(stream=True), headers=TRACE)).broken
        assert (line(proxy).upstream, line(proxy).code, line(proxy).complete) == ("vertex", 200, False)
        assert (line(proxy).reason, line(proxy).broken) == ("primary", "cut")
        assert proxy.seen(events.RequestLost)[-1] == events.RequestLost("codestral-2", "cut", ID)
        proxy.vertex.fault = Fault(delay_before_headers=60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(proxy.ask(), 0.5)
        await proxy.until(lambda: proxy.metric("requests_in_flight") == 0)
        assert (line(proxy).upstream, line(proxy).reason, line(proxy).code, line(proxy).complete) == (
            "none", "client_left", 499, False,
        )  # fmt: skip
        assert line(proxy).broken == "", "nothing had begun"


@pytest.mark.virtual_time
async def test_a_stream_that_the_caller_leaves_is_told_as_the_upstream_s_fault() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_between_chunks=1)
        url = proxy.app.address + path(stream=True)
        async with aiohttp.ClientSession() as session, session.post(url, json=fim(stream=True)) as response:
            await response.content.readany()
        await proxy.until(lambda: proxy.metric("requests_in_flight") == 0)
        assert (line(proxy).upstream, line(proxy).complete, line(proxy).broken) == ("vertex", False, "client_left")
        assert not proxy.seen(events.RequestLost)


@pytest.mark.virtual_time
async def test_who_finished_a_stream_stands_nowhere() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        assert not (await proxy.ask(fim(stream=True))).broken
        told = line(proxy)
        assert (told.upstream, told.completed_by, told.complete, told.broken) == ("vertex", "claude", True, "")
        assert told.failed == ("vertex:cut",)


@pytest.mark.virtual_time
async def test_a_request_that_is_refused_is_of_no_model() -> None:
    async with rig(CLIENT_TOKENS="token-of-a-caller") as proxy:
        await proxy.ask()
        assert (line(proxy).code, line(proxy).model, line(proxy).dialect) == (401, "codestral-2", "codestral")


@pytest.mark.virtual_time
async def test_a_fault_of_the_proxy_s_own_keeps_its_place_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the answer and its sending: the attempt must end, and the request be told as lost."""
    async with rig(CLAUDE__MAX_CONCURRENCY="1", OVERRIDE="claude") as proxy:

        def serve(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as broken:
            broken.setattr(Account, "serve", serve)
            assert (await proxy.ask(headers=TRACE)).status == 500
        assert proxy.seen(events.RequestLost)[-1] == events.RequestLost("codestral-2", "internal", ID)
        (attempt,) = proxy.seen(events.AttemptEnded)
        assert attempt.outcome.reason == "local"
        assert (await proxy.ask()).headers["x-completion-proxy-upstream"] == "claude"


def traces(provider: Any) -> list[tuple[str, str | None]]:
    """Of each request that it saw: the traceparents and the tracestate."""
    seen = []
    for record in provider.requests:
        headers = [(name.lower(), value) for name, value in record.headers]
        found = [value for name, value in headers if name == "traceparent"]
        seen.append((",".join(found), dict(headers).get("tracestate")))
    return seen


@pytest.mark.virtual_time
async def test_a_trace_is_lost_on_its_way_to_vertex_or_reaches_anthropic() -> None:
    async with rig() as proxy:
        await proxy.ask(headers=TRACE)
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        await proxy.ask(fim(stream=True), headers=TRACE)
        assert traces(proxy.vertex) == [(TRACE["traceparent"], "vendor=value")] * 2
        assert traces(proxy.claude) == [("", None)]


@pytest.mark.virtual_time
async def test_a_stream_that_vertex_finishes_belongs_to_another_trace() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        proxy.claude.fault = Fault(cut_after_chunks=3)
        await proxy.ask(fim(stream=True), headers=TRACE)
        assert traces(proxy.vertex) == [(TRACE["traceparent"], "vendor=value")]


@pytest.mark.virtual_time
async def test_a_request_without_a_trace_cannot_be_found_at_vertex() -> None:
    async with rig() as proxy:
        for headers in ({}, {"traceparent": "garbage", "tracestate": "a=1"}):
            await proxy.ask(headers=headers)
            ((sent, state),) = traces(proxy.vertex)[-1:]
            assert sent.split("-")[1] == line(proxy).trace_id
            assert state is None
        assert len({sent for sent, _ in traces(proxy.vertex)}) == 2


async def test_a_request_is_not_logged_or_logged_where_it_should_not_be() -> None:
    secrets = (VERTEX_TOKEN, CLAUDE_KEY, "token-of-a-caller", PREFIX[:7], "vertex_", "claude_", "some-user", "%24")
    for wanted in ("true", "false"):
        async with serving(CLIENT_TOKENS="token-of-a-caller", LOG_REQUESTS=wanted) as served:
            headers = {"Authorization": "Bearer token-of-a-caller", "x-completion-proxy-actor": "some-user", **TRACE}
            async with aiohttp.ClientSession(headers=headers) as session:
                for url in (path() + "?%24alt=json", path("m" * 99), "/nothing?key=token-of-a-caller"):
                    async with session.post(served.ready["address"] + url, json=fim()) as response:
                        await response.read()
            assert await served.end(signal.SIGTERM) == 0
        lines = [line for line in served.logs if line["event"] == "request"]
        assert len(lines) == (3 if wanted == "true" else 0)
        if lines:
            first = lines[0]
            assert {name: first[name] for name in ("upstream", "reason", "code", "dialect", "trace_id", "failed")} == {
                "upstream": "vertex", "reason": "primary", "code": 200, "dialect": "codestral", "trace_id": ID,
                "failed": [],
            }  # fmt: skip
            assert 0 < first["first_byte_seconds"] <= first["seconds"] < 5
        for secret in secrets:
            assert secret not in json.dumps(served.logs)


async def test_a_request_that_cannot_be_read_stands_in_the_log() -> None:
    async with serving() as served:
        for name in ("address", "admin_address"):
            host, _, port = served.ready[name].removeprefix("http://").rpartition(":")
            for broken in (b"Authorization: Bearer SECRET\x00bad\r\n\r\n", b"Authorization : Bearer SECRET\r\n\r\n",
                           b"Transfer-Encoding: chunked\r\n\r\nSECRET\r\n"):  # fmt: skip
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + broken)
                assert b" 40" in await asyncio.wait_for(reader.readline(), 5)
                writer.close()
                await writer.wait_closed()
        assert await served.end(signal.SIGTERM) == 0
        assert "SECRET" not in json.dumps(served.logs)


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe can be set on Linux alone")
async def test_a_log_that_nobody_reads_stops_the_proxy() -> None:
    """The pipe is made as small as it gets, so that it is full after some dozens of lines."""
    async with serving() as served, aiohttp.ClientSession() as session:
        transport = served.process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
        transport.pause_reading()
        fcntl.fcntl(transport.get_extra_info("pipe").fileno(), 1031, 4096)  # F_SETPIPE_SZ
        async with asyncio.timeout(20):
            for _ in range(400):
                async with session.post(served.ready["address"] + path(), json=fim()) as response:
                    assert response.status == 200
        transport.resume_reading()
        assert await served.end(signal.SIGTERM) == 0
        assert len([line for line in served.logs if line["event"] == "request"]) == 400
