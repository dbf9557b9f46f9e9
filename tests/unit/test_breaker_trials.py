"""Open, half-open and the trials, by scenario on virtual time; the probe's verdict on them too."""

from __future__ import annotations

import math

import pybreaker
import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState, Permit, Throttled, TransitionReason
from health.outcome import NEUTRAL, OK, Outcome
from health.window import Counts
from tests.unit.scene import CLIENT_LEFT, FAILED, THROTTLED, Scene


def test_an_opening_admits_before_its_time_is_over_or_does_not_say_how_long_it_lasts() -> None:
    scene = Scene(open_seconds=5.0)
    scene.trip()
    refusal = scene.refusal()
    assert (refusal.reason, refusal.retry_after) == (TransitionReason.PROBE, 5.0)
    assert isinstance(refusal, pybreaker.CircuitBreakerError)
    scene.wait(5)
    assert scene.refusal().retry_after == 0.0
    scene.wait(0.001)
    assert scene.breaker.admits(scene.now)
    assert scene.state() is CircuitState.OPEN, "asking changed the state"
    assert scene.start().trial


def test_half_open_admits_more_than_its_trials_or_closes_before_all_have_passed() -> None:
    scene = Scene(trial_calls=3)
    scene.half_open()
    trials = [scene.start() for _ in range(3)]
    assert not scene.breaker.admits(scene.now)
    assert (scene.refusal().reason, scene.refusal().retry_after) == (TransitionReason.PROBE, 0.0)
    scene.end(trials[0])
    assert not scene.breaker.admits(scene.now), "a result makes no room: the trials are so many in all"
    scene.end(trials[1])
    assert scene.state() is CircuitState.HALF_OPEN
    scene.end(trials[2])
    assert (scene.state(), scene.last.reason) == (CircuitState.CLOSED, TransitionReason.TRIALS_PASSED)
    assert scene.breaker.trip_reason is None


@pytest.mark.parametrize(("outcome", "seconds"), [(FAILED, 0.0), (OK, 2.0)])
def test_failed_or_slow_trials_close_the_circuit(outcome: Outcome, seconds: float) -> None:
    scene = Scene(trial_calls=4)
    scene.half_open()
    scene.calls(OK, 2)
    scene.calls(outcome, 2, seconds)
    assert (scene.state(), scene.last.reason) == (CircuitState.OPEN, TransitionReason.TRIALS_FAILED)


@pytest.mark.parametrize("silent", [NEUTRAL, THROTTLED, CLIENT_LEFT])
def test_a_trial_that_says_nothing_keeps_its_place(silent: Outcome) -> None:
    scene = Scene(trial_calls=1)
    scene.half_open()
    scene.insisted_calls(silent, 50)
    assert (scene.state(), scene.breaker.in_flight_trials) == (CircuitState.HALF_OPEN, 0)
    scene.insisted_calls(OK, 1)
    assert scene.state() is CircuitState.CLOSED


def test_trials_that_are_refused_for_capacity_hammer_the_upstream() -> None:
    scene = Scene(trial_calls=5)
    scene.half_open()
    tried = 0
    for _ in range(2000):
        scene.wait(0.05)
        if scene.breaker.admits(scene.now):
            scene.calls(THROTTLED)
            tried += 1
        else:
            with pytest.raises(Throttled):
                scene.start()
    assert scene.state() is CircuitState.HALF_OPEN
    assert 50 < tried < 250


def test_a_trial_hangs_because_the_proxy_itself_was_away() -> None:
    breaker = CircuitBreaker("c", BreakerConfig(), now=0.0, lag=lambda start, end: min(end - start, 30.0))
    breaker.trip(0.0)
    breaker.begin_trials(1.0)
    breaker.acquire(1.0)
    breaker.poll(40.0)
    assert breaker.circuit_state is CircuitState.HALF_OPEN
    breaker.poll(61.1)
    assert breaker.last_transition is not None
    assert breaker.last_transition.reason is TransitionReason.TRIALS_TIMED_OUT


def test_hung_trials_hold_the_circuit_half_open_until_there_is_traffic() -> None:
    scene = Scene(trial_calls=3, trial_seconds=30)
    scene.half_open()
    scene.calls(OK)
    scene.start()
    scene.wait(30)
    scene.breaker.poll(scene.now)
    assert scene.breaker.in_flight_trials == 1
    scene.wait(0.1)
    assert not scene.breaker.admits(scene.now)
    scene.breaker.poll(scene.now)
    assert (scene.state(), scene.last.reason) == (CircuitState.OPEN, TransitionReason.TRIALS_TIMED_OUT)
    assert scene.breaker.in_flight_trials == 0


def test_a_trial_that_answers_after_its_time_closes_the_circuit() -> None:
    scene = Scene(trial_calls=1, trial_seconds=30, slow_call_seconds=math.inf)
    scene.half_open()
    scene.calls(OK, seconds=31)
    assert (scene.state(), scene.breaker.stale_results) == (CircuitState.OPEN, 1)


def test_failures_among_trials_that_passed_begin_a_row() -> None:
    scene = Scene(trial_calls=5, consecutive_failures=5)
    scene.half_open()
    scene.calls(OK, 3)
    scene.calls(FAILED, 2)
    assert scene.state() is CircuitState.CLOSED
    scene.calls(FAILED, 4)
    assert scene.state() is CircuitState.CLOSED


def test_a_quiet_night_in_half_open_is_a_hung_trial() -> None:
    scene = Scene(trial_calls=2)
    scene.half_open()
    scene.wait(36000)
    scene.calls(OK, 2)
    assert scene.state() is CircuitState.CLOSED


def test_the_window_of_before_the_outage_is_held_against_the_recovery() -> None:
    scene = Scene(trial_calls=1, minimum_calls=2, open_seconds=0.5)
    scene.calls(FAILED, 2)
    scene.wait(0.6)
    scene.calls(OK)
    scene.calls(OK)
    assert (scene.state(), scene.counts) == (CircuitState.CLOSED, Counts(1, 0, 0))


def two_slow_trials_of_three() -> tuple[Scene, Permit, Permit]:
    """Half-open; the third trial may begin, and the two that are out are counted as slow, which condemns nothing."""
    scene = Scene(trial_calls=3, slow_rate_threshold=1.0)
    scene.half_open()
    first, second = scene.start(), scene.start()
    scene.wait(2)
    scene.breaker.poll(scene.now)
    return scene, first, second


def test_a_trial_that_is_taken_back_takes_the_result_of_another_along() -> None:
    scene, _, taken_back = two_slow_trials_of_three()
    scene.calls(OK)
    scene.end(taken_back, NEUTRAL)
    scene.calls(OK)
    assert scene.counts == Counts(3, 0, 1)
    assert not scene.breaker.admits(scene.now)


def test_a_circuit_is_half_open_for_ever() -> None:
    scene, slow, taken_back = two_slow_trials_of_three()
    scene.calls(OK)
    scene.end(taken_back, NEUTRAL)
    while scene.breaker.admits(scene.now):
        scene.calls(OK)
    scene.end(slow, NEUTRAL)
    assert scene.state() is CircuitState.CLOSED or scene.breaker.admits(scene.now)


# The probe's verdict


def test_a_probe_leaves_a_circuit_without_traffic_closed_or_opens_it_twice() -> None:
    scene = Scene()
    scene.trip()
    scene.wait(1)
    scene.trip()
    assert (scene.last.reason, scene.last.at, scene.breaker.generation) == (TransitionReason.PROBE, 1000.0, 1)


def test_a_failed_probe_leaves_the_circuit_half_open() -> None:
    scene = Scene()
    scene.half_open()
    scene.trip()
    assert (scene.state(), scene.last.attempt) == (CircuitState.OPEN, 2)


def test_a_good_probe_closes_the_circuit_or_begins_no_trials() -> None:
    scene = Scene(trial_calls=1)
    scene.breaker.begin_trials(scene.now)
    assert scene.state() is CircuitState.CLOSED
    scene.trip()
    scene.wait(1)
    for _ in range(5):
        scene.breaker.begin_trials(scene.now)
    assert (scene.state(), scene.last.reason) == (CircuitState.HALF_OPEN, TransitionReason.PROBE_RECOVERED)
    assert scene.breaker.trip_reason is TransitionReason.PROBE
    scene.calls(OK)
    assert scene.state() is CircuitState.CLOSED
