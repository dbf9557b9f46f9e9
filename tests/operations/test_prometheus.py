"""End to end: a real Prometheus watches a proxy through an outage, and what grafana/ asks of it is answered, and right.

One proxy and one Prometheus for the whole story, in real time; each step waits for what it brings about. The alerts are
those of grafana/ with their times shortened (prometheus_server.py).
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.operations.prometheus_server import PROMETHEUS, Server, prometheus
from tests.operations.queries import DASHBOARDS, alerts, dashboard, every_query, filled_in, recordings
from tests.rig import TARGET, Rig, load, rig

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")

WHOLE_STORY = "5m"
SETTINGS = {
    "PROBES__TARGETS": TARGET,
    "PROBES__INTERVAL_SECONDS": "1",
    "BREAKER__OPEN_SECONDS": "1",
    "BREAKER__MAX_OPEN_SECONDS": "2",
    "BREAKER__RAMP_SECONDS": "1",
}
DOWN = Fault(status=503)

LARGEST = {"percentunit": 1 + 1e-9, "percent": 100, "reqps": 100, "s": 3_600}
"""What a value of a unit can be here at most: shares of a whole, seconds, requests of one small load."""

# In the order of the story.
VERTEX_DOWN = {"PrimaryCircuitOpen"}
BOTH_DOWN = {"NoUpstreamAvailable", "RequestsLost", "PrimaryCircuitOpen", "BackupNotReady"}
BUSY = {"ThrottledByVertex"}
PINNED = {"OverrideLeftOn"}


async def _the_proxy_is_well(proxy: Rig, server: Server) -> None:
    await server.until('sum(completion_proxy_requests_total{upstream="vertex"})', lambda value: value > 40)
    await server.until("job:completion_proxy_requests_lost:ratio_rate5m", lambda value: not math.isnan(value))
    assert await server.firing() == {}
    known = {
        "sum(completion_proxy_requests_lost_total)": 0,
        "job:completion_proxy_requests_lost:ratio_rate5m": 0,
        "job:completion_proxy_failovers:ratio_rate5m": 0,
        'job_upstream:completion_proxy_upstream_failures:ratio_rate5m{upstream="vertex"}': 0,
        'job_model_upstream:completion_proxy_active_upstream:avg{upstream="vertex"}': 1,
        'job_model_upstream:completion_proxy_active_upstream:avg{upstream="claude"}': 0,
        'completion_proxy_breaker_failure_ratio{upstream="vertex"}': 0,
        "completion_proxy_available_upstreams": 2,
        "sum(completion_proxy_switches_total)": 0,
        "completion_proxy_breaker_slow_call_seconds": 1.5,
    }
    assert {text: await server.value(text) for text in known} == known
    rate = await server.value('job_upstream:completion_proxy_requests:rate5m{upstream="vertex"}')
    assert 1 < rate < 30
    slowest = 'job_upstream:completion_proxy_upstream_time_to_first_byte_seconds:p95_5m{upstream="vertex"}'
    assert 0 < await server.value(slowest) < 1.5


async def _vertex_is_down(proxy: Rig, server: Server) -> None:
    proxy.vertex.fault = DOWN
    (alert,) = (await server.until_firing(*VERTEX_DOWN)).values()
    assert alert["labels"] == {
        "alertname": "PrimaryCircuitOpen", "severity": "ticket", "job": "completion-proxy", "model": "codestral-2",
    }  # fmt: skip
    assert "On 1 replica(s) of completion-proxy" in alert["annotations"]["description"]
    known = {
        "sum(completion_proxy_requests_lost_total)": 0,
        'job_model_upstream:completion_proxy_active_upstream:avg{upstream="vertex"}': 0,
        'job_model_upstream:completion_proxy_active_upstream:avg{upstream="claude"}': 1,
        "completion_proxy_available_upstreams": 1,
        'sum(completion_proxy_switches_total{to_upstream="claude"})': 1,
        "sum(completion_proxy_switches_total)": 1,
    }
    assert {text: await server.value(text) for text in known} == known
    await server.until(
        'job_upstream:completion_proxy_upstream_failures:ratio_rate5m{upstream="vertex"}', lambda x: x > 0.5
    )
    assert await server.value("sum(completion_proxy_failovers_total)") >= 5
    (switch,) = proxy.seen(events.Switch)
    for file in DASHBOARDS:
        (annotation,) = dashboard(file)["annotations"]["list"]
        (marked,) = await server.query(filled_in(annotation["expr"], WHOLE_STORY))
        assert marked.labels == {"model": "codestral-2", "to_upstream": "claude"}
        assert marked.value == pytest.approx(switch.at * 1000, abs=1)


async def _both_are_down(proxy: Rig, server: Server) -> None:
    proxy.claude.fault = DOWN
    firing = await server.until_firing(*BOTH_DOWN)
    for alert in firing.values():
        assert "<no value>" not in str(alert["annotations"])
        assert "%!" not in str(alert["annotations"])
    assert {name: alert["labels"]["severity"] for name, alert in firing.items()} == {
        "NoUpstreamAvailable": "page", "RequestsLost": "page",
        "PrimaryCircuitOpen": "ticket", "BackupNotReady": "ticket",
    }  # fmt: skip
    assert 0.01 < await server.value("job:completion_proxy_requests_lost:ratio_rate5m") <= 1.05
    assert await server.value("completion_proxy_available_upstreams") == 0


async def _both_are_back(proxy: Rig, server: Server) -> None:
    proxy.vertex.fault = proxy.claude.fault = None
    await server.until_firing()
    await server.until('completion_proxy_active_upstream{upstream="vertex"}', lambda value: value == 1)
    assert await server.value("sum(completion_proxy_switches_total)") == 2
    await server.until("completion_proxy_available_upstreams", lambda value: value == 2)


async def _vertex_is_busy(proxy: Rig, server: Server) -> None:
    proxy.vertex.fault = Fault(status=429, share=0.5)
    await server.until_firing(*BUSY)
    assert await server.value('completion_proxy_breaker_state{upstream="vertex", state="closed"}') == 1
    proxy.vertex.fault = None


async def _somebody_forces_claude(override: Path, server: Server) -> None:
    await asyncio.to_thread(override.write_text, "claude")
    await server.until_firing(*PINNED)
    assert await server.value('completion_proxy_override_mode{mode="claude"}') == 1
    assert await server.value("completion_proxy_override_percent") == 100
    await asyncio.to_thread(override.unlink)
    await server.until_firing()


async def _everything_is_answered(proxy: Rig, server: Server) -> None:
    unanswered = []
    for query in every_query():
        samples = await server.query(filled_in(query.text, WHOLE_STORY))
        if not samples or all(math.isnan(sample.value) for sample in samples):
            unanswered.append(f"{query.place}: {query.text}")
        # Floats that are added up go a little beyond.
        impossible = [each.value for each in samples if not -1e-9 <= each.value <= LARGEST.get(query.unit, math.inf)]
        assert not [value for value in impossible if not math.isnan(value)], query
    unanswered += [name for name in recordings() if not await server.query(f"{name} == {name}")]
    assert not unanswered
    assert {rule["name"]: rule["health"] for rule in await server.rules()} == dict.fromkeys(
        [*alerts(), *recordings()], "ok"
    )


async def _it_adds_up(proxy: Rig, server: Server) -> None:
    """Without load: what Prometheus has is what the proxy counted. The probes go on meanwhile."""

    def counted() -> dict[str, float]:
        sums: dict[str, float] = {}
        for family in proxy.app.metrics.registry.collect():
            for sample in family.samples:
                if sample.name.startswith("completion_proxy_") and sample.name.endswith(("_total", "_count")):
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    assert len(counted()) > 20
    for name in counted():
        await server.until(f"sum({name})", lambda value, name=name: value == pytest.approx(counted()[name]))  # type: ignore[misc]


async def _panel(server: Server, place: str) -> list[float]:
    """What the panel's first query gives."""
    query: Any = next(query for query in every_query() if query.place == f"overview: {place}")
    return [sample.value for sample in await server.query(filled_in(query.text, WHOLE_STORY))]


async def _the_overview_tells_the_story(proxy: Rig, server: Server) -> None:
    assert await _panel(server, "Alerts") == [0]
    assert await _panel(server, "Models that nobody can serve") == [0]
    assert await _panel(server, "Who serves each model") == [1]
    assert await _panel(server, "Ends in") == [0]
    (lost,) = await _panel(server, "Lost")
    requests = sum(event.code != 499 for event in proxy.seen(events.RequestEnded))
    assert lost == pytest.approx(len(proxy.seen(events.RequestLost)) / requests, rel=0.2)
    (served_by_claude,) = await _panel(server, "Served by Claude")
    by_claude = sum(event.upstream == "claude" for event in proxy.seen(events.RequestEnded))
    assert served_by_claude == pytest.approx(by_claude / requests, rel=0.2)


async def test_an_outage_is_told_wrongly_by_a_query_a_rule_or_an_alert(tmp_path: Path) -> None:
    override = tmp_path / "override"
    async with rig(**SETTINGS, OVERRIDE_FILE=str(override)) as proxy:
        target = urlsplit(proxy.app.admin_address).netloc
        async with prometheus(tmp_path, target) as server:
            # What happens before the first scrape no rate ever sees.
            await server.until("up", lambda value: value == 1)
            async with load(proxy):
                await _the_proxy_is_well(proxy, server)
                await _vertex_is_down(proxy, server)
                await _both_are_down(proxy, server)
                await _both_are_back(proxy, server)
                await _vertex_is_busy(proxy, server)
                await _somebody_forces_claude(override, server)
                await _everything_is_answered(proxy, server)
            await _it_adds_up(proxy, server)
            await _the_overview_tells_the_story(proxy, server)
            fired = await server.query(f'max_over_time(ALERTS{{alertstate="firing"}}[{WHOLE_STORY}])')
            assert {each.labels["alertname"] for each in fired} == VERTEX_DOWN | BOTH_DOWN | BUSY | PINNED
