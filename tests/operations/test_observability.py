"""What the admin listener shows: the metrics of the interface, a status that agrees with them, a switch told once."""

from __future__ import annotations

import asyncio
import json
import math
import re
from datetime import UTC, datetime

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from proxy import events
from proxy.simulator import Fault
from tests.rig import TARGET, circuit_is, fim, rig

pytestmark = pytest.mark.virtual_time

# The interface: names and labels are what dashboards and alerts are made of.
INTERFACE = {
    "requests_total": {"upstream", "code"},
    "request_duration_seconds": {"upstream"},
    "requests_in_flight": set(),
    "upstream_attempts_total": {"upstream", "outcome"},
    "upstream_failures_total": {"upstream", "reason"},
    "upstream_time_to_first_byte_seconds": {"upstream"},
    "breaker_state": {"upstream", "model", "state"},
    "breaker_transitions_total": {"upstream", "model", "from_state", "to_state", "reason"},
    "breaker_failure_ratio": {"upstream", "model"},
    "breaker_slow_ratio": {"upstream", "model"},
    "breaker_stale_results_total": {"upstream", "model"},
    "breaker_admitted_ratio": {"upstream", "model"},
    "breaker_would_trip_total": {"upstream", "model", "reason"},
    "throttle_spill_ratio": {"upstream", "model"},
    "throttle_accept_ratio": {"upstream", "model"},
    "throttle_refusals_total": {"upstream", "model"},
    "throttle_spills_total": {"upstream", "model"},
    "switches_total": {"model", "from_upstream", "to_upstream", "reason"},
    "switch_last_timestamp_seconds": {"model", "to_upstream"},
    "active_upstream": {"model", "upstream"},
    "failovers_total": {"reason"},
    "requests_lost_total": {"reason"},
    "probe_success": {"upstream", "model"},
    "probes_total": {"upstream", "model", "result"},
    "probe_duration_seconds": {"upstream", "model"},
    "probe_last_run_timestamp_seconds": {"upstream", "model"},
    "probes_skipped_total": {"upstream", "model"},
    "probe_interval_seconds": {"upstream", "model"},
    "probe_budget_remaining": {"upstream", "model"},
    "probe_tokens_total": {"upstream", "model", "kind"},
    "available_upstreams": {"model"},
    "breaker_failure_rate_threshold": set(),
    "breaker_slow_rate_threshold": set(),
    "breaker_slow_call_seconds": set(),
    "override_mode": {"mode"},
    "override_expires_timestamp_seconds": set(),
    "override_percent": set(),
    "override_changes_total": {"source", "change"},
    "override_flag_failures_total": {"reason"},
    "journal_write_failures_total": set(),
    "config_last_reload_successful": set(),
    "config_last_reload_timestamp_seconds": set(),
    "tokens_total": {"upstream", "kind"},
    "event_loop_lag_seconds_total": set(),
    "build_info": {"version"},
}
PROBING = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "10"}


async def test_a_metric_of_the_interface_is_missing_before_its_first_event() -> None:
    """Prometheus' increase() needs a zero to start from: the first failure counts only if its series was there."""
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        _, text = await proxy.admin("/metrics")
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[re.sub(r"_(bucket|count|sum|created)$", "", sample.name)] = set(sample.labels) - {"le"}
        assert {name.removeprefix("completion_proxy_"): labels for name, labels in found.items()} == INTERFACE


async def test_openmetrics_is_not_spoken_when_it_is_asked_for() -> None:
    async with rig() as proxy:
        async with proxy.session.get(
            proxy.app.admin_address + "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        ) as response:
            assert response.headers["Content-Type"].startswith("application/openmetrics-text")
            assert list(parse_openmetrics(await response.text()))  # type: ignore[no-untyped-call]
        _, text = await proxy.admin("/metrics")
        assert "python_gc" not in text


async def test_a_switch_is_told_differently_in_the_metric_the_status_and_the_event() -> None:
    async with rig(PROBES__TARGETS=TARGET) as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(6):
            await proxy.ask()
        (switch,) = proxy.seen(events.Switch)
        labels = {"model": "codestral-2", "from_upstream": "vertex", "to_upstream": "claude", "reason": "circuit_open"}
        assert proxy.metric("switches_total", **labels) == 1
        assert proxy.metric("switch_last_timestamp_seconds", model="codestral-2", to_upstream="claude") == switch.at
        status = await proxy.status()
        (entry,) = status["switches"]
        assert (entry["from"], entry["to"], entry["reason"]) == ("vertex", "claude", "circuit_open")
        (active,) = status["active"]
        assert (active["model"], active["upstream"], active["reason"]) == ("codestral-2", "claude", "circuit_open")
        assert active["since"] == entry["at"]
        (circuit,) = [entry for entry in status["circuits"] if entry["upstream"] == "vertex"]
        assert (circuit["state"], circuit["reason"]) == ("open", "consecutive_failures")
        assert circuit["open_until"] > circuit["since"]
        moved = {"from_state": "closed", "to_state": "open", "reason": "consecutive_failures"}
        assert proxy.metric("breaker_transitions_total", upstream="vertex", model="codestral-2", **moved) == 1


async def test_requests_attempts_and_tokens_are_not_counted() -> None:
    async with rig() as proxy:
        for stream in (False, True):
            await proxy.ask(fim(stream=stream))
        assert proxy.metric("requests_total", upstream="vertex", code="200") == 2
        assert proxy.metric("upstream_attempts_total", upstream="vertex", outcome="ok") == 2
        assert proxy.metric("request_duration_seconds_count", upstream="vertex") == 2
        assert proxy.metric("upstream_time_to_first_byte_seconds_count", upstream="vertex") == 2
        tokens = proxy.metric("tokens_total", upstream="vertex", kind="output")
        assert tokens > 0
        proxy.vertex.fault = Fault(status=503)
        for stream in (False, True):
            await proxy.ask(fim(stream=stream))
        assert proxy.metric("failovers_total", reason="server_error") == 2
        assert proxy.metric("upstream_attempts_total", upstream="vertex", outcome="failed") == 2
        assert proxy.metric("tokens_total", upstream="claude", kind="input") > 0
        assert proxy.metric("tokens_total", upstream="vertex", kind="output") == tokens
        assert proxy.metric("requests_in_flight") == 0


async def test_a_late_result_of_an_earlier_state_is_counted_as_news() -> None:
    async with rig() as proxy:
        proxy.vertex.latency = 1.0
        late = asyncio.create_task(proxy.ask())
        await proxy.vertex.received(1)
        proxy.vertex.latency = 0.0
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        assert circuit_is(proxy, "vertex", "open")()
        assert (await late).served_by == ("vertex", "primary")
        assert proxy.metric("breaker_stale_results_total", upstream="vertex", model="codestral-2") == 1
        assert circuit_is(proxy, "vertex", "open")()


async def test_the_process_is_called_dead_because_an_upstream_is() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.vertex.refuse()
        await proxy.claude.refuse()
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        assert (await proxy.admin("/livez"))[0] == 200
        assert (await proxy.admin("/readyz"))[0] == 200
        assert (await proxy.admin("/nothing"))[0] == 404


async def test_a_status_that_is_not_of_the_interface() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        _, text = await proxy.admin("/status.json")
        status = json.loads(text)
        assert set(status) == {
            "version", "started_at", "override", "circuits", "probes", "active", "switches", "thresholds",
            "problems",
        }  # fmt: skip
        assert set(status["override"]) == {"mode", "source", "reason", "actor", "expires_at", "percent"}
        assert set(status["circuits"][0]) == {
            "upstream", "model", "state", "reason", "since", "calls", "failure_rate", "slow_rate", "open_until",
            "admitted_ratio", "spill_ratio", "would_be", "tripped_on", "in_use",
        }  # fmt: skip
        assert set(status["probes"][0]) == {
            "upstream", "model", "up", "last_result", "last_at", "duration_seconds", "interval_seconds",
            "budget_remaining", "skipped", "last_failure",
        }  # fmt: skip
        assert set(status["active"][0]) == {"model", "upstream", "reason", "since", "available"}


async def test_a_series_is_missing_until_its_first_event() -> None:
    async with rig(**PROBING) as proxy:
        for name in ("probe_success", "probe_interval_seconds", "probe_budget_remaining"):
            assert math.isnan(proxy.metric(name, upstream="vertex", model="codestral-2"))
        assert proxy.metric("probes_skipped_total", upstream="vertex", model="codestral-2") == 0
        for kind in ("input", "output"):
            assert proxy.metric("probe_tokens_total", upstream="vertex", model="codestral-2", kind=kind) == 0
        for upstream in ("vertex", "claude"):
            assert proxy.metric("requests_total", upstream=upstream, code="200") == 0
            assert proxy.metric("upstream_failures_total", upstream=upstream, reason="stall") == 0
            assert proxy.metric("tokens_total", upstream=upstream, kind="output") >= 0
        assert proxy.metric("requests_total", upstream="none", code="503") == 0
        assert proxy.metric("probes_total", upstream="vertex", model="codestral-2", result="failed") == 0
        labels = {"model": "codestral-2", "from_upstream": "claude", "to_upstream": "vertex", "reason": "primary"}
        assert proxy.metric("switches_total", **labels) == 0
        assert proxy.metric("build_info", version=(await proxy.status())["version"]) == 1


async def test_ratios_tokens_and_states_are_mixed_up() -> None:
    async with rig(BREAKER__CONSECUTIVE_FAILURES="50") as proxy:
        answer = await proxy.ask()
        usage = answer.json["usage"]
        assert usage["prompt_tokens"] != usage["completion_tokens"]
        for kind, name in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            assert proxy.metric("tokens_total", upstream="vertex", kind=kind) == usage[name]
        proxy.vertex.latency = 1.6
        await asyncio.gather(*(proxy.ask() for _ in range(2)))
        proxy.vertex.latency = 0.0
        proxy.vertex.fault = Fault(status=503)
        await proxy.ask()
        assert proxy.metric("breaker_failure_ratio", upstream="vertex", model="codestral-2") == 1 / 4
        assert proxy.metric("breaker_slow_ratio", upstream="vertex", model="codestral-2") == 2 / 4
        (vertex,) = [entry for entry in (await proxy.status())["circuits"] if entry["upstream"] == "vertex"]
        assert (vertex["calls"], vertex["failure_rate"], vertex["slow_rate"]) == (4, 0.25, 0.5)


async def test_what_was_so_is_still_said() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        proxy.vertex.latency = 0.5
        proxy.vertex.fault = Fault(status=503)
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        assert proxy.metric("probe_success", upstream="vertex", model="codestral-2") == 0
        states = {
            state: proxy.metric("breaker_state", upstream="vertex", model="codestral-2", state=state)
            for state in ("closed", "open", "half_open")
        }
        assert states == {"closed": 0, "open": 1, "half_open": 0}
        active = {
            name: proxy.metric("active_upstream", model="codestral-2", upstream=name) for name in ("vertex", "claude")
        }
        assert active == {"vertex": 0, "claude": 1}
        status = await proxy.status()
        year = datetime.now(UTC).strftime("%Y-%m-%d")
        assert all(entry["since"].startswith(year) for entry in status["circuits"])
        (probe,) = [entry for entry in status["probes"] if entry["upstream"] == "vertex"]
        assert probe["up"] is False
        assert probe["duration_seconds"] == proxy.metric(
            "probe_duration_seconds", upstream="vertex", model="codestral-2"
        )
