"""How the time of a request is shared, and what an end is blamed on."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.rig import chat, circuit_is, expected, rig

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.virtual_time


HAIKU = "claude-haiku-5-5"


async def _open_claude_alone(proxy: Any) -> None:
    """Claude's circuit open at two failures in a row, Vertex's closed."""
    await proxy.claude.refuse()
    for fault in (Fault(status=503), None, Fault(status=503)):
        proxy.vertex.fault = fault
        await proxy.ask()
    assert circuit_is(proxy, "claude", "open", model=HAIKU)()
    assert circuit_is(proxy, "vertex", "closed")()
    await proxy.claude.accept()


OPEN_SOON = {"BREAKER__CONSECUTIVE_FAILURES": "2", "BREAKER__OPEN_SECONDS": "600", "BREAKER__MAX_OPEN_SECONDS": "600"}


def _claude() -> Any:
    from proxy.override import Override, OverrideMode, OverrideSource

    return Override(OverrideMode.CLAUDE, OverrideSource.FILE, reason="INC-1")


async def test_a_last_resort_hides_why_it_was_asked() -> None:
    async with rig(**OPEN_SOON) as proxy:
        await _open_claude_alone(proxy)
        proxy.vertex.fault = Fault(status=500)
        assert (await proxy.ask()).served_by == ("claude", "server_error")


async def test_time_that_is_used_up_is_held_against_claude() -> None:
    async with rig(TIMEOUTS__TOTAL_SECONDS="2", TIMEOUTS__FIRST_BYTE_SECONDS="1.995") as proxy:
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        answer = await proxy.ask()
        assert answer.status == 504
        assert answer.seconds == pytest.approx(2, abs=0.1)
        assert not [attempt for attempt in proxy.seen(events.AttemptEnded) if attempt.upstream == "claude"]


async def test_a_caller_who_leaves_early_is_held_against_the_upstream() -> None:
    async with rig() as proxy:
        proxy.vertex.latency = 1.0
        task = asyncio.create_task(proxy.ask())
        await proxy.vertex.received(1)
        task.cancel()
        await proxy.until(lambda: bool(proxy.seen(events.AttemptEnded)), seconds=1)
        (attempt,) = proxy.seen(events.AttemptEnded)
        assert (attempt.outcome.kind, attempt.outcome.reason) == ("neutral", "client_left")


async def test_a_hanging_vertex_leaves_no_time_for_a_claude_that_is_back() -> None:
    async with rig(**OPEN_SOON) as proxy:
        await _open_claude_alone(proxy)
        proxy.vertex.fault = Fault(delay_before_headers=math.inf)
        answer = await proxy.ask()
        assert (answer.status, answer.text) == (200, expected("claude"))
        assert answer.seconds < 30


async def test_a_slow_vertex_is_given_up_for_a_claude_that_cannot_answer_this() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_before_headers=4.0)
        answer = await proxy.ask(chat(tools=tools))
        assert (answer.status, answer.served_by) == (200, ("vertex", "primary"))


async def test_the_time_to_the_first_byte_is_not_that() -> None:
    async with rig() as proxy:
        proxy.vertex.latency = 0.4
        await proxy.ask()
        assert proxy.metric("upstream_time_to_first_byte_seconds_sum", upstream="vertex") == pytest.approx(
            0.4, abs=0.05
        )
        assert proxy.metric("request_duration_seconds_sum", upstream="vertex") == pytest.approx(0.4, abs=0.05)


async def test_the_operator_is_not_told_what_vertex_said() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        proxy.claude.fault = Fault(status=529)
        await proxy.ask()
        said = {attempt.upstream: attempt.detail for attempt in proxy.seen(events.AttemptEnded)}
        assert said == {"vertex": "503 UNAVAILABLE", "claude": "529 overloaded_error"}


async def test_a_second_outage_is_told_as_a_return() -> None:
    async with rig(**OPEN_SOON) as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(2):
            await proxy.ask()
        proxy.claude.fault = Fault(status=500)
        for _ in range(2):
            await proxy.ask()
        assert circuit_is(proxy, "claude", "open", model=HAIKU)()
        (switch,) = proxy.seen(events.Switch)
        assert switch.to_upstream == "claude"
        assert proxy.metric("active_upstream", model="codestral-2", upstream="claude") == 1


async def test_an_override_on_top_of_an_outage_is_not_shown() -> None:
    async with rig(**OPEN_SOON) as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(2):
            await proxy.ask()
        (before,) = (await proxy.status())["active"]
        await asyncio.sleep(5)
        proxy.app.desk._take_file(_claude())
        (after,) = (await proxy.status())["active"]
        assert (before["reason"], after["reason"]) == ("circuit_open", "override")
        assert before["since"] == after["since"]
        assert len(proxy.seen(events.Switch)) == 1
