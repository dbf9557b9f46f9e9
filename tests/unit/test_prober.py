"""The probing loop: what must not end it, and what must. A fake clock and a fake sleep; nothing here waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState
from health.outcome import OK, FailureReason, Outcome, OutcomeKind
from health.probe import Pace, ProbeJudge, ProbeResult, ProbeTracker, Verdict
from health.prober import Prober

FAILED = Outcome.failure(FailureReason.CONNECT)


async def hang() -> Outcome:
    never: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    return await never


class Enough(asyncio.CancelledError):
    """Ends the loop after so many probes, as cancellation does."""


class Stage:
    """A prober on a clock that only its probes and its sleeps move."""

    def __init__(self, check: Callable[[], Awaitable[Outcome]] | None = None, timeout: float = 3.0) -> None:
        self.now = 50.0
        self.answers = [OK]
        self.slept: list[float] = []
        self.results: list[ProbeResult] = []
        self.breaker = CircuitBreaker("c", BreakerConfig(), now=self.now)
        self.judge = ProbeJudge(self.breaker, ProbeTracker())
        self.prober = Prober(
            "vertex",
            "gemini",
            check or self.answer,
            self.judge,
            Pace(10.0),
            timeout=timeout,
            clock=lambda: self.now,
            sleep=self.sleep,
            random=lambda: 0.5,
            on_result=self.take,
        )
        self.probes = 1

    async def answer(self) -> Outcome:
        self.now += 0.25
        return self.answers[min(len(self.slept), len(self.answers) - 1)]

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if len(self.slept) == self.probes:
            raise Enough

    def take(self, result: ProbeResult) -> None:
        self.results.append(result)

    async def play(self, probes: int) -> None:
        self.probes = probes
        with pytest.raises(Enough):
            await self.prober.run()


async def test_the_first_probe_does_not_wait_for_an_interval() -> None:
    stage = Stage()
    await stage.play(1)
    assert stage.results == [ProbeResult("vertex", "gemini", OK, 50.25, 0.25, Verdict.UP, True)]


async def test_probes_go_on_at_the_pace_and_faster_in_doubt() -> None:
    stage = Stage()
    stage.answers = [OK, FAILED, FAILED, FAILED, FAILED, OK, OK]
    await stage.play(7)
    assert stage.slept == pytest.approx([10, 1, 1, 10, 10, 1, 10])
    assert [result.up for result in stage.results] == [True, True, True, False, False, False, True]


async def test_the_results_reach_the_circuit() -> None:
    stage = Stage()
    stage.answers = [FAILED]
    await stage.play(3)
    assert stage.breaker.circuit_state is CircuitState.OPEN
    assert stage.breaker.since == stage.results[-1].at


async def test_a_check_that_raises_is_a_failure_and_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> Outcome:
        raise KeyError("candidates")

    stage = Stage(check)
    with caplog.at_level(logging.ERROR, logger="health"):
        await stage.play(3)
    assert [result.outcome.kind for result in stage.results] == [OutcomeKind.FAILED] * 3
    assert stage.results[-1].verdict is Verdict.DOWN
    assert "vertex/gemini" in caplog.text
    assert "candidates" in caplog.text


async def test_a_check_that_hangs_is_a_timeout_and_not_the_end() -> None:
    cancelled = []

    async def check() -> Outcome:
        try:
            return await hang()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    stage = Stage(check, timeout=0.0)
    await stage.play(2)
    assert [result.outcome.reason for result in stage.results] == [FailureReason.FIRST_BYTE_TIMEOUT] * 2
    assert cancelled == [True, True]


async def test_a_listener_that_raises_does_not_end_the_probing(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()

    def broken(_: ProbeResult) -> None:
        raise RuntimeError("a broken dashboard")

    stage.prober._on_result = broken
    with caplog.at_level(logging.ERROR, logger="health"):
        await stage.play(2)
    assert len(stage.slept) == 2
    assert "a broken dashboard" in caplog.text


async def test_cancellation_in_the_middle_of_a_probe_is_not_swallowed() -> None:
    reached = asyncio.Event()

    async def check() -> Outcome:
        reached.set()
        return await hang()

    stage = Stage(check)
    task = asyncio.create_task(stage.prober.run())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.results == [], "a cancelled probe is no result"
