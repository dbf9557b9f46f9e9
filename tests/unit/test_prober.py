"""The probing loop: what must not end it, and what must. A fake clock and a fake sleep; nothing here waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState
from health.outcome import OK, FailureReason, Outcome, OutcomeKind
from health.pace import NextProbe, Pace, ProbeBudget
from health.probe import ProbeJudge, ProbeResult, ProbeTracker, Verdict
from health.prober import Prober
from tests.unit.scene import FAILED


async def hang() -> Outcome:
    never: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    return await never


class Enough(asyncio.CancelledError):
    """Ends the loop after so many probes, as cancellation does."""


class Stage:
    """A prober on a clock that only its probes and its sleeps move."""

    def __init__(
        self, check: Callable[[], Awaitable[Outcome]] | None = None, timeout: float = 3.0, daily: int = 20_000
    ) -> None:
        self.now = 50.0
        self.answers = [OK]
        self.slept: list[float] = []
        self.results: list[ProbeResult] = []
        self.skips: list[NextProbe] = []
        self.breaker = CircuitBreaker("c", BreakerConfig(), now=self.now)
        self.judge = ProbeJudge(self.breaker, ProbeTracker())
        self.prober = Prober(
            "vertex",
            "gemini",
            check or self.answer,
            self.judge,
            Pace(10.0),
            ProbeBudget(daily, now=self.now),
            timeout=timeout,
            clock=lambda: self.now,
            sleep=self.sleep,
            random=lambda: 0.5,
            on_result=self.take,
            on_skip=self.skips.append,
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

    def succeed(self) -> None:
        """A call of the traffic is answered."""
        self.breaker.acquire(self.now).settle(OK, self.now)

    def take(self, result: ProbeResult) -> None:
        self.results.append(result)

    async def play(self, probes: int) -> None:
        self.probes = probes
        with pytest.raises(Enough):
            await self.prober.run()


async def test_the_first_probe_waits_for_an_interval() -> None:
    stage = Stage()
    await stage.play(1)
    assert stage.results == [
        ProbeResult("vertex", "gemini", OK, 50.25, 0.25, Verdict.UP, True, NextProbe(10.0, 19_999, False))
    ]


async def test_probes_are_not_faster_in_doubt_and_slower_while_down() -> None:
    stage = Stage()
    stage.answers = [OK, FAILED, FAILED, FAILED, FAILED, OK, OK]
    await stage.play(7)
    assert stage.slept == pytest.approx([10, 1, 1, 20, 20, 1, 10])
    assert [result.up for result in stage.results] == [True, True, True, False, False, False, True]


async def test_the_results_do_not_reach_the_circuit() -> None:
    stage = Stage()
    stage.answers = [FAILED]
    await stage.play(3)
    assert stage.breaker.circuit_state is CircuitState.OPEN
    assert stage.breaker.since == stage.results[-1].at


async def test_a_check_that_raises_is_the_end_or_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> Outcome:
        raise KeyError("candidates")

    stage = Stage(check)
    with caplog.at_level(logging.ERROR, logger="health"):
        await stage.play(3)
    assert [result.outcome.kind for result in stage.results] == [OutcomeKind.FAILED] * 3
    assert stage.results[-1].verdict is Verdict.DOWN
    assert "vertex/gemini" in caplog.text
    assert "candidates" in caplog.text


async def test_a_check_that_hangs_is_the_end_or_no_timeout() -> None:
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


@pytest.mark.parametrize("lag", [0.0, 0.5])
async def test_a_timeout_that_nobody_could_have_seen_answered_is_held_against_the_upstream(lag: float) -> None:
    spans = list[tuple[float, float]]()

    def lag_between(start: float, end: float) -> float:
        spans.append((start, end))
        return lag

    async def check() -> Outcome:
        stage.now += 4.0
        return await hang()

    stage = Stage(check, timeout=0.0)
    stage.prober._lag = lag_between
    await stage.play(1)
    assert spans == [(50.0, 54.0)]
    assert stage.results[0].outcome.reason is (FailureReason.LAG if lag else FailureReason.FIRST_BYTE_TIMEOUT)


async def test_cancellation_in_the_middle_of_a_probe_is_swallowed() -> None:
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


class Busy(Stage):
    """A call succeeds so many seconds before each time that the prober looks."""

    def __init__(self, ago: float) -> None:
        super().__init__()
        self.ago = ago

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds - self.ago)
        self.succeed()
        self.now += self.ago


async def test_what_traffic_shows_is_paid_for_again() -> None:
    stage = Busy(ago=9.0)
    await stage.play(5)
    assert len(stage.results) == 1, "the first, which nothing can stand in for"
    assert stage.skips == [NextProbe(10.0, 19_999, False)] * 4


async def test_traffic_of_long_ago_stands_in_for_a_probe() -> None:
    stage = Stage()
    stage.succeed()
    await stage.play(3)
    assert len(stage.results) == 3
    assert stage.skips == []


async def test_probes_do_not_resume_when_traffic_stops() -> None:
    stage = Busy(ago=1.0)
    await stage.play(3)
    stage.slept.clear()
    stage.succeed = lambda: None  # type: ignore[method-assign]
    await stage.play(3)
    assert len(stage.results) == 1 + 3
    assert len(stage.skips) == 2


async def test_a_listener_that_raises_ends_the_probing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a broken dashboard")

    for stage in (Stage(), Busy(ago=1.0)):
        caplog.clear()
        stage.prober._on_result = stage.prober._on_skip = broken
        with caplog.at_level(logging.ERROR, logger="health"):
            await stage.play(3)
        assert len(stage.slept) == 3
        assert caplog.text.count("a broken dashboard") >= 2


async def test_the_budget_does_not_reach_the_pace() -> None:
    stage = Stage(daily=1_440)
    await stage.play(3)
    assert stage.slept == pytest.approx([60.0] * 3, abs=0.05)
    assert [result.next_probe.budget_remaining for result in stage.results] == [1_439, 1_438, 1_437]
    assert [result.next_probe.seconds for result in stage.results] == stage.slept
    assert all(result.next_probe.held_back for result in stage.results)


async def test_a_probe_in_no_hurry_is_said_to_be_held_back() -> None:
    """A budget that is all reserve lengthens no wait that is longer already."""
    stage = Stage(daily=1_440)
    stage.prober._pace = Pace(300.0)
    await stage.play(3)
    assert stage.slept == pytest.approx([300.0] * 3)
    assert not any(result.next_probe.held_back for result in stage.results)


async def test_probes_that_are_held_back_are_said_to_be_so_again_at_each_jitter() -> None:
    """From the moment that the budget first lengthens a wait, and until the next day."""
    stage = Stage()
    chance = iter([0.0, 1.0] * 100_000)
    stage.prober._random = lambda: next(chance)
    stage.prober._pace = Pace(4.4, jitter=0.9)
    await stage.play(37_000)
    said = [result.next_probe.held_back for result in stage.results]
    changes = [at for at in range(1, len(said)) if said[at] != said[at - 1]]
    days = [stage.results[at].at - 50 for at in changes]
    assert len(changes) == 3, "begun, over with the day, begun again"
    assert days[0] < 86_400 <= days[1] < 86_500
    assert stage.results[changes[0]].next_probe.seconds > 4.4 * 0.1 * 1.01
