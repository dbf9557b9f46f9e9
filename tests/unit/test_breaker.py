"""The circuit breaker by scenario, on virtual time. A test is named by what goes wrong without the rule it guards."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from health.breaker import TRANSITIONS, BreakerConfig, CircuitState, TransitionReason, WindowType
from health.outcome import NEUTRAL, OK, FailureReason, Outcome
from health.transitions import IllegalTransitionError, ensure_legal
from health.window import Counts
from tests.unit.scene import CLIENT_LEFT, FAILED, MISCONFIGURED, THROTTLED, Scene

# Tripping


def test_a_rate_of_too_few_calls_trips_or_one_of_enough_does_not() -> None:
    scene = Scene()
    scene.calls(FAILED, 9)
    assert scene.state() is CircuitState.CLOSED
    scene.calls(FAILED)
    assert (scene.state(), scene.last.reason) == (CircuitState.OPEN, TransitionReason.FAILURE_RATE)


def test_a_success_that_makes_the_calls_enough_leaves_their_rate_unjudged() -> None:
    scene = Scene()
    scene.calls(FAILED, 5)
    scene.calls(OK, 4)
    assert scene.state() is CircuitState.CLOSED
    scene.calls(OK)
    assert (scene.last.reason, scene.last.calls, scene.last.failure_rate) == (TransitionReason.FAILURE_RATE, 10, 0.5)


def test_a_brown_out_without_one_failure_goes_unnoticed() -> None:
    scene = Scene(window_size=60, minimum_calls=4)
    scene.calls(OK, 2)
    scene.calls(OK, 2, seconds=1.6)
    assert (scene.state(), scene.last.reason, scene.last.slow_rate) == (
        CircuitState.OPEN,
        TransitionReason.SLOW_RATE,
        0.5,
    )


def test_a_call_exactly_at_the_threshold_is_slow() -> None:
    scene = Scene(slow_call_seconds=1.5)
    scene.calls(OK, seconds=1.5)
    assert scene.counts.slow == 0


def test_a_long_stream_that_began_in_time_is_slow() -> None:
    scene = Scene()
    permit = scene.start()
    permit.content(scene.now + 0.2)
    permit.content(scene.now + 9.0)
    scene.wait(10)
    scene.end(permit)
    assert scene.counts == Counts(1, 0, 0)


def test_a_latency_that_is_handed_in_gives_way_to_the_permits_own() -> None:
    scene = Scene()
    scene.breaker.settle(scene.start(), OK, scene.now, latency=2.0)
    assert scene.counts == Counts(1, 0, 1)


def test_an_outage_at_night_with_a_call_a_minute_goes_unnoticed() -> None:
    scene = Scene(quiet=False)
    for _ in range(5):
        assert scene.state() is CircuitState.CLOSED
        scene.calls(FAILED)
        scene.wait(60)
    assert scene.last.reason is TransitionReason.CONSECUTIVE_FAILURES


def test_failures_with_a_success_between_them_are_a_row() -> None:
    scene = Scene(quiet=False, minimum_calls=1000)
    for _ in range(3):
        scene.calls(FAILED, 4)
        scene.calls(OK)
    assert scene.state() is CircuitState.CLOSED


def test_the_proxys_own_bad_key_leaves_the_circuit_closed() -> None:
    scene = Scene(quiet=False)
    scene.calls(MISCONFIGURED, 5)
    assert scene.state() is CircuitState.OPEN


def test_of_several_reasons_a_slow_rate_is_named_before_the_failure_rate_or_a_row_before_either() -> None:
    all_three = Scene(minimum_calls=5, consecutive_failures=5)
    all_three.calls(FAILED, 5, seconds=1.6)
    assert all_three.last.reason is TransitionReason.FAILURE_RATE
    slow_and_row = Scene(minimum_calls=5, consecutive_failures=4, failure_rate_threshold=1.0)
    slow_and_row.calls(OK)
    slow_and_row.calls(FAILED, 4, seconds=1.6)
    assert slow_and_row.last.reason is TransitionReason.SLOW_RATE


def test_an_idle_hour_puts_an_old_failure_beside_a_new_one() -> None:
    scene = Scene()
    scene.calls(FAILED, 9)
    scene.wait(3600)
    scene.calls(FAILED, 9)
    assert scene.state() is CircuitState.CLOSED


# Results that say nothing


@pytest.mark.parametrize("silent", [NEUTRAL, THROTTLED, CLIENT_LEFT, Outcome.failure(FailureReason.DNS)])
def test_silent_results_dilute_a_rate_or_break_a_row(silent: Outcome) -> None:
    rate, row = Scene(), Scene(quiet=False)
    rate.calls(FAILED, 9)
    rate.insisted_calls(silent, 100)
    rate.insisted_calls(FAILED, 1)
    row.calls(FAILED, 4)
    row.insisted_calls(silent, 100)
    row.insisted_calls(FAILED, 1)
    assert rate.last.failure_rate == 1.0
    assert row.last.reason is TransitionReason.CONSECUTIVE_FAILURES


def test_throttling_alone_trips() -> None:
    scene = Scene(quiet=False)
    scene.insisted_calls(THROTTLED, 1000)
    assert scene.state() is CircuitState.CLOSED


def test_editors_that_cancel_hide_a_brown_out() -> None:
    scene = Scene(window_size=60)
    scene.calls(CLIENT_LEFT, 10, seconds=1.6)
    assert (scene.last.reason, scene.last.failure_rate) == (TransitionReason.SLOW_RATE, 0.0)


def test_a_caller_who_leaves_in_mid_stream_counts_as_slow() -> None:
    scene = Scene()
    permit = scene.start()
    permit.content(scene.now + 0.3)
    scene.wait(20)
    scene.end(permit, CLIENT_LEFT)
    assert scene.counts == Counts(0, 0, 0)


@pytest.mark.parametrize("reason", [FailureReason.DNS, FailureReason.LOCAL, FailureReason.CANCELLED])
def test_a_local_fault_that_took_long_counts_as_slow(reason: FailureReason) -> None:
    scene = Scene()
    scene.calls(Outcome.failure(reason), seconds=9)
    assert scene.counts == Counts(0, 0, 0)


# Permits


def test_a_second_settling_counts_the_call_again() -> None:
    scene = Scene()
    permit = scene.start()
    assert scene.end(permit, FAILED) is True
    assert scene.end(permit, FAILED) is False
    assert (scene.counts, permit.settled) == (Counts(1, 1, 0), True)


def test_a_permit_of_another_circuit_is_settled() -> None:
    scene = Scene()
    with pytest.raises(ValueError, match="cannot be settled"):
        scene.breaker.settle(Scene().start(), OK, scene.now)


def test_late_failures_extend_the_opening() -> None:
    scene = Scene()
    late = [scene.start() for _ in range(20)]
    scene.trip()
    until = scene.breaker.open_until
    scene.wait(4)
    for permit in late:
        scene.end(permit, FAILED)
    assert (scene.breaker.open_until, scene.breaker.stale_results, scene.breaker.generation) == (until, 20, 1)


def test_a_success_from_before_the_outage_closes_the_circuit_that_opened_since() -> None:
    scene = Scene(trial_calls=1)
    stale = scene.start()
    scene.half_open()
    older_trial = scene.start()
    scene.trip()
    scene.wait(60)
    scene.start()
    scene.end(stale)
    scene.end(older_trial)
    assert (scene.state(), scene.breaker.stale_results) == (CircuitState.HALF_OPEN, 2)


# The table


def test_a_transition_that_the_table_has_not_is_legal_or_one_that_it_has_is_not() -> None:
    for origin, target, reason in itertools.product(CircuitState, CircuitState, TransitionReason):
        if reason in TRANSITIONS.get((origin, target), ()):
            ensure_legal(origin, target, reason)
        else:
            with pytest.raises(IllegalTransitionError, match=f"{origin} to {target}"):
                ensure_legal(origin, target, reason)
    assert set.union(*map(set, TRANSITIONS.values())) == set(TransitionReason), "a reason that nothing has"


def test_the_breaker_moves_a_closed_circuit_to_half_open() -> None:
    scene = Scene()
    with pytest.raises(IllegalTransitionError):
        scene.breaker._move(CircuitState.HALF_OPEN, TransitionReason.OPEN_ELAPSED, scene.now)
    assert (scene.state(), scene.breaker.generation) == (CircuitState.CLOSED, 0)


# Settings


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("window_size", 0, "at least 1"),
        ("minimum_calls", 0, "at least 1"),
        ("failure_rate_threshold", 0.0, "above 0 and at most 1"),
        ("failure_rate_threshold", 50.0, "above 0 and at most 1"),
        ("slow_call_seconds", 0.0, "above 0"),
        ("slow_rate_threshold", math.nan, "above 0 and at most 1"),
        ("slow_rate_threshold", 0.0, "above 0 and at most 1"),
        ("slow_rate_threshold", 1.5, "above 0 and at most 1"),
        ("failure_rate_threshold", 1.5, "above 0 and at most 1"),
        ("consecutive_failures", -1, "0 or more"),
        ("open_seconds", 0.0, "above 0"),
        ("open_multiplier", 0.5, "at least 1 and finite"),
        ("open_multiplier", math.inf, "at least 1 and finite"),
        ("max_open_seconds", 4.0, "open_seconds or more, finite"),
        ("max_open_seconds", math.inf, "open_seconds or more, finite"),
        ("trial_calls", 0, "at least 1"),
        ("trial_seconds", 0.0, "above 0"),
        ("ramp_seconds", -1.0, "0 or more, and finite"),
        ("ramp_seconds", math.inf, "0 or more, and finite"),
        ("jitter", -0.5, "at least 0 and below 1"),
        ("jitter", 1.0, "at least 0 and below 1"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_accepted_or_refused_without_its_name_and_rule(
    field: str, value: float, rule: str
) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"^{field} must be ") as refused:
        BreakerConfig(**settings)
    assert str(refused.value) == f"{field} must be {rule}, not {value!r}"


def test_a_setting_at_the_edge_of_what_can_be_meant_is_refused() -> None:
    BreakerConfig(window_size=1, minimum_calls=1, window_type=WindowType.COUNT, trial_calls=1)
    BreakerConfig(failure_rate_threshold=1.0, slow_rate_threshold=1.0, jitter=0.0, ramp_seconds=0.0)
    BreakerConfig(open_multiplier=1.0, open_seconds=0.5, max_open_seconds=0.5, slow_call_seconds=0.5, trial_seconds=0.5)
    BreakerConfig(failure_rate_threshold=0.5, slow_rate_threshold=0.5, jitter=0.5, ramp_seconds=0.5)


def test_a_window_too_small_for_any_rate_is_accepted() -> None:
    with pytest.raises(
        ValueError, match="minimum_calls must be at most window_size, or no rate could ever trip, not 10"
    ):
        BreakerConfig(window_type=WindowType.COUNT, window_size=5, minimum_calls=10)
