"""What pybreaker would do by itself, and does not: run our code, read the wall clock, let a listener stop a trip."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

import pybreaker
import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState, TransitionReason
from health.outcome import OK
from health.state_machine import StateMachine
from tests.unit.scene import FAILED, Recorder, Scene


class MetaException(type):
    """What google.api_core's exceptions have: pybreaker then calls the class as a predicate, and it is always true."""


class GoogleError(Exception, metaclass=MetaException):
    pass


class Broken(pybreaker.CircuitBreakerListener):
    def state_change(self, *_: object) -> None:
        raise RuntimeError("a broken dashboard")


def test_pybreakers_own_settings_show_others_than_the_config() -> None:
    breaker = Scene(quiet=False, consecutive_failures=7, open_seconds=8.0, trial_calls=9).breaker
    assert (breaker.fail_max, breaker.reset_timeout, breaker.success_threshold) == (7, 8.0, 9)


async def completion() -> str:
    return "never run"


RUNS_CODE: list[Callable[[CircuitBreaker], Any]] = [
    lambda breaker: breaker.call(completion),
    lambda breaker: breaker.calling(),
    lambda breaker: breaker.call_async(completion),
    lambda breaker: breaker(completion),
    lambda breaker: breaker(),
    lambda breaker: breaker.state.call(completion),
    lambda breaker: breaker.state.call_async(completion),
    lambda breaker: breaker.add_excluded_exception(GoogleError),
    lambda breaker: breaker.add_excluded_exceptions(GoogleError),
    lambda breaker: CircuitBreaker("c", BreakerConfig(), now=0.0, exclude=[GoogleError]),
]


@pytest.mark.parametrize("run", RUNS_CODE)
@pytest.mark.parametrize("state", CircuitState)
def test_code_is_run_or_an_exception_disables_the_breaker(
    run: Callable[[CircuitBreaker], Any], state: CircuitState
) -> None:
    scene = Scene()
    if state is not CircuitState.CLOSED:
        scene.trip()
    if state is CircuitState.HALF_OPEN:
        scene.breaker.begin_trials(scene.now)
    assert scene.state() is state
    with pytest.raises(TypeError, match=r"acquire\(\)"):
        run(scene.breaker)


MOVES: list[Callable[[CircuitBreaker], Any]] = [
    lambda breaker: breaker.open(),
    lambda breaker: breaker.half_open(),
    lambda breaker: breaker.close(),
    lambda breaker: setattr(breaker, "state", pybreaker.STATE_OPEN),
]


@pytest.mark.parametrize("move", MOVES)
def test_pybreakers_own_setters_pass_the_rules_by(move: Callable[[CircuitBreaker], Any]) -> None:
    scene = Scene()
    with pytest.raises(TypeError, match=r"trip\(\) or begin_trials\(\)"):
        move(scene.breaker)
    assert (scene.state(), scene.breaker.generation) == (CircuitState.CLOSED, 0)


def test_a_listener_sees_half_a_change_or_one_without_its_evidence() -> None:
    scene, recorder = Scene(trial_calls=1), Recorder()
    scene.breaker.add_listener(recorder)
    scene.half_open()
    scene.calls(OK)
    assert [(told.from_state, told.to_state, told.reason) for told in recorder.seen] == [
        (CircuitState.CLOSED, CircuitState.OPEN, TransitionReason.PROBE),
        (CircuitState.OPEN, CircuitState.HALF_OPEN, TransitionReason.OPEN_ELAPSED),
        (CircuitState.HALF_OPEN, CircuitState.CLOSED, TransitionReason.TRIALS_PASSED),
    ]


def test_a_raising_listener_stops_the_trip_or_silences_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    breaker = CircuitBreaker("gemini", BreakerConfig(), now=0.0, listeners=[Broken(), recorder])
    with caplog.at_level(logging.ERROR, logger="health"):
        breaker.trip(1.0)
    assert breaker.circuit_state is CircuitState.OPEN
    assert len(recorder.seen) == 1
    assert [(record.name, "gemini" in record.getMessage()) for record in caplog.records] == [("health", True)]


def test_a_clock_is_read_besides_the_time_that_is_handed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> None:
        raise AssertionError("something read a clock")

    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(f"time.{name}", unread)
    monkeypatch.setattr(pybreaker, "datetime", unread)
    scene = Scene(trial_calls=1)
    scene.half_open()
    scene.calls(FAILED)
    assert scene.state() is CircuitState.OPEN


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_wall_clock_that_jumps_an_hour_opens_or_closes_the_circuit(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """pybreaker 1.4 goes by the wall clock: set back an hour, it stays open for an hour more."""
    scene = Scene(trial_calls=1)
    scene.trip()
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + jump)

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Jumped:
            return cls.fromtimestamp(real() + jump, tz)

    monkeypatch.setattr(pybreaker, "datetime", Jumped)
    scene.wait(4.9)
    scene.refusal()
    scene.wait(0.2)
    scene.calls(OK)
    assert scene.state() is CircuitState.CLOSED


def test_pybreaker_shows_something_else_than_the_breaker_knows() -> None:
    scene = Scene(quiet=False)
    scene.calls(FAILED, 3)
    assert (scene.breaker.name, scene.breaker.fail_counter, scene.breaker.current_state) == ("c", 3, "closed")
    assert isinstance(scene.breaker.state, pybreaker.CircuitClosedState)


def test_pybreaker_has_lost_or_changed_the_one_private_method_that_is_overridden() -> None:
    inherited = inspect.signature(pybreaker.CircuitBreaker._create_new_state)
    ours = inspect.signature(CircuitBreaker._create_new_state)
    assert list(ours.parameters) == list(inherited.parameters)
    assert type(Scene().breaker._state).__module__ == StateMachine.__module__, "pybreaker made the state by itself"
