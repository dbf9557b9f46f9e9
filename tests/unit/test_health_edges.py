"""The small parts of health/ at their edges: circuits, the even spread, the lag meter, the pace, the probes' judge."""

from __future__ import annotations

import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState
from health.circuits import OVERFLOW, Circuits
from health.lag import LagMeter
from health.outcome import OK
from health.pace import Pace
from health.probe import ProbeJudge, ProbeTracker, Verdict
from health.spread import EvenSpread
from tests.unit.scene import FAILED


def _circuits(limit: int) -> Circuits:
    return Circuits(lambda _upstream, model, now: CircuitBreaker(model, BreakerConfig(), now=now), limit=limit)


def test_a_circuit_is_older_than_its_first_call() -> None:
    assert _circuits(2).get("vertex", "m", 12.5).since == 12.5


def test_a_model_is_labelled_with_a_circuit_that_does_not_judge_it() -> None:
    circuits = _circuits(1)
    assert circuits.label("vertex", "m") == OVERFLOW
    circuits.get("vertex", "m", 0.0)
    circuits.get("vertex", "n", 0.0)
    assert circuits.label("vertex", "m") == "m"
    assert circuits.label("vertex", "n") == OVERFLOW
    assert circuits.label("claude", "m") == OVERFLOW


def test_asking_about_the_next_call_changes_the_answer() -> None:
    spread = EvenSpread()
    for _ in range(200):
        included = spread.includes(0.3)
        assert spread.includes(0.3) is included
        spread.advance()


def test_a_share_comes_in_bursts() -> None:
    spread = EvenSpread()
    included = list[bool]()
    for _ in range(300):
        included.append(spread.includes(0.3))
        spread.advance()
    assert all(2 <= sum(included[start : start + 10]) <= 4 for start in range(290))


def test_a_tick_that_is_just_in_tolerance_is_lag() -> None:
    meter = LagMeter(1.0, 0.25)
    meter.tick(0.0)
    assert meter.between(0.0, 1.25) == 0.0
    assert meter.tick(1.25) == 0.0
    assert meter.tick(2.75) == 0.5


def test_lag_that_was_over_when_the_call_began_is_counted() -> None:
    meter = LagMeter(1.0, 0.25)
    meter.tick(0.0)
    meter.tick(3.0)
    assert meter.between(3.0, 3.5) == 0.0
    assert meter.between(2.5, 3.5) == 0.5


def test_a_lag_shorter_than_a_second_is_counted_as_one() -> None:
    meter = LagMeter(1.0, 0.25)
    meter.tick(0.0)
    assert meter.between(0.0, 1.5) == 0.5


def test_the_usual_tolerance_hides_a_stall_of_a_tenth() -> None:
    meter = LagMeter(0.5)
    meter.tick(0.0)
    assert meter.tick(0.625) == 0.125


def test_the_pace_cannot_be_the_same_while_down() -> None:
    assert Pace(10.0, slow=1.0).slow == 1.0
    assert Pace(10.0, slow=1.5).slow == 1.5


def test_one_probe_cannot_be_made_enough() -> None:
    tracker = ProbeTracker(fall=1, rise=1)
    assert (tracker.failures, tracker.successes) == (0, 0)
    assert tracker.record(FAILED) is Verdict.DOWN
    assert tracker.record(OK) is Verdict.UP
    for fall, rise in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            ProbeTracker(fall, rise)


def test_one_answer_begins_the_trials_of_a_circuit_that_was_open_before_its_judge() -> None:
    breaker = CircuitBreaker("c", BreakerConfig(), now=0.0)
    breaker.trip(0.0)
    judge = ProbeJudge(breaker, ProbeTracker(rise=2))
    judge.record(OK, 1.0, 1.5)
    assert breaker.circuit_state is CircuitState.OPEN
    judge.record(OK, 2.0, 2.5)
    assert breaker.judged_state is CircuitState.HALF_OPEN
