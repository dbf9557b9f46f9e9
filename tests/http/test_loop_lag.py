"""A busy proxy does not blame Vertex: what is waited for is waited for in time in which the event loop was awake."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from health.outcome import FailureReason, OutcomeKind
from proxy import events
from proxy.simulator import Fault
from proxy.upstreams.base import AttemptFailed, Limits
from proxy.upstreams.transport import Transport, raw_url
from tests.rig import TARGET, VERTEX_TOKEN, chat, circuit_is, expected, fim, rig
from tests.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from tests.rig import Rig

pytestmark = pytest.mark.virtual_time


def stall(after: float, seconds: float) -> None:
    """As if the process were stopped: time passes, and nothing runs meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.call_later(after, loop.advance, seconds)


def blamed(proxy: Rig) -> list[FailureReason]:
    ended = proxy.seen(events.AttemptEnded)
    return [attempt.outcome.reason for attempt in ended if attempt.outcome.kind is OutcomeKind.FAILED]


async def settled() -> None:
    """Let the meter tick once: before that there is no lag."""
    await asyncio.sleep(0.3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("after", "seconds"), [(0.5, 3.0), (1.9, 0.9), (0.2, 10.0)])
async def test_an_answer_in_the_socket_is_failed_over(after: float, seconds: float, *, stream: bool) -> None:
    async with rig() as proxy:
        await settled()
        proxy.vertex.latency = 2.0
        stall(after, seconds)
        answer = await proxy.ask(fim(stream=stream))
        assert (answer.text, answer.served_by) == (expected("vertex"), ("vertex", "primary"))
        assert not blamed(proxy)
        assert not proxy.claude.requests


async def test_a_hanging_vertex_hides_behind_a_stall() -> None:
    async with rig() as proxy:
        await settled()
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        stall(0.5, 3.0)
        answer = await proxy.ask()
        assert answer.served_by == ("claude", "first_byte_timeout")
        assert answer.seconds == pytest.approx(5.5, abs=0.2)
        assert blamed(proxy) == [FailureReason.FIRST_BYTE_TIMEOUT]


async def test_the_seconds_of_a_second_stall_are_lost() -> None:
    async with rig() as proxy:
        await settled()
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        stall(0.5, 3.0)
        stall(4.0, 2.0)
        answer = await proxy.ask()
        assert answer.served_by == ("claude", "first_byte_timeout")
        assert answer.seconds == pytest.approx(7.5, abs=0.3)


async def test_a_stall_before_the_request_puts_its_limit_off() -> None:
    async with rig() as proxy:
        await settled()
        stall(0.0, 3.0)
        await asyncio.sleep(0.5)
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        assert (await proxy.ask()).seconds == pytest.approx(2.5, abs=0.1)


async def test_a_stall_takes_more_than_the_whole_time_and_vertex_is_blamed() -> None:
    async with rig(TIMEOUTS__TOTAL_SECONDS="6") as proxy:
        await settled()
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        stall(0.5, 10.0)
        answer = await proxy.ask()
        assert answer.status >= 500
        assert answer.seconds == pytest.approx(10.5, abs=0.2)
        (attempt,) = proxy.seen(events.AttemptEnded)
        assert (attempt.outcome.kind, attempt.outcome.reason) == (OutcomeKind.NEUTRAL, FailureReason.LAG)


async def test_a_vertex_that_used_up_all_its_patience_is_excused_by_a_stall() -> None:
    """Once the first-byte time is used up awake, Vertex is to blame, though it was waited for: nobody else can."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    async with rig(TIMEOUTS__TOTAL_SECONDS="8") as proxy:
        await settled()
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        stall(3.0, 0.5)
        assert (await proxy.ask(chat(tools=tools))).status == 504
        assert blamed(proxy) == [FailureReason.FIRST_BYTE_TIMEOUT]


async def test_an_answer_is_given_up_in_the_turn_in_which_it_could_first_be_read() -> None:
    """A loop that comes back just when the time is used up still has to read what came meanwhile."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    came = asyncio.Event()

    def lag(start: float, end: float) -> float:
        return max(0.0, min(end, now + 4.0) - max(start, now + 1.0))

    async def answer() -> str:
        await came.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        return "an answer"

    stall(0.9, 3.1)
    loop.call_later(0.95, came.set)
    limits = Limits(first_byte=now + 1, total=now + 30, idle=1, patience=lambda: now, since=now, lag=lag)
    assert await limits.before_content(answer()) == "an answer"


async def test_a_token_that_came_during_a_stall_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as proxy:
        await settled()
        there = asyncio.Event()

        async def authorization(_: str | None) -> str:
            await there.wait()
            return f"Bearer {VERTEX_TOKEN}"

        monkeypatch.setattr(proxy.app.engine._credentials, "authorization", authorization)
        asyncio.get_running_loop().call_later(2.0, there.set)
        stall(0.5, 3.0)
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        there.clear()
        stall(0.5, 3.0)
        answer = await proxy.ask()
        assert answer.served_by == ("claude", "credentials")
        assert answer.seconds == pytest.approx(5.5, abs=0.2)


async def test_a_proxy_whose_polling_has_ended_waits_for_ever() -> None:
    async with rig() as proxy:
        await settled()
        (poll,) = (task for task in proxy.app._background if task.get_name() == "poll")
        poll.cancel()
        await asyncio.sleep(5)
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        assert (await proxy.ask()).seconds == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize(("seconds", "finished"), [(3.0, True), (0.0, False)], ids=["stall", "none"])
async def test_a_stream_is_broken_off_for_a_pause_of_the_proxys_own(seconds: float, *, finished: bool) -> None:
    async with rig() as proxy:
        await settled()
        proxy.vertex.fault = Fault(delay_between_chunks=1.5 if seconds else 2.5)
        stall(2.0, seconds)
        answer = await proxy.ask(chat(stream=True))
        assert answer.finished is finished
        assert blamed(proxy) == ([] if finished else [FailureReason.STALL])


async def test_a_stream_that_hangs_hides_behind_a_stall() -> None:
    async with rig() as proxy:
        await settled()
        proxy.vertex.fault = Fault(stall_after_chunks=1)
        stall(0.5, 3.0)
        answer = await proxy.ask(chat(stream=True))
        assert answer.broken
        assert answer.seconds == pytest.approx(5.0, abs=0.2)
        assert blamed(proxy) == [FailureReason.STALL]


async def test_a_whole_answer_is_taken_for_one_that_drips() -> None:
    async with rig() as proxy:
        await settled()
        proxy.vertex.fault = Fault(delay_between_chunks=0.5, end_after_chunks=4)
        stall(0.2, 6.0)
        answer = await proxy.ask()
        assert answer.served_by == ("vertex", "primary")
        assert not blamed(proxy)


@pytest.mark.parametrize(("lag", "reason"), [(0.0, FailureReason.CONNECT), (3.0, FailureReason.LAG)])
async def test_a_connection_that_nobody_looked_at_is_blamed_on_vertex(lag: float, reason: FailureReason) -> None:
    loop = asyncio.get_running_loop()
    transport = Transport(connect_seconds=1, lag=lambda start, end: lag if start < end else 0.0)

    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(60)

    cast("Any", transport._session.connector)._wrap_create_connection = hang
    now = loop.time()
    limits = Limits(first_byte=now + 5, total=now + 30, idle=1, patience=lambda: now, since=now)
    try:
        with pytest.raises(AttemptFailed) as caught:
            await transport.post(raw_url("http://127.0.0.1:9", "/"), {}, b"{}", limits)
    finally:
        await transport.close()
    assert caught.value.reason is reason
    assert loop.time() - now == pytest.approx(1, abs=0.1)


def connects_slowly(proxy: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to Vertex takes half a second."""
    connector = cast("Any", proxy.app.engine._providers._transports[0]._session.connector)
    original = connector._wrap_create_connection

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.5)
        return await original(*args, **options)

    monkeypatch.setattr(connector, "_wrap_create_connection", slow)


async def test_a_connection_that_a_stall_kept_from_being_made_counts_against_the_circuit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig() as proxy:
        await settled()
        connects_slowly(proxy, monkeypatch)
        stall(0.2, 3.0)
        answer = await proxy.ask()
        assert answer.served_by == ("claude", "lag")
        assert 'error=proxy_internal_error; details="lag"' in answer.headers["Proxy-Status"]
        assert not blamed(proxy)
        assert proxy.metric("upstream_failures_total", upstream="vertex", reason="lag") == 1
        assert proxy.metric("upstream_attempts_total", upstream="vertex", outcome="neutral") == 1


async def test_a_vertex_that_nobody_looked_at_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as proxy:
        await settled()
        connects_slowly(proxy, monkeypatch)
        proxy.claude.fault = Fault(status=529)
        stall(0.2, 3.0)
        assert (await proxy.ask()).text == expected("vertex")


async def test_a_probe_fails_for_a_stall_of_the_proxys_own() -> None:
    settings = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "10", "PROBES__TIMEOUT_SECONDS": "3"}
    async with rig(**settings) as proxy:
        proxy.vertex.latency = 2.9
        await proxy.until(lambda: len(proxy.seen(events.Probed)) >= 2)
        before = len(proxy.seen(events.Probed))
        await proxy.vertex.received(2)
        stall(2.7, 0.9)
        await proxy.until(lambda: len(proxy.seen(events.Probed)) >= before + 2)
        assert not [probed for probed in proxy.seen(events.Probed) if probed.result.outcome.kind == "failed"]


async def test_a_stall_is_told_to_nobody() -> None:
    with capture_logs() as lines:
        async with rig() as proxy:
            assert proxy.metric("event_loop_lag_seconds_total") == 0
            await settled()
            assert proxy.metric("event_loop_lag_seconds_total") == 0
            for after, seconds in ((0.0, 0.4), (1.0, 0.4), (1.5, 0.5)):
                stall(after, seconds)
            await asyncio.sleep(5)
            lagged = proxy.seen(events.LoopLagged)
            assert [event.seconds for event in lagged] == [
                pytest.approx(seconds, abs=0.06) for seconds in (0.35, 0.35, 0.45)
            ]
            assert proxy.metric("event_loop_lag_seconds_total") == pytest.approx(sum(e.seconds for e in lagged))
    said = [line for line in lines if line["event"] == "event_loop_lagged"]
    assert len(said) == 2
    assert said[0]["seconds"] == pytest.approx(0.35, abs=0.06)
    assert said[0]["log_level"] == "warning"


async def test_a_little_lag_in_every_probe_hides_an_upstream_that_hangs() -> None:
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="5") as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        proxy.vertex.fault = Fault(delay_before_headers=60.0)
        for number in range(60):
            stall(number * 0.5, 0.16)
        seconds = await proxy.until(circuit_is(proxy, "vertex", "open"), seconds=60)
        assert seconds < 30
