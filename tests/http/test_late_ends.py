"""How calls end that had begun well: what the circuit is told of a stream, of its caller who leaves, and of the proxy's
own faults."""

from __future__ import annotations

import asyncio
import errno
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from proxy import events
from proxy.simulator import Fault
from proxy.upstreams.claude import Claude
from proxy.upstreams.vertex import Vertex
from tests.rig import chat, circuit_is, path, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig import Rig

pytestmark = pytest.mark.virtual_time

VERTEX = {"upstream": "vertex", "model": "codestral-2"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(content: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


DONE = event("", "stop") + b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"code": 500, "message": "x", "status": "INTERNAL"}}\n\n'


@asynccontextmanager
async def streaming(*pieces: bytes, pause: float = 0.1) -> AsyncIterator[str]:
    """A server that sends everyone the same pieces of a stream and does not end it; its URL."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            for piece in pieces:
                await asyncio.sleep(pause)
                if writer.is_closing():
                    return
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await over.wait()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        over.set()
        await asyncio.sleep(1)


def _post(proxy: Rig) -> Any:
    headers = {"Authorization": "Bearer of-the-caller"}
    return proxy.session.post(proxy.app.address + path(stream=True), json=chat(stream=True), headers=headers)


async def ask_and_leave_on(proxy: Rig, last: bytes) -> None:
    """A caller who hangs up when it has seen `last`, as clients do on an error or on `[DONE]`."""
    async with _post(proxy) as response:
        received = b""
        while last not in received:
            received += await response.content.readany()
        response.close()
    await proxy.until(lambda: bool(proxy.seen(events.AttemptEnded)), seconds=1)


def outcome(proxy: Rig) -> tuple[str, str | None]:
    (attempt,) = proxy.seen(events.AttemptEnded)
    return attempt.outcome.kind, attempt.outcome.reason


@pytest.mark.parametrize(
    ("last", "expected", "calls", "failed"),
    [
        (ERROR, ("failed", "stream_error"), 1, 1.0),
        (DONE, ("ok", None), 1, 0.0),
        (event("more"), ("neutral", "client_left"), 0, 0.0),
    ],
    ids=["error", "done", "more to come"],
)
async def test_a_caller_who_hangs_up_on_what_it_saw_hides_it_from_the_circuit(
    last: bytes, expected: tuple[str, str | None], calls: int, failed: float
) -> None:
    async with streaming(event("x"), last) as url, rig(VERTEX__BASE_URL=url) as proxy:
        await ask_and_leave_on(proxy, last)
        assert outcome(proxy) == expected
        assert [lost.reason for lost in proxy.seen(events.RequestLost)] == ["stream_error"] * (last is ERROR)
        (circuit,) = [entry for entry in (await proxy.status())["circuits"] if entry["upstream"] == "vertex"]
        assert (circuit["calls"], circuit["failure_rate"]) == (calls, failed)


async def test_an_error_is_forgotten_when_nothing_comes_after_it() -> None:
    async with streaming(event("x"), ERROR) as url, rig(VERTEX__BASE_URL=url) as proxy:
        answer = await proxy.ask(chat(stream=True))
        assert answer.broken
        assert outcome(proxy) == ("failed", "stream_error")


async def test_what_claude_counted_is_lost_when_the_caller_hangs_up() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        proxy.claude.fault = Fault(delay_between_chunks=1.0)
        await ask_and_leave_on(proxy, b"choices")
        assert outcome(proxy) == ("neutral", "client_left")
        assert proxy.metric("tokens_total", upstream="claude", kind="input") > 0


@pytest.mark.parametrize(
    "fault",
    [Fault(cut_after_chunks=1), Fault(stall_after_chunks=1), Fault(end_after_chunks=1), Fault(error_after_chunks=1)],
    ids=["cut", "stall", "no finish", "error"],
)
async def test_a_stream_that_fails_late_is_a_success_by_its_first_content(fault: Fault) -> None:
    """Latency at the first content, the error at the end: fast by the one, failed by the other."""
    async with rig(BREAKER__CONSECUTIVE_FAILURES="100", BREAKER__MINIMUM_CALLS="4") as proxy:
        proxy.vertex.fault = fault
        for _ in range(3):
            assert (await proxy.ask(chat(stream=True))).broken
        assert proxy.metric("breaker_failure_ratio", **VERTEX) == 1.0
        assert proxy.metric("breaker_slow_ratio", **VERTEX) == 0.0
        await proxy.ask(chat(stream=True))
        (moved,) = proxy.seen(events.CircuitMoved)
        assert (moved.transition.reason, moved.transition.failed) == ("failure_rate", 4)


async def _trial_runs_into_the_limit(proxy: Rig, answer: Any) -> None:
    await proxy.until(circuit_is(proxy, "vertex", "half_open"))
    await answer()
    moves = [moved.transition.to_state for moved in proxy.seen(events.CircuitMoved)]
    assert moves == ["open", "half_open"]
    circuit = proxy.app.switchboard.circuit("vertex", "codestral-2")
    now = proxy.app._clock()
    assert (circuit.in_flight_trials, circuit.counts(now).calls) == (0, 0), "it says nothing and gives its place back"


async def test_a_trial_that_flows_until_the_time_is_up_hangs() -> None:
    pieces = [event("x")] * 100
    limits = {"TIMEOUTS__TOTAL_SECONDS": "3", "BREAKER__OPEN_SECONDS": "1"}
    async with streaming(*pieces) as url, rig(VERTEX__BASE_URL=url, **limits) as proxy:
        circuit = proxy.app.switchboard.circuit("vertex", "codestral-2")
        circuit.trip(proxy.app._clock())

        async def ask() -> None:
            assert (await proxy.ask(chat(stream=True))).broken
            assert outcome(proxy) == ("neutral", "total_timeout")

        await _trial_runs_into_the_limit(proxy, ask)


async def test_a_trial_whose_caller_does_not_read_hangs() -> None:
    pieces = [event("x" * 60_000)] * 1_000
    limits = {"TIMEOUTS__TOTAL_SECONDS": "3", "BREAKER__OPEN_SECONDS": "1"}
    async with streaming(*pieces, pause=0.001) as url, rig(VERTEX__BASE_URL=url, **limits) as proxy:
        circuit = proxy.app.switchboard.circuit("vertex", "codestral-2")
        circuit.trip(proxy.app._clock())

        async def ask() -> None:
            async with _post(proxy):
                await asyncio.sleep(3.5)
            assert outcome(proxy) == ("neutral", "client_left")

        await _trial_runs_into_the_limit(proxy, ask)


async def test_want_of_descriptors_here_is_put_down_to_the_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(TIMEOUTS__TOTAL_SECONDS="5") as proxy:
        async with proxy.session.post(proxy.app.address + "/", data=b"") as response:
            await response.read()  # a connection of the caller's, which it will use again
        monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", _no_descriptor)
        assert (await proxy.ask()).status == 503
        monkeypatch.undo()
        reasons = {(attempt.outcome.kind, attempt.outcome.reason) for attempt in proxy.seen(events.AttemptEnded)}
        assert reasons == {("neutral", "local")}
        assert (await proxy.ask()).served_by == ("vertex", "primary")


async def _no_descriptor(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("upstream", [Vertex, Claude])
async def test_a_bug_in_the_proxy_is_taken_for_a_caller_who_left(
    monkeypatch: pytest.MonkeyPatch, upstream: type[Vertex] | type[Claude]
) -> None:
    async with rig(OVERRIDE=upstream.name) as proxy:

        async def broken(*_: object) -> None:
            raise KeyError

        monkeypatch.setattr(upstream, "attempt", broken)
        assert (await proxy.ask()).status == 500
        assert outcome(proxy) == ("neutral", "local")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_for_capacity_inside_an_answer_opens_the_circuit(*, stream: bool) -> None:
    error = {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}
    body = b"data: " + json.dumps(error).encode() + b"\n\n" if stream else error
    headers = {"Content-Type": "text/event-stream"} if stream else {}
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=200, body=body, headers=headers)
        for _ in range(20):
            assert (await proxy.ask(chat(stream=stream))).served_by[0] == "claude"
        assert circuit_is(proxy, "vertex", "closed")()
        assert proxy.metric("throttle_refusals_total", **VERTEX) > 0
        assert proxy.metric("breaker_failure_ratio", **VERTEX) == 0


def thought(field: str) -> bytes:
    choice = {"index": 0, "delta": {field: "hm"}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize(("field", "broken"), [("reasoning_content", False), ("content", True)])
async def test_a_model_that_thinks_for_long_is_taken_for_one_that_hangs(field: str, *, broken: bool) -> None:
    """The first thought comes in time; then there is nothing for longer than the idle time, but it is thinking."""
    async with streaming(thought(field), event("x") + DONE, pause=2.3) as url, rig(VERTEX__BASE_URL=url) as proxy:
        answer = await proxy.ask(chat(stream=True))
        assert answer.broken is broken
        assert (answer.text == "x") is not broken
        assert outcome(proxy)[0] == ("failed" if broken else "ok")


async def test_the_second_of_two_choices_is_cut_off_when_the_first_has_ended() -> None:
    def choice(index: int, reason: str | None = None) -> bytes:
        given = {"index": index, "delta": {"content": "x"}, "finish_reason": reason}
        return b"data: " + json.dumps({"id": "x", "choices": [given]}).encode() + b"\n\n"

    pieces = [choice(0), choice(0, "stop"), choice(1), choice(1, "stop") + b"data: [DONE]\n\n"]
    async with streaming(*pieces, pause=0.6) as url, rig(VERTEX__BASE_URL=url) as proxy:
        answer = await proxy.ask(chat(stream=True, n=2))
        assert answer.body == b"".join(pieces)
