"""What a probe asks, costs and tells."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.rig import TARGET, circuit_is, rig

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.virtual_time


HAIKU = "claude-haiku-5-5"

PROBING = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "10"}


async def test_a_body_that_claude_refuses_is_taken_for_one_callers_mistake() -> None:
    async with rig(**PROBING) as proxy:
        proxy.claude.fault = Fault(status=400)
        await proxy.until(circuit_is(proxy, "claude", "open", model=HAIKU))
        probed = [event for event in proxy.seen(events.Probed) if event.result.upstream == "claude"]
        assert probed[-1].result.outcome.kind == "misconfigured"


async def test_the_probe_of_a_version_names_it_in_the_body() -> None:
    async with rig(PROBES__TARGETS="p/us-central1/mistralai/codestral@2405", PROBES__INTERVAL_SECONDS="10") as proxy:
        await proxy.vertex.received(1)
        assert proxy.vertex.requests[0].json["model"] == "codestral"


async def test_a_probe_keeps_its_place_or_takes_none() -> None:
    async with rig(**PROBING, CLAUDE__MAX_CONCURRENCY="1", OVERRIDE="claude") as proxy:
        proxy.claude.latency = 0.5
        await proxy.claude.received(1)
        await asyncio.gather(*(proxy.ask() for _ in range(3)))
        assert proxy.claude.max_in_flight == 1
        assert {probe["up"] for probe in (await proxy.status())["probes"]} <= {True, None}
        await asyncio.sleep(60)
        assert (await proxy.ask()).served_by == ("claude", "override")


async def test_a_probe_costs_nothing_and_says_nothing() -> None:
    async with rig(**PROBING) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) == 2)
        for upstream in ("vertex", "claude"):
            assert proxy.metric("tokens_total", upstream=upstream, kind="input") > 0
        for fault, detail in (
            (Fault(status=503), "503 UNAVAILABLE"), (Fault(status=400), "400"), (None, ""),
        ):  # fmt: skip
            proxy.vertex.fault = fault
            before = len(proxy.seen(events.Probed))
            await proxy.until(
                lambda before=before: any(e.result.upstream == "vertex" for e in proxy.seen(events.Probed)[before:])  # type: ignore[misc]
            )
            last = [event for event in proxy.seen(events.Probed) if event.result.upstream == "vertex"][-1]
            assert last.detail == detail
