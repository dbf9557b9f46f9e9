"""A simulated provider is handled from outside: over HTTP, and by `simulate`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientConnectionError, ClientSession

from proxy.simulator import (
    FOREVER,
    Fault,
    FaultError,
    SimulatedClaude,
    SimulatedVertex,
    simulate,
)

from .test_simulator_faults import ANSWER, BODY, RAW, text, whole


@pytest.fixture
async def vertex() -> AsyncIterator[SimulatedVertex]:
    async with SimulatedVertex() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as client:
        yield client


async def test_control_sets_shows_and_clears_a_fault(session: ClientSession, vertex: SimulatedVertex) -> None:
    control = vertex.url + "/_fault"
    async with session.put(control, data=b'{"preset": "unavailable", "times": 9}') as response:
        assert (await response.json())["fault"] == {"error": "unavailable", "times": 9}
    assert (await whole(session, vertex))[0] == 503
    async with session.put(control, json={"delay_before_headers": "forever", "share": 0.5}) as response:
        assert response.status == 200
    assert vertex.fault == Fault(delay_before_headers=FOREVER, share=0.5)
    async with session.get(control) as response:
        state = await response.json()
    assert state["fault"] == {"delay_before_headers": "forever", "share": 0.5}
    assert {"refused", "slow", "unavailable", "throttled", "overloaded"} <= set(state["presets"])
    async with session.delete(control) as response:
        assert (await response.json())["fault"] is None
    assert await text(session, vertex) == ANSWER
    assert vertex.calls == 2


@pytest.mark.parametrize("document", [*sorted(SimulatedVertex().presets), *sorted(SimulatedClaude().presets)])
async def test_every_preset_can_be_named(session: ClientSession, document: str) -> None:
    for provider in (SimulatedVertex(), SimulatedClaude()):
        if document in provider.presets:
            provider.fault = provider.preset(document)
            assert Fault.from_json(provider.fault.to_json()) == provider.fault


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "object"),
        (b'{"preset": "no such"}', "unavailable"),
        (b'{"preset": 7}', "preset"),
        (b'{"state": 503}', "'state' is no field"),
        (b'{"status": "503"}', "status takes"),
        (b'{"status": 99}', "status takes"),
        (b'{"status": true}', "status takes"),
        (b'{"error": "overheated"}', "overheated"),
        (b'{"delay_before_headers": -1}', "delay_before_headers takes"),
        (b'{"delay_before_headers": NaN}', "delay_before_headers takes"),
        (b'{"delay_before_headers": "long"}', "forever"),
        (b'{"cut_after_chunks": 1.5}', "cut_after_chunks takes"),
        (b'{"cut_after_chunks": -1}', "cut_after_chunks takes"),
        (b'{"truncated_body": 1}', "truncated_body takes"),
        (b'{"share": 0}', "share takes"),
        (b'{"share": "half"}', "share takes"),
        (b'{"times": 0}', "times takes"),
        (b'{"headers": {"x": 1}}', "headers takes"),
        (b'{"body": 7}', "body takes"),
        (b'{"redirect": 7}', "redirect takes"),
        (b'{"preset": "refused"}', "seconds"),
        (b'{"preset": "refused", "seconds": 0}', "seconds"),
        (b'{"preset": "refused", "seconds": 1, "status": 503}', "seconds"),
    ],
)
async def test_control_explains_what_is_wrong_with_a_fault(
    session: ClientSession, vertex: SimulatedVertex, document: bytes, said: str
) -> None:
    async with session.put(vertex.url + "/_fault", data=document) as response:
        assert response.status == 400
        assert said in (await response.json())["error"]
    assert vertex.fault is None
    assert not vertex.refusing


async def test_control_refuses_for_a_time_only(session: ClientSession, vertex: SimulatedVertex) -> None:
    async with session.put(vertex.url + "/_fault", json={"preset": "refused", "seconds": 0.03}) as response:
        assert (response.status, (await response.json())["refused_for_seconds"]) == (200, 0.03)
    with pytest.raises(ClientConnectionError):
        await text(session, vertex)
    async with asyncio.timeout(1):
        await vertex.accepting()
    assert await text(session, vertex) == ANSWER


async def test_control_shows_requests_without_their_secrets(session: ClientSession, vertex: SimulatedVertex) -> None:
    for _ in range(12):
        await text(session, vertex)
    async with session.get(vertex.url + "/_requests") as response:
        shown = await response.json()
    assert (shown["count"], len(shown["last"]), shown["in_flight"]) == (12, 10, 0)
    assert ["Authorization", "***"] in shown["last"][-1]["headers"]
    assert shown["last"][-1]["body"] == BODY
    assert "Bearer" not in json.dumps(shown)


async def test_control_knows_its_paths(session: ClientSession, vertex: SimulatedVertex) -> None:
    async with session.get(vertex.url + "/_other") as response:
        assert response.status == 404
    async with session.post(vertex.url + "/_fault") as response:
        assert response.status == 405


def test_a_fault_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(FaultError, match="share"):
        Fault(share=1.5)
    with pytest.raises(FaultError, match="delay_between_chunks"):
        Fault(delay_between_chunks=-0.1)
    vertex = SimulatedVertex()
    with pytest.raises(FaultError, match="billing"):
        vertex.fault = Fault(error="billing")
    with pytest.raises(FaultError, match="unavailable"):
        vertex.preset("nothing")


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
async def test_simulate_says_how_to_use_it_and_stops_on_a_signal(
    session: ClientSession, interruption: signal.Signals
) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(simulate(0, 0, said.put_nowait))
    guide = await said.get()
    settings = dict(line.split()[1].split("=", 1) for line in guide.splitlines() if "export" in line)
    url = settings["COMPLETION_PROXY_VERTEX__BASE_URL"]
    assert settings["COMPLETION_PROXY_VERTEX__TOKEN"] == "simulated"
    headers = {"Authorization": "Bearer simulated", "Content-Type": "application/json"}
    async with session.post(url + RAW, json=BODY, headers=headers) as response:
        assert response.status == 200
    async with session.get(settings["COMPLETION_PROXY_CLAUDE__BASE_URL"] + "/_fault") as response:
        assert (await response.json())["provider"] == "claude"
    os.kill(os.getpid(), interruption)
    async with asyncio.timeout(2):
        await running
    with pytest.raises(ClientConnectionError):
        await session.get(url + "/_fault")


async def test_simulate_stops_when_it_is_cancelled(session: ClientSession) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(simulate(0, 0, said.put_nowait))
    await said.get()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_the_simulator_is_independent_of_what_it_checks() -> None:
    program = "import proxy.simulator, sys; print(*(m for m in sys.modules if m.split('.')[0] in ('proxy', 'health')))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert {name for name in shown.split() if not name.startswith("proxy.simulator")} == {"proxy"}
