"""How long the circuit stays open: growth, cap, forgetting, jitter, and what the upstream itself asks for."""

from __future__ import annotations

import pytest

from health.breaker import BackoffReset, BreakerConfig, CircuitState
from health.outcome import OK, FailureReason, Outcome
from tests.unit.scene import FAILED, Scene


def length(scene: Scene) -> float:
    """Seconds of the present opening."""
    assert scene.breaker.open_until is not None
    return scene.breaker.open_until - scene.breaker.since


def recover(scene: Scene) -> None:
    scene.half_open()
    scene.calls(OK)
    assert scene.state() is CircuitState.CLOSED


def failing(retry_after: float) -> Outcome:
    return Outcome.failure(FailureReason.SERVER_ERROR, retry_after)


def test_openings_do_not_grow_or_outgrow_the_cap() -> None:
    scene = Scene(trial_calls=1)
    scene.trip()
    lengths = []
    for _ in range(6):
        lengths.append(length(scene))
        scene.wait(length(scene) + 0.01)
        scene.calls(FAILED)
    assert lengths == pytest.approx([5, 10, 20, 40, 60, 60])


def test_an_outage_of_a_day_overflows_the_backoff_or_takes_a_day_to_forget() -> None:
    scene = Scene(trial_calls=1)
    for _ in range(2000):
        scene.half_open()
        scene.calls(FAILED)
    assert length(scene) == pytest.approx(60)
    assert scene.breaker.attempt == 5


def test_a_flapping_upstream_loses_its_backoff() -> None:
    scene = Scene(trial_calls=1)
    for expected in (5, 10, 20):
        recover(scene)
        assert scene.last.attempt == scene.breaker.attempt
        assert scene.breaker.config.open_length(scene.breaker.attempt) == expected


def test_an_opening_is_remembered_for_longer_than_it_lasted() -> None:
    scene = Scene(trial_calls=1)
    recover(scene)
    scene.wait(5.0)
    scene.breaker.poll(scene.now)
    assert scene.breaker.attempt == 0


def test_healthy_time_forgets_all_openings_at_once_or_none() -> None:
    scene = Scene(trial_calls=1)
    for _ in range(3):
        recover(scene)
    attempts = []
    for seconds in (19.9, 0.2, 10, 4.7, 0.2, 3600):
        scene.wait(seconds)
        scene.breaker.poll(scene.now)
        attempts.append(scene.breaker.attempt)
    assert attempts == [3, 2, 1, 1, 0, 0]


def test_nothing_is_forgotten_without_a_poll() -> None:
    scene = Scene(trial_calls=1)
    for _ in range(3):
        recover(scene)
    scene.wait(30.1)
    scene.trip()
    assert length(scene) == pytest.approx(10)


def test_time_spent_open_or_in_trials_is_healthy_time() -> None:
    scene = Scene(trial_calls=1)
    scene.half_open()
    scene.wait(3600)
    scene.breaker.poll(scene.now)
    scene.calls(FAILED)
    assert length(scene) == pytest.approx(10)


def test_a_reset_on_close_leaves_an_opening_remembered() -> None:
    scene = Scene(trial_calls=1, backoff_reset=BackoffReset.ON_CLOSE)
    for _ in range(3):
        recover(scene)
    scene.trip()
    assert length(scene) == pytest.approx(5)


@pytest.mark.parametrize(("random", "expected"), [(0.0, 5.0), (0.5, 4.75), (1.0, 4.5)])
def test_jitter_lengthens_an_opening_or_leaves_the_return_in_step(random: float, expected: float) -> None:
    scene = Scene(jitter=0.1, random=random)
    scene.trip()
    assert length(scene) == pytest.approx(expected)


@pytest.mark.parametrize(("asked", "expected"), [(2.0, 5.0), (30.0, 30.0), (86400.0, 60.0)])
def test_a_retry_after_goes_unheeded_or_shortens_the_opening_or_outgrows_the_cap(asked: float, expected: float) -> None:
    by_traffic, by_probe = Scene(minimum_calls=1), Scene()
    by_traffic.calls(failing(asked))
    by_probe.breaker.trip(by_probe.now, retry_after=asked)
    assert length(by_traffic) == pytest.approx(expected)
    assert length(by_probe) == pytest.approx(expected)


def test_a_retry_after_is_forgotten_when_other_trials_end_later() -> None:
    scene = Scene(trial_calls=3)
    scene.half_open()
    scene.calls(failing(40.0))
    scene.calls(failing(20.0))
    scene.calls(OK)
    assert length(scene) == pytest.approx(40)


def test_a_retry_after_of_an_earlier_outage_lengthens_the_next_one() -> None:
    scene = Scene(minimum_calls=1, trial_calls=1, open_multiplier=1.0)
    scene.calls(failing(50.0))
    scene.breaker.begin_trials(scene.now)
    scene.calls(OK)
    scene.calls(FAILED)
    assert length(scene) == pytest.approx(5)


def test_openings_grow_though_the_multiplier_is_one() -> None:
    config = BreakerConfig(open_multiplier=1.0)
    assert [config.open_length(attempt) for attempt in (1, 2, 5000)] == [5.0, 5.0, 5.0]
