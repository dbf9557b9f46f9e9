"""The circuit under traffic: it trips on failures and on latency alone, nobody notices, and it closes again."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING

import pytest
import structlog

from proxy import events
from proxy.logs import EventLog
from proxy.simulator import Fault
from tests.rig import circuit_is, expected, fim, path, rig

if TYPE_CHECKING:
    from tests.rig import Answered, Rig

pytestmark = pytest.mark.virtual_time

CALLERS = 50


class Load:
    """Steady callers, each asking anew when answered; half of them for streams."""

    def __init__(self, proxy: Rig, callers: int = CALLERS, pause: float = 0.5) -> None:
        self._proxy = proxy
        self.answers: list[Answered] = []
        self._pause = pause
        self._stopped = False
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(callers)]

    async def _call(self, number: int) -> None:
        await asyncio.sleep(number * self._pause / CALLERS)
        while not self._stopped:
            self.answers.append(await self._proxy.ask(fim(stream=number % 2 == 0)))
            await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    @property
    def lost(self) -> list[Answered]:
        texts = {expected("vertex"), expected("claude")}
        return [answer for answer in self.answers if answer.status != 200 or answer.broken or answer.text not in texts]


@pytest.mark.parametrize(
    ("fault", "within"),
    [
        # Five failures in a row are noticed at once at this load.
        (Fault(status=503), 1.0),
        (Fault(reset_before_headers=True), 1.0),
        (Fault(garbage_body=True), 1.0),
        (None, 1.0),
        # A hang, once the first calls are given up.
        (Fault(delay_before_headers=60.0), 4.0),
        # Half of the calls of a whole window, which was healthy until now.
        (Fault(status=503, share=0.7), 10.0),
    ],
    ids=["503", "reset", "garbage", "refused", "hang", "70 % 503"],
)
async def test_a_request_is_lost_in_an_outage(fault: Fault | None, within: float) -> None:
    async with rig() as proxy:
        proxy.vertex.latency = proxy.claude.latency = 0.05
        load = Load(proxy)
        await asyncio.sleep(3)
        assert circuit_is(proxy, "vertex", "closed")()
        if fault is None:
            await proxy.vertex.refuse()
        proxy.vertex.fault = fault
        seconds = await proxy.until(circuit_is(proxy, "vertex", "open"))
        await asyncio.sleep(6)
        assert proxy.metric("active_upstream", model="codestral-2", upstream="claude") == 1
        proxy.vertex.fault = None
        if fault is None:
            await proxy.vertex.accept()
        await proxy.until(circuit_is(proxy, "vertex", "closed"))
        await asyncio.sleep(12)  # the ramp, and a little
        await load.stop()
        assert len(load.answers) > 1_000
        assert load.lost == []
        assert load.answers[-1].served_by == ("vertex", "primary")
        assert seconds < within
        there, back = proxy.seen(events.Switch)
        assert (there.from_upstream, there.to_upstream, there.reason) == ("vertex", "claude", "circuit_open")
        assert (back.from_upstream, back.to_upstream, back.reason) == ("claude", "vertex", "primary")


async def test_a_brown_out_without_errors_goes_unnoticed() -> None:
    """In 2023 latency went from one second to 240 without an error: the error rate alone would have missed it."""
    async with rig() as proxy:
        load = Load(proxy)
        await asyncio.sleep(2)
        proxy.vertex.latency = 1.8
        await proxy.until(circuit_is(proxy, "vertex", "open"), seconds=15)
        (moved,) = [event for event in proxy.seen(events.CircuitMoved) if event.upstream == "vertex"]
        assert moved.transition.reason == "slow_rate"
        assert moved.transition.failure_rate == 0
        await asyncio.sleep(10)
        proxy.vertex.latency = 0.0
        await proxy.until(circuit_is(proxy, "vertex", "closed"))
        await load.stop()
        assert load.lost == []


async def test_an_open_circuit_goes_on_hammering_vertex() -> None:
    async with rig(BREAKER__OPEN_SECONDS="30") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        assert circuit_is(proxy, "vertex", "open")()
        calls = proxy.vertex.calls
        for _ in range(20):
            answer = await proxy.ask()
            assert answer.served_by == ("claude", "circuit_open")
            assert "Proxy-Status" not in answer.headers
        assert proxy.vertex.calls == calls


async def test_a_retired_model_trips_the_circuits_of_the_others() -> None:
    async with rig() as proxy:
        for _ in range(10):
            answer = await proxy.ask(fim(model="codestral-1999"), url=path("codestral-1999"))
            assert answer.served_by[0] == "claude"
        assert circuit_is(proxy, "vertex", "open", model="codestral-1999")()
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        answer = await proxy.ask(fim(model="codestral-1999"), url=path("codestral-1999"))
        assert answer.served_by == ("claude", "circuit_open")


async def test_model_names_made_up_by_callers_fill_the_memory() -> None:
    async with rig(PROBES__TARGETS="p/us-central1/mistralai/codestral-2") as proxy:
        for number in range(100):
            await proxy.ask(url=path(f"made-up-{number}"))
        status = await proxy.status()
        assert len([entry for entry in status["circuits"] if entry["upstream"] == "vertex"]) == 65
        assert len(status["active"]) <= 65
        assert (await proxy.ask()).served_by == ("vertex", "primary")


async def test_a_late_result_of_a_model_beyond_the_limit_makes_a_time_series_of_its_own() -> None:
    async with rig() as proxy:
        for number in range(64):
            await proxy.ask(url=path(f"made-up-{number}"))
        proxy.vertex.models["beyond"] = frozenset({"codestral-2"})
        proxy.vertex.latency = 1.0
        late = asyncio.create_task(proxy.ask(url=path("beyond")))
        await asyncio.sleep(0.5)
        for _ in range(5):
            await proxy.ask(url=path("made-up-64"))
        assert circuit_is(proxy, "vertex", "open", model="other")()
        assert (await late).served_by == ("vertex", "primary")
        assert proxy.metric("breaker_stale_results_total", upstream="vertex", model="other") == 1


async def test_refusals_for_capacity_open_the_circuit() -> None:
    """429s come and go by the second; they spill the refused requests and say nothing of Vertex's health."""
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=429)
        for _ in range(30):
            assert (await proxy.ask()).served_by == ("claude", "throttled")
        assert circuit_is(proxy, "vertex", "closed")()
        assert proxy.vertex.calls < 10


async def test_a_failing_trial_costs_its_caller_the_answer() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        await proxy.until(circuit_is(proxy, "vertex", "half_open"))
        answers = [await proxy.ask() for _ in range(6)]
        assert {answer.text for answer in answers} == {expected("claude")}
        assert [answer.served_by[1] for answer in answers] == ["server_error"] * 5 + ["circuit_open"]
        assert circuit_is(proxy, "vertex", "open")()


async def test_the_whole_load_comes_back_to_vertex_at_once() -> None:
    async with rig(BREAKER__RAMP_SECONDS="20") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        proxy.vertex.fault = None
        await proxy.until(circuit_is(proxy, "vertex", "half_open"))
        for _ in range(5):
            assert (await proxy.ask()).served_by == ("vertex", "primary")
        assert circuit_is(proxy, "vertex", "closed")()
        await asyncio.sleep(5)
        assert proxy.metric("breaker_admitted_ratio", upstream="vertex", model="codestral-2") == pytest.approx(
            0.25, abs=0.02
        )
        answers = [await proxy.ask() for _ in range(100)]
        assert all(answer.status == 200 for answer in answers)
        served = [answer.served_by for answer in answers]
        assert served.count(("vertex", "primary")) == pytest.approx(25, abs=3)
        assert served.count(("claude", "circuit_open")) == 100 - served.count(("vertex", "primary"))


async def test_calls_that_hang_trip_nothing_until_they_are_given_up() -> None:
    async with rig(TIMEOUTS__FIRST_BYTE_SECONDS="10") as proxy:
        proxy.vertex.fault = Fault(delay_before_headers=60.0)
        calls = [asyncio.create_task(proxy.ask()) for _ in range(10)]
        await asyncio.sleep(0.1)
        seconds = await proxy.until(circuit_is(proxy, "vertex", "open"))
        assert 1.3 < seconds < 1.7
        assert {answer.served_by for answer in await asyncio.gather(*calls)} == {("claude", "first_byte_timeout")}


async def test_a_third_refused_costs_every_caller_a_first_try_or_opens_the_circuit() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=429, share=0.3)
        load = Load(proxy, pause=1.0)
        await asyncio.sleep(60)
        circuit = {"upstream": "vertex", "model": "codestral-2"}
        spilled = proxy.metric("throttle_spills_total", **circuit) / len(load.answers)
        assert spilled == pytest.approx(0.3, abs=0.06)
        assert proxy.metric("throttle_spill_ratio", **circuit) == pytest.approx(0.3, abs=0.1)
        assert proxy.metric("throttle_accept_ratio", **circuit) == pytest.approx(0.7, abs=0.1)
        refusals = proxy.metric("throttle_refusals_total", **circuit)
        assert refusals == pytest.approx(0.3 * proxy.vertex.calls, rel=0.2)
        assert circuit_is(proxy, "vertex", "closed")()
        assert not proxy.seen(events.Switch)
        proxy.vertex.fault = None
        await asyncio.sleep(11)
        assert proxy.metric("throttle_spill_ratio", **circuit) == 0
        before = len(load.answers)
        await asyncio.sleep(5)
        await load.stop()
        assert {answer.served_by for answer in load.answers[before:]} == {("vertex", "primary")}
        assert load.lost == []
        began, ended = [event for event in proxy.seen(events.ThrottleChanged) if event.upstream == "vertex"]
        assert (began.throttled, ended.throttled) == (True, False)


async def test_observing_refuses_a_call_or_moves_the_traffic() -> None:
    async with rig(BREAKER__OBSERVE_ONLY="true") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(30):
            assert (await proxy.ask()).served_by == ("claude", "server_error")
        assert proxy.vertex.calls == 30
        (trip,) = proxy.seen(events.WouldTrip)
        assert (trip.upstream, trip.transition.reason) == ("vertex", "consecutive_failures")
        circuit = {"upstream": "vertex", "model": "codestral-2"}
        assert proxy.metric("breaker_would_trip_total", **circuit, reason="consecutive_failures") == 1
        assert circuit_is(proxy, "vertex", "closed")()
        assert not proxy.seen(events.Switch)
        assert not proxy.seen(events.CircuitMoved)
        (entry,) = [entry for entry in (await proxy.status())["circuits"] if entry["upstream"] == "vertex"]
        assert (entry["state"], entry["would_be"]) == ("closed", "open")


async def test_a_switch_is_told_without_its_evidence() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        (switch,) = (await proxy.status())["switches"]
        evidence = switch["evidence"]
        assert (evidence["upstream"], evidence["reason"]) == ("vertex", "consecutive_failures")
        assert (evidence["calls"], evidence["failed"], evidence["slow"], evidence["consecutive_failures"]) == (
            5,
            5,
            0,
            5,
        )
        assert evidence["thresholds"]["consecutive_failures"] == 5
        assert evidence["thresholds"]["failure_rate"] == 0.5


async def test_a_change_is_logged_without_what_it_rested_on() -> None:
    output = io.StringIO()
    to_json = [structlog.processors.JSONRenderer()]
    log = EventLog(structlog.wrap_logger(structlog.PrintLogger(output), processors=to_json), lambda: 0.0)
    async with rig(BREAKER__OPEN_SECONDS="5") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        (moved,) = proxy.seen(events.CircuitMoved)
    log(moved)
    assert moved.transition.open_until is not None
    open_seconds = moved.transition.open_until - moved.transition.at
    assert 4.5 <= open_seconds <= 5.0, "the jitter takes a tenth at most"
    assert json.loads(output.getvalue()) == {
        "event": "circuit",
        "upstream": "vertex",
        "model": "codestral-2",
        "from_state": "closed",
        "to_state": "open",
        "reason": "consecutive_failures",
        "calls": 5,
        "failed": 5,
        "slow": 0,
        "failure_rate": 1.0,
        "slow_rate": 0.0,
        "consecutive_failures": 5,
        "failed_probes": 0,
        "thresholds": {
            "window_type": "time",
            "window_size": 10,
            "minimum_calls": 10,
            "failure_rate": 0.5,
            "slow_rate": 0.5,
            "slow_call_seconds": 1.5,
            "consecutive_failures": 5,
            "trial_calls": 5,
        },
        "open_seconds": round(open_seconds, 3),
        "attempt": 1,
    }
