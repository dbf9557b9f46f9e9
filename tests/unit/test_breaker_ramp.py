"""The way back after an outage: the ramp, with the trip armed."""

from __future__ import annotations

from typing import Any

import pytest

from health.breaker import CallRefused, CircuitOpen, CircuitState, TransitionReason
from health.outcome import OK
from tests.unit.scene import FAILED, THROTTLED, Scene


def recovered(**settings: Any) -> Scene:
    scene = Scene(trial_calls=1, ramp_seconds=10.0, **settings)
    scene.half_open()
    scene.calls(OK)
    assert scene.state() is CircuitState.CLOSED
    return scene


def passed(scene: Scene, calls: int) -> int:
    count = 0
    for _ in range(calls):
        try:
            scene.end(scene.start())
            count += 1
        except CallRefused:
            pass
    return count


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.5, 5.0, 9.0, 10.0, 60.0])
def test_the_whole_load_comes_back_at_once_or_not_at_all(seconds: float) -> None:
    scene = recovered()
    scene.wait(seconds)
    share = min(1.0, seconds / 10)
    assert scene.breaker.admitted_share(scene.now) == pytest.approx(share)
    assert passed(scene, 1000) == pytest.approx(1000 * share, abs=3)


def test_a_ramp_sends_all_of_one_kind_of_call_away() -> None:
    """Callers that alternate two kinds of request must not fall in step with the share."""
    scene = recovered()
    scene.wait(5)
    kinds = [0, 0]
    for number in range(1000):
        kinds[number % 2] += passed(scene, 1)
    assert kinds == [pytest.approx(250, abs=5)] * 2


def test_a_circuit_that_never_opened_begins_with_a_ramp() -> None:
    assert passed(Scene(ramp_seconds=10.0), 100) == 100


def test_a_relapse_in_the_ramp_goes_unnoticed() -> None:
    scene = recovered(consecutive_failures=5)
    scene.wait(5)
    for _ in range(20):
        if scene.breaker.admits(scene.now):
            scene.calls(FAILED)
        elif scene.state() is CircuitState.CLOSED:
            scene.refusal()
    assert (scene.state(), scene.last.reason) == (CircuitState.OPEN, TransitionReason.CONSECUTIVE_FAILURES)


def test_a_refusal_in_the_ramp_does_not_say_what_it_is_for() -> None:
    scene = recovered()
    refusal = scene.refusal()
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.reason, refusal.retry_after) == (TransitionReason.PROBE, 0.0)


def test_looking_costs_a_place_in_the_ramp() -> None:
    scene = recovered()
    scene.wait(5)
    looked = 0
    for _ in range(100):
        try:
            scene.breaker.check(scene.now)
        except CallRefused:
            continue
        assert scene.breaker.admits(scene.now)
        scene.end(scene.start())
        looked += 1
    assert looked == pytest.approx(50, abs=3)


def test_a_call_that_is_made_all_the_same_goes_uncounted_in_the_ramp() -> None:
    scene = recovered()
    permit = scene.breaker.insist(scene.now)
    assert permit is not None
    scene.end(permit, FAILED)
    assert scene.counts.failed == 1


def test_a_call_that_is_made_all_the_same_takes_more_trials_than_there_are() -> None:
    scene = Scene(trial_calls=1)
    scene.trip()
    assert scene.breaker.insist(scene.now) is None
    scene.half_open()
    assert scene.breaker.insist(scene.now) is not None
    assert scene.breaker.insist(scene.now) is None


def test_the_ramp_and_the_throttle_together_take_more_than_the_stricter_of_them() -> None:
    scene = recovered()
    scene.wait(6)
    scene.insisted_calls(THROTTLED, 1)
    scene.insisted_calls(OK, 1)
    spilled = scene.breaker.admission.throttle.spill_share(scene.now)
    assert spilled == pytest.approx(1 / 4)
    assert scene.breaker.admitted_share(scene.now) == pytest.approx(0.6)


def test_a_relapse_in_the_ramp_has_its_trials_refused_by_that_ramp() -> None:
    scene = recovered(open_seconds=1.0, open_multiplier=1.0)
    scene.half_open()
    scene.insisted_calls(THROTTLED, 1)
    scene.wait(0.01)
    assert scene.breaker.admission.ramp_admits(scene.now)
    assert scene.breaker.admission.share(scene.now) == 0.5
