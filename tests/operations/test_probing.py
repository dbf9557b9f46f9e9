"""Background probes: a dead provider is noticed with no traffic at all, and only traffic brings it back."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
import structlog

from health.pace import NextProbe
from proxy import events
from proxy.commands.status import show_status
from proxy.logs import EventLog
from proxy.simulator import Fault
from tests.rig import TARGET, Rig, circuit_is, expected, rig

pytestmark = pytest.mark.virtual_time

HAIKU = "claude-haiku-5-5"
PROBING = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "10"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(delay_before_headers=60.0),
        Fault(garbage_body=True),
        Fault(status=200, body={"choices": [{"index": 0, "message": {"content": "Sunday"}, "finish_reason": "stop"}]}),
        Fault(status=403),
        Fault(status=400),
        None,
    ],
    ids=["503", "hang", "garbage", "a wrong answer", "403", "400", "refused"],
)
async def test_a_dead_vertex_goes_unnoticed_without_traffic(fault: Fault | None) -> None:
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: proxy.metric("probe_success", upstream="vertex", model="codestral-2") == 1)
        assert circuit_is(proxy, "vertex", "closed")()
        if fault is None:
            await proxy.vertex.refuse()
        proxy.vertex.fault = fault
        seconds = await proxy.until(circuit_is(proxy, "vertex", "open"))
        assert seconds < 24
        (switch,) = proxy.seen(events.Switch)
        assert (switch.to_upstream, switch.reason) == ("claude", "probe_down")
        # The first caller is spared: nobody had to find out.
        calls = proxy.vertex.calls
        answer = await proxy.ask()
        assert answer.served_by == ("claude", "probe_down")
        assert proxy.vertex.calls == calls


async def test_a_probe_closes_a_circuit_by_itself() -> None:
    async with rig(**PROBING, BREAKER__OPEN_SECONDS="40") as proxy:
        proxy.vertex.fault = Fault(status=503)
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        proxy.vertex.fault = None
        # Good probes let the trials begin before the time is up ...
        assert await proxy.until(circuit_is(proxy, "vertex", "half_open")) < 25
        (*_, moved) = [event for event in proxy.seen(events.CircuitMoved) if event.upstream == "vertex"]
        assert moved.transition.reason == "probe_recovered"
        # ... and no more than that, however many of them there are.
        await asyncio.sleep(100)
        assert circuit_is(proxy, "vertex", "half_open")()
        assert proxy.metric("active_upstream", model="codestral-2", upstream="claude") == 1
        for _ in range(5):
            assert (await proxy.ask()).text == expected("vertex")
        assert circuit_is(proxy, "vertex", "closed")()
        assert proxy.metric("active_upstream", model="codestral-2", upstream="vertex") == 1


async def test_a_dead_claude_is_failed_over_to_while_vertex_may_still_answer() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.claude.refuse()
        await proxy.until(circuit_is(proxy, "claude", "open", model=HAIKU))
        proxy.vertex.fault = Fault(delay_before_headers=4.0)
        answer = await proxy.ask()
        assert (answer.text, answer.served_by) == (expected("vertex"), ("vertex", "primary"))
        # Where Vertex has failed outright, the dead one is still asked, once, rather than losing the request.
        proxy.vertex.fault = Fault(status=503)
        await proxy.claude.accept()
        answer = await proxy.ask()
        assert answer.text == expected("claude")


async def test_a_backup_whose_body_is_refused_is_found_out_in_the_outage() -> None:
    """Its model retired, its key spent: the probe sends what a failover would, so it is known beforehand."""
    async with rig(**PROBING, CLAUDE__MODEL="claude-haiku-9") as proxy:
        await proxy.until(circuit_is(proxy, "claude", "open", model="claude-haiku-9"))
        (entry,) = [probe for probe in (await proxy.status())["probes"] if probe["upstream"] == "claude"]
        assert (entry["up"], entry["last_result"]) == (False, "not_found")


async def test_a_busy_vertex_is_taken_for_a_dead_one() -> None:
    async with rig(**PROBING) as proxy:
        proxy.vertex.fault = Fault(status=429)
        await asyncio.sleep(120)
        assert circuit_is(proxy, "vertex", "closed")()
        assert proxy.metric("probes_total", upstream="vertex", model="codestral-2", result="throttled") > 10


async def test_probes_stop_under_an_override() -> None:
    async with rig(**PROBING, OVERRIDE="claude") as proxy:
        proxy.vertex.fault = Fault(status=503)
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        assert (await proxy.ask()).served_by == ("claude", "override")
        assert not proxy.seen(events.Switch)


async def test_probing_goes_on_when_it_is_switched_off() -> None:
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="0") as proxy:
        await asyncio.sleep(60)
        assert not proxy.vertex.calls
        assert not proxy.claude.calls
        # The circuits of the targets exist all the same, so that an alert on them does not begin with silence.
        assert circuit_is(proxy, "vertex", "closed")()


async def test_a_probe_that_is_answered_with_a_stream_keeps_its_connection() -> None:
    event = 'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "Wednesday"}, "finish_reason": null}]}'
    async with rig(**PROBING) as proxy:
        proxy.vertex.fault = Fault(status=200, body=f"{event}\n\n" * 9, headers={"Content-Type": "text/event-stream"})
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        assert proxy.metric("upstream_failures_total", upstream="vertex", reason="wrong_answer") == 0
        (entry,) = [probe for probe in (await proxy.status())["probes"] if probe["upstream"] == "vertex"]
        assert entry["last_result"] == "wrong_answer"
        assert proxy.vertex._web is not None
        assert len(proxy.vertex._web.connections) <= 1


VERTEX = {"upstream": "vertex", "model": "codestral-2"}


async def _entry(proxy: Rig, upstream: str = "vertex") -> dict[str, Any]:
    (entry,) = [probe for probe in (await proxy.status())["probes"] if probe["upstream"] == upstream]
    return dict(entry)


async def _ask_for(proxy: Rig, seconds: float) -> None:
    """A steady load of one request every two seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        assert (await proxy.ask()).status == 200
        await asyncio.sleep(2)


def _probes(proxy: Rig, upstream: str = "vertex") -> int:
    return sum(event.result.upstream == upstream for event in proxy.seen(events.Probed))


async def test_probes_are_paid_for_while_traffic_shows_the_same() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: _probes(proxy) == 1)
        tokens = proxy.metric("probe_tokens_total", **VERTEX, kind="input")
        await _ask_for(proxy, 100)
        assert _probes(proxy) == 1
        assert _probes(proxy, "claude") > 8, "the idle one is in nobody's sight"
        assert proxy.metric("probes_skipped_total", **VERTEX) > 8
        assert proxy.metric("probe_tokens_total", **VERTEX, kind="input") == tokens
        entry = await _entry(proxy)
        assert entry["interval_seconds"] == proxy.metric("probe_interval_seconds", **VERTEX)
        assert (entry["skipped"], entry["up"]) == (proxy.metric("probes_skipped_total", **VERTEX), True)
        assert (entry["budget_remaining"], (await _entry(proxy, "claude"))["skipped"]) == (19_999, 0)


async def test_probes_do_not_resume_when_the_traffic_stops() -> None:
    async with rig(**PROBING) as proxy:
        await _ask_for(proxy, 60)
        proxy.vertex.fault = Fault(status=503)
        # One more skip at the most, an interval, and two quick ones for certainty.
        assert await proxy.until(circuit_is(proxy, "vertex", "open")) < 30
        (switch,) = proxy.seen(events.Switch)
        assert switch.reason == "probe_down"


async def test_traffic_that_fails_or_claude_serves_stands_in_for_a_probe_of_vertex() -> None:
    async with rig(**PROBING, OVERRIDE="claude") as proxy:
        await proxy.until(lambda: _probes(proxy) == 1)
        await _ask_for(proxy, 60)
        assert _probes(proxy) > 5
        assert proxy.metric("probes_skipped_total", **VERTEX) == 0
        assert proxy.metric("probes_skipped_total", upstream="claude", model=HAIKU) > 4


async def test_a_dead_upstream_is_probed_as_often_as_a_live_one() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: _probes(proxy) == 1)
        assert 9 <= proxy.metric("probe_interval_seconds", **VERTEX) <= 11
        proxy.vertex.fault = Fault(status=503)
        await proxy.until(lambda: _probes(proxy) == 2)
        assert 0.9 <= proxy.metric("probe_interval_seconds", **VERTEX) <= 1.1
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        assert 18 <= proxy.metric("probe_interval_seconds", **VERTEX) <= 22
        assert (await _entry(proxy))["interval_seconds"] == proxy.metric("probe_interval_seconds", **VERTEX)
        before = _probes(proxy)
        await asyncio.sleep(200)
        assert 9 <= _probes(proxy) - before <= 11


async def test_a_budget_that_nears_its_end_is_not_seen_or_ends_the_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(structlog, "get_logger", lambda: structlog.wrap_logger(structlog.PrintLogger(output)))
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="1", PROBES__DAILY_BUDGET="1450") as proxy:
        await proxy.until(lambda: _probes(proxy) == 9)
        assert proxy.metric("probe_budget_remaining", **VERTEX) == 1_441
        assert proxy.metric("probe_interval_seconds", **VERTEX) <= 1.1
        assert "probe_budget" not in output.getvalue()
        await asyncio.sleep(600)
        assert 9 + 9 <= _probes(proxy) <= 9 + 12
        assert proxy.metric("probe_budget_remaining", **VERTEX) == 1_450 - _probes(proxy)
        assert (await _entry(proxy))["budget_remaining"] == 1_450 - _probes(proxy)
        assert 59 <= proxy.metric("probe_interval_seconds", **VERTEX) <= 60.1
        assert output.getvalue().count("probe_budget") == 2, "once for each of the two upstreams"


async def test_what_probes_cost_is_not_told_apart_from_traffic() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        for kind in ("input", "output"):
            cost = proxy.metric("probe_tokens_total", **VERTEX, kind=kind)
            assert cost == proxy.metric("tokens_total", upstream="vertex", kind=kind) > 0
        cost = proxy.metric("probe_tokens_total", **VERTEX, kind="output")
        await proxy.ask()
        assert proxy.metric("probe_tokens_total", **VERTEX, kind="output") == cost
        assert proxy.metric("tokens_total", upstream="vertex", kind="output") > cost
        proxy.vertex.fault = Fault(status=503)
        before = _probes(proxy)
        await proxy.until(lambda: _probes(proxy) > before)
        assert proxy.metric("probe_tokens_total", **VERTEX, kind="output") == cost, "one that failed costs none"


async def test_settings_of_the_probes_do_nothing() -> None:
    probes = {"INTERVAL_SECONDS": "100", "TIMEOUT_SECONDS": "1", "FALL": "1", "RISE": "1", "DAILY_BUDGET": "5000"}
    async with rig(PROBES__TARGETS=TARGET, **{f"PROBES__{name}": value for name, value in probes.items()}) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        assert proxy.metric("probe_budget_remaining", **VERTEX) == 4_999
        proxy.vertex.fault = Fault(delay_before_headers=1.5)
        seconds = await proxy.until(circuit_is(proxy, "vertex", "open"), seconds=200)
        assert 50 < seconds < 150
        proxy.vertex.fault = None
        await proxy.until(lambda: proxy.seen(events.Probed)[-1].result.verdict == "up", seconds=300)
        vertex = [event.result for event in proxy.seen(events.Probed) if event.result.upstream == "vertex"]
        assert [result.up for result in vertex] == [True, False, True]


async def test_a_budget_is_said_to_near_its_end_once_and_on_no_later_day() -> None:
    output = io.StringIO()
    log = EventLog(structlog.wrap_logger(structlog.PrintLogger(output)), lambda: 0.0)
    for held_back in (False, True, True, False, True):
        log(events.ProbeSkipped("vertex", "codestral-2", NextProbe(40.0, 1_999, held_back)))
    assert output.getvalue().count("probe_budget") == 2


async def test_the_status_for_people_is_silent_on_probes_or_on_what_is_only_observed() -> None:
    async with rig(**PROBING, BREAKER__OBSERVE_ONLY="true") as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        said = list[str]()
        assert await show_status(proxy.app.admin_address, said.append, said.append, as_json=False) == 0
        (circuit,) = [line for line in said[0].splitlines() if line.startswith("circuit    vertex/")]
        assert "codestral-2: closed, 0 calls" in circuit
        assert circuit.endswith("observed only: would be open (consecutive_failures)")
        (probe,) = [line for line in said[0].splitlines() if line.startswith("probe      vertex/")]
        assert "codestral-2: up, ok in " in probe
        assert probe.endswith(" left of the day's budget")
