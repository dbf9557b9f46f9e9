"""What is rarely seen at the data listener and on the way to Vertex, and must hold all the same."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from proxy import events
from proxy.dialects.chat_completions import ChunkMonitor
from proxy.simulator import Fault
from tests.http.test_connections import _head, _raw
from tests.rig import chat, fim, path, rig

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.virtual_time


PASSTHROUGH = {"VERTEX__CREDENTIALS": "passthrough", "VERTEX__TOKEN": ""}

WHOLE = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "abc"}, "finish_reason": "stop"}]}'


async def test_an_answer_of_claudes_renews_what_vertex_said_of_a_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.callers.ACCEPTED_SECONDS", 6.0)
    async with rig(**PASSTHROUGH, HOST="0.0.0.0", ALLOW_ANONYMOUS="true") as proxy:
        proxy.app.address = proxy.app.address.replace("0.0.0.0", "127.0.0.1")
        proxy.vertex.accepted_tokens = {"of-the-caller"}
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        await proxy.vertex.refuse()
        await asyncio.sleep(4)
        assert (await proxy.ask()).served_by[0] == "claude"
        await asyncio.sleep(4)
        assert (await proxy.ask()).status == 401


async def test_a_refused_upload_is_read_to_its_end() -> None:
    async with rig(CLIENT_TOKENS="one") as proxy:
        reader, writer = await _raw(proxy)
        writer.write(_head(path(), b"x" * 1_000_000) + b"x" * 1000)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 401 " in head
        assert b"connection: close" in head.lower()
        writer.close()


async def test_a_kept_connection_survives_a_drain() -> None:
    async with rig() as proxy:
        proxy.vertex.latency = 1.0
        asking = [asyncio.create_task(proxy.ask(fim(stream=stream))) for stream in (False, True)]
        await proxy.vertex.received(2)
        draining = asyncio.create_task(proxy.app.drain())
        for answer in await asyncio.gather(*asking):
            assert answer.status == 200
            assert answer.headers["Connection"] == "close"
        await draining


async def test_what_a_caller_never_reads_outlives_its_request() -> None:
    event = 'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "y"}, "finish_reason": null}]}\n\n'
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=200, body=event * 200_000, headers={"Content-Type": "text/event-stream"})
        _, writer = await _raw(proxy)
        body = json.dumps(fim(stream=True)).encode()
        writer.write(_head(path(stream=True), body) + body)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await proxy.until(lambda: bool(proxy.seen(events.RequestEnded)))
        assert not proxy.app._runners[0].server.connections  # type: ignore[union-attr]
        writer.transport.abort()


async def test_a_bug_half_way_looks_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_between_chunks=0.1)
        feed, fed = ChunkMonitor.feed, []

        def broken(monitor: ChunkMonitor, data: bytes) -> bytes:
            fed.append(data)
            if len(fed) > 3:
                raise RuntimeError("a bug")
            return feed(monitor, data)

        monkeypatch.setattr(ChunkMonitor, "feed", broken)
        answer = await proxy.ask(fim(stream=True))
        assert answer.status == 200
        assert answer.broken
        assert b"INTERNAL" not in answer.body


async def test_a_stream_that_broke_off_is_not_counted_as_lost() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(cut_after_chunks=2)
        assert (await proxy.ask(chat(stream=True))).broken
        assert proxy.metric("requests_lost_total", reason="cut") == 1


async def test_a_body_of_just_the_allowed_size_is_too_large() -> None:
    body = json.dumps(fim()).encode()
    async with rig(MAX_BODY_BYTES=str(len(body))) as proxy:
        proxy.vertex.fault = Fault(status=503)
        assert (await proxy.ask(body)).served_by == ("claude", "server_error")


async def test_a_stream_of_broken_compression_is_sent() -> None:
    async with rig() as proxy:
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"}
        proxy.vertex.fault = Fault(status=200, body=b"data: not gzip\n\n", headers=headers)
        assert (await proxy.ask(fim(stream=True))).served_by == ("claude", "malformed")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ["vertex", "claude"])
async def test_tokens_are_not_counted(provider: str, stream: bool) -> None:
    async with rig(OVERRIDE=provider) as proxy:
        answer = await proxy.ask(fim(stream=stream))
        usage = (answer.chunks[-1] if stream else answer.json)["usage"]
        assert proxy.metric("tokens_total", upstream=provider, kind="input") == usage["prompt_tokens"]
        assert proxy.metric("tokens_total", upstream=provider, kind="output") == usage["completion_tokens"]


async def test_an_endless_stream_without_content_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.upstreams.relay.LARGEST_ANSWER", 1_000)
    async with rig() as proxy:
        headers = {"Content-Type": "text/event-stream"}
        proxy.vertex.fault = Fault(status=200, body=": nothing\n\n" * 1_000, headers=headers)
        assert (await proxy.ask(fim(stream=True))).served_by == ("claude", "malformed")


async def test_a_token_that_never_comes_holds_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_authorization: str | None) -> str:
        await asyncio.sleep(3_600)
        raise AssertionError

    async with rig() as proxy:
        monkeypatch.setattr(proxy.app.engine._credentials, "authorization", never)
        answer = await proxy.ask()
        assert answer.served_by == ("claude", "credentials")
        assert answer.seconds == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize("fault", [Fault(cut_after_chunks=5), Fault(end_after_chunks=5)])
async def test_claudes_broken_stream_is_called_by_another_name(fault: Fault) -> None:
    async with rig(OVERRIDE="claude") as proxy:
        proxy.claude.fault = fault
        assert (await proxy.ask(chat(stream=True))).broken
        assert proxy.metric("upstream_failures_total", upstream="claude", reason="cut") == 1


async def test_a_stop_of_the_callers_leaves_claude_writing() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        proxy.claude.fault = Fault(delay_between_chunks=1.0)
        answer = await proxy.ask(fim(stream=True, stop=["\n"]))
        assert answer.finished
        loop = asyncio.get_running_loop()
        ended = loop.time()
        request = proxy.claude.requests[0]
        await proxy.until(lambda: request.aborted_at is not None, seconds=1)
        assert request.aborted_at is not None
        assert request.aborted_at - ended < 0.05


async def test_the_librarys_limit_of_connections_caps_the_requests() -> None:
    async with rig() as proxy:
        proxy.vertex.latency = 0.5
        answers = await asyncio.gather(*(proxy.ask() for _ in range(150)))
        assert proxy.vertex.max_in_flight == 150
        assert {answer.served_by[0] for answer in answers} == {"vertex"}


async def test_a_cookie_of_one_callers_answer_goes_out_with_anothers_request() -> None:
    async with rig() as proxy:
        proxy.vertex.response_headers = {"Set-Cookie": "a=b; Path=/"}
        for _ in range(2):
            assert (await proxy.ask()).headers["Set-Cookie"] == "a=b; Path=/"
        assert proxy.vertex.requests[1].header("cookie") is None


async def test_a_whole_answer_without_end_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.upstreams.transport.LARGEST_ANSWER", 1_000)
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=200, body=WHOLE + b" " * 5_000)
        assert (await proxy.ask()).served_by == ("claude", "malformed")


async def test_an_upload_is_sent_twice_and_its_end_alone_the_second_time() -> None:
    async with rig(MAX_BODY_BYTES="5000") as proxy:
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        proxy.vertex.fault = Fault(reset_before_headers=True, times=1)
        answer = await proxy.ask(json.dumps(fim(prompt="x" * 100_000)).encode())
        assert answer.status == 413
        assert proxy.vertex.calls == 2
