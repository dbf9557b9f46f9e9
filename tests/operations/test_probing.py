"""Background probes: a dead provider is noticed with no traffic at all, and only traffic brings it back."""

from __future__ import annotations

import asyncio

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.rig import TARGET, circuit_is, expected, rig

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
