"""Slow calls that are still in flight: counted when they pass the threshold, and once."""

from __future__ import annotations

import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState, TransitionReason, WindowType
from health.outcome import NEUTRAL, OK, FailureReason, Outcome
from health.window import Counts
from tests.unit.scene import CLIENT_LEFT, FAILED, THROTTLED, Scene


def test_calls_that_hang_do_not_trip_until_they_are_given_up() -> None:
    scene = Scene()
    for _ in range(10):
        scene.start()
    scene.wait(1.5)
    scene.breaker.poll(scene.now)
    assert scene.counts == Counts(0, 0, 0), "the threshold itself is not slow"
    scene.wait(0.001)
    scene.breaker.poll(scene.now)
    assert (scene.last.reason, scene.last.calls, scene.last.slow) == (TransitionReason.SLOW_RATE, 10, 10)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (OK, Counts(1, 0, 1)),
        (FAILED, Counts(1, 1, 1)),
        (CLIENT_LEFT, Counts(1, 0, 1)),
        (Outcome.failure(FailureReason.TOTAL_TIMEOUT), Counts(1, 0, 1)),
        (Outcome.failure(FailureReason.CANCELLED), Counts(0, 0, 0)),
        (NEUTRAL, Counts(0, 0, 0)),
        (THROTTLED, Counts(0, 0, 0)),
        (Outcome.failure(FailureReason.DNS), Counts(0, 0, 0)),
    ],
)
@pytest.mark.parametrize("window_type", WindowType)
def test_a_call_found_slow_is_counted_again_at_its_end(
    outcome: Outcome, expected: Counts, window_type: WindowType
) -> None:
    scene = Scene(window_type=window_type)
    permit = scene.start()
    scene.wait(2)
    scene.breaker.poll(scene.now)
    scene.breaker.poll(scene.now)
    assert scene.counts == Counts(1, 0, 1)
    scene.wait(1)
    scene.end(permit, outcome)
    assert scene.counts == expected


def test_a_small_window_is_blind_until_the_call_that_was_taken_back_would_have_left_it() -> None:
    scene = Scene(window_type=WindowType.COUNT, window_size=10, minimum_calls=10)
    refused = scene.start()
    scene.wait(2)
    scene.breaker.poll(scene.now)
    scene.end(refused, THROTTLED)
    scene.insisted_calls(FAILED, 9)
    assert scene.state() is CircuitState.CLOSED
    scene.insisted_calls(FAILED, 1)
    assert (scene.last.reason, scene.last.calls) == (TransitionReason.FAILURE_RATE, 10)


def test_what_a_slow_call_pushed_out_is_counted_again_when_it_is_taken_back() -> None:
    scene = Scene(window_type=WindowType.COUNT, window_size=10, minimum_calls=10, failure_rate_threshold=1.0)
    scene.calls(FAILED, 1)
    scene.calls(OK, 9)
    refused = scene.start()
    scene.wait(2)
    scene.breaker.poll(scene.now)
    scene.end(refused, THROTTLED)
    assert scene.counts == Counts(9, 0, 0)
    scene.insisted_calls(OK, 2)
    assert scene.counts == Counts(10, 0, 0)


def test_the_failure_of_a_call_whose_slowness_has_left_the_window_is_lost() -> None:
    scene = Scene(window_size=3)
    permit = scene.start()
    scene.wait(2)
    scene.breaker.poll(scene.now)
    scene.wait(20)
    scene.end(permit, FAILED)
    assert scene.counts == Counts(1, 1, 1)


def test_failures_after_the_slow_threshold_are_no_row() -> None:
    scene = Scene(quiet=False, minimum_calls=100)
    permits = [scene.start() for _ in range(5)]
    scene.wait(2)
    scene.breaker.poll(scene.now)
    for permit in permits:
        scene.end(permit, FAILED)
    assert scene.last.reason is TransitionReason.CONSECUTIVE_FAILURES
    assert scene.last.consecutive_failures == 5


def test_a_stream_that_flows_is_slow_because_it_is_long() -> None:
    scene = Scene()
    permit = scene.start()
    permit.content(scene.now + 1)
    scene.wait(20)
    scene.breaker.poll(scene.now)
    assert scene.counts == Counts(0, 0, 0)


def test_a_stream_that_flows_hides_a_call_that_hangs_behind_it() -> None:
    scene = Scene()
    scene.start().content(scene.now)
    scene.start()
    scene.wait(2)
    scene.breaker.poll(scene.now)
    assert scene.counts == Counts(1, 0, 1)


def test_trials_that_hang_are_waited_for() -> None:
    scene = Scene(trial_calls=2)
    scene.half_open()
    scene.start()
    scene.start()
    scene.wait(1.6)
    scene.breaker.poll(scene.now)
    assert (scene.state(), scene.last.reason) == (CircuitState.OPEN, TransitionReason.TRIALS_FAILED)


def test_the_circuit_closes_while_a_slow_trial_is_out_that_fails_later() -> None:
    scene = Scene(trial_calls=3)
    scene.half_open()
    slow = scene.start()
    scene.wait(1.6)
    scene.breaker.poll(scene.now)
    scene.calls(OK, 2)
    assert scene.state() is CircuitState.HALF_OPEN
    scene.refusal()
    scene.end(slow, OK)
    assert (scene.state(), scene.last.slow) == (CircuitState.CLOSED, 1)


def test_a_slow_trial_that_was_a_local_fault_keeps_its_place() -> None:
    scene = Scene(trial_calls=2)
    scene.half_open()
    slow = scene.start()
    scene.wait(1.6)
    scene.breaker.poll(scene.now)
    scene.end(slow, NEUTRAL)
    scene.calls(OK, 2)
    assert scene.state() is CircuitState.CLOSED


def test_a_busy_proxy_blames_the_upstream_for_its_own_lag() -> None:
    stalls: list[tuple[float, float]] = []

    def lag(start: float, end: float) -> float:
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in stalls)

    config = BreakerConfig(consecutive_failures=0)
    breaker = CircuitBreaker("c", config, now=0.0, lag=lag)
    late, hung = breaker.acquire(0.0), breaker.acquire(0.0)
    stalls.append((0.1, 3.1))
    breaker.poll(3.2)
    assert breaker.counts(3.2) == Counts(0, 0, 0)
    late.settle(OK, 3.2)
    assert breaker.counts(3.2) == Counts(1, 0, 0)
    breaker.poll(4.7)
    assert breaker.counts(4.7) == Counts(2, 0, 1), "three seconds of lag excuse no more than three seconds"
    hung.settle(FAILED, 5.0)
    assert breaker.counts(5.0) == Counts(2, 1, 1)
