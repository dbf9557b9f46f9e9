"""A circuit whose thresholds are changed while it works: what must change with them, and what must stay."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from health.breaker import BreakerConfig, CircuitOpen, CircuitState
from health.config import WindowType
from health.outcome import OK, Outcome
from tests.unit.scene import CLIENT_LEFT, FAILED, Scene

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = {"jitter": 0.0, "ramp_seconds": 0.0, "consecutive_failures": 0}


def changed(scene: Scene, **fields: object) -> BreakerConfig:
    config = BreakerConfig(**{**BASE, **fields})  # type: ignore[arg-type]
    scene.breaker.reconfigure(config)
    return config


def test_results_that_were_counted_are_lost_or_judged_by_the_old_thresholds() -> None:
    scene = Scene(minimum_calls=10, failure_rate_threshold=0.9)
    scene.calls(OK, 5)
    scene.calls(FAILED, 5)
    assert scene.state() is CircuitState.CLOSED
    config = changed(scene, minimum_calls=10, failure_rate_threshold=0.5)
    assert scene.counts == (10, 5, 0)
    scene.calls(FAILED)
    assert scene.state() is CircuitState.OPEN
    assert scene.last.config is config


def test_an_opening_is_cut_short_or_lengthened() -> None:
    scene = Scene(open_seconds=5.0)
    scene.trip()
    until = scene.breaker.open_until
    changed(scene, open_seconds=50.0)
    assert scene.breaker.open_until == until
    assert scene.breaker.attempt == 1
    scene.now += 5.1
    scene.breaker.poll(scene.now)
    assert scene.state() is CircuitState.HALF_OPEN
    scene.trip()
    assert scene.breaker.open_until == pytest.approx(scene.now + 60), "the next one is by the new lengths, and capped"


def test_slow_calls_in_flight_are_held_to_what_was() -> None:
    scene = Scene(minimum_calls=2, slow_call_seconds=10.0, slow_rate_threshold=0.5)
    for _ in range(2):
        scene.start()
    scene.wait(2)
    scene.breaker.poll(scene.now)
    assert scene.state() is CircuitState.CLOSED
    changed(scene, minimum_calls=2, slow_call_seconds=1.0)
    scene.breaker.poll(scene.now)
    assert scene.state() is CircuitState.OPEN


def test_the_row_of_failures_or_the_number_of_trials_is_the_old_one() -> None:
    scene = Scene(minimum_calls=100)
    scene.calls(FAILED, 3)
    changed(scene, minimum_calls=100, consecutive_failures=4, trial_calls=2)
    scene.calls(FAILED)
    assert scene.state() is CircuitState.OPEN
    scene.half_open()
    scene.now = (scene.breaker.open_until or scene.now) + 0.001
    scene.breaker.poll(scene.now)
    scene.calls(OK, 2)
    assert scene.state() is CircuitState.CLOSED


def test_a_ramp_under_way_jumps() -> None:
    scene = Scene(ramp_seconds=10.0, trial_calls=1)
    scene.half_open()
    scene.calls(OK)
    scene.wait(5)
    assert scene.breaker.admitted_share(scene.now) == pytest.approx(0.5)
    changed(scene, ramp_seconds=2.0, trial_calls=1)
    assert scene.breaker.admitted_share(scene.now) == pytest.approx(0.5)
    scene.trip()
    scene.now = (scene.breaker.open_until or 0) + 0.001
    scene.breaker.poll(scene.now)
    scene.calls(OK)
    scene.wait(1)
    assert scene.breaker.admitted_share(scene.now) == pytest.approx(0.5)


@pytest.mark.parametrize("fields", [{"window_size": 20}, {"window_type": WindowType.COUNT}, {"observe_only": True}])
def test_what_is_built_in_is_changed_by_halves(fields: dict[str, object]) -> None:
    scene = Scene()
    before = scene.breaker.config
    with pytest.raises(ValueError, match="for its life"):
        changed(scene, open_seconds=1.0, **fields)
    assert scene.breaker.config is before
    assert scene.breaker.reset_timeout == before.open_seconds


def test_pybreaker_shows_the_old_settings() -> None:
    scene = Scene()
    changed(scene, consecutive_failures=7, open_seconds=8.0, trial_calls=9)
    assert (scene.breaker.fail_max, scene.breaker.reset_timeout, scene.breaker.success_threshold) == (7, 8.0, 9)


@pytest.mark.parametrize(("outcome", "state"), [(OK, CircuitState.CLOSED), (FAILED, CircuitState.OPEN)])
@pytest.mark.parametrize("ask", [Scene.start, lambda scene: scene.breaker.poll(scene.now)])
def test_a_circuit_waits_for_ever_for_trials_that_have_passed_already(
    outcome: Outcome, state: CircuitState, ask: Callable[[Scene], object]
) -> None:
    scene = Scene(trial_calls=5)
    scene.half_open()
    scene.calls(outcome, 2)
    changed(scene, trial_calls=2)
    assert scene.state() is CircuitState.HALF_OPEN
    with suppress(CircuitOpen):
        ask(scene)
    assert scene.state() is state
    assert scene.last.calls == 2


def test_a_trial_that_is_given_back_leaves_a_circuit_without_trials() -> None:
    scene = Scene(trial_calls=5)
    scene.half_open()
    scene.calls(OK, 3)
    out = scene.start()
    changed(scene, trial_calls=2)
    scene.breaker.poll(scene.now)
    assert scene.state() is CircuitState.HALF_OPEN, "one that is out may yet fail"
    scene.end(out, CLIENT_LEFT)
    scene.breaker.poll(scene.now)
    assert scene.state() is CircuitState.CLOSED


def opened(scene: Scene, times: int) -> float:
    """Let it open so often in a row; the length of the last opening."""
    for _ in range(times):
        scene.half_open()
    scene.trip()
    return (scene.breaker.open_until or 0.0) - scene.now


def test_openings_beyond_the_cap_overflow_by_a_larger_multiplier() -> None:
    scene = Scene(open_seconds=5.0, open_multiplier=1.01, max_open_seconds=60.0)
    assert opened(scene, 250) == 60.0
    assert scene.breaker.attempt == 251
    changed(scene, open_multiplier=100.0)
    assert scene.breaker.attempt == 2, "5, 60, and it grows no more"
    assert opened(scene, 1) == 60.0


@pytest.mark.parametrize(
    ("fields", "attempt", "following"),
    [
        ({}, 3, 40.0),
        ({"open_multiplier": 1.0}, 1, 5.0),
        ({"open_multiplier": 4.0, "max_open_seconds": 1000.0}, 3, 320.0),
        ({"max_open_seconds": 10.0}, 2, 10.0),
    ],
)
def test_the_backoff_forgets_or_makes_up_openings(fields: dict[str, object], attempt: int, following: float) -> None:
    scene = Scene(open_seconds=5.0)
    opened(scene, 2)
    assert scene.breaker.attempt == 3
    changed(scene, open_seconds=5.0, **fields)
    assert scene.breaker.attempt == attempt
    assert opened(scene, 1) == pytest.approx(following)


def test_healthy_time_is_counted_off_by_the_old_lengths() -> None:
    scene = Scene(open_seconds=5.0, trial_calls=1)
    opened(scene, 1)
    scene.half_open()
    scene.calls(OK)
    assert (scene.state(), scene.breaker.attempt) == (CircuitState.CLOSED, 2)
    changed(scene, open_seconds=1.0, trial_calls=1)
    scene.wait(2.1)
    scene.breaker.poll(scene.now)
    assert scene.breaker.attempt == 1


def test_a_change_of_settings_counts_as_an_opening() -> None:
    scene = Scene(open_seconds=5.0)
    changed(scene, open_seconds=5.0)
    assert scene.breaker.attempt == 0
    assert opened(scene, 0) == 5.0
