"""Observe-only: everything is judged, nothing is refused, and each trip is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from health.breaker import CircuitBreaker, CircuitListener, CircuitState, Transition, TransitionReason
from health.outcome import OK
from tests.unit.scene import FAILED, THROTTLED, Scene

if TYPE_CHECKING:
    import pybreaker


class Ear(CircuitListener):
    def __init__(self) -> None:
        self.trips: list[Transition] = []
        self.changes = 0

    def would_trip(self, cb: pybreaker.CircuitBreaker) -> None:
        assert isinstance(cb, CircuitBreaker)
        assert cb.last_transition is not None
        self.trips.append(cb.last_transition)

    def state_change(self, cb: object, old_state: object, new_state: object) -> None:
        self.changes += 1


def observed(**settings: Any) -> tuple[Scene, Ear]:
    scene, ear = Scene(observe_only=True, **settings), Ear()
    scene.breaker.add_listener(ear)
    return scene, ear


def test_an_outage_refuses_calls_or_is_told_more_than_once() -> None:
    scene, ear = observed()
    for _ in range(600):
        scene.calls(FAILED)
        scene.wait(0.1)
        scene.breaker.poll(scene.now)
        assert scene.state() is CircuitState.CLOSED
        assert scene.breaker.admits(scene.now)
        assert scene.breaker.admitted_share(scene.now) == 1.0
        scene.breaker.check(scene.now)
    (trip,) = ear.trips
    assert (trip.reason, trip.calls, trip.failed) == (TransitionReason.FAILURE_RATE, 10, 10)
    assert ear.changes == 0
    assert scene.breaker.stale_results == 0


def test_a_second_outage_is_not_told() -> None:
    scene, ear = observed(ramp_seconds=10.0)
    for _ in range(2):
        scene.calls(FAILED, 200)
        for _ in range(1000):
            scene.wait(0.1)
            scene.calls(OK)
        assert scene.breaker.judged_state is CircuitState.CLOSED
    assert len(ear.trips) == 2


def test_refusals_for_capacity_are_spilled() -> None:
    scene, _ = observed()
    scene.calls(THROTTLED, 100)
    assert scene.breaker.spilled_share(scene.now) == 0.0


def test_a_listener_that_raises_stops_the_observation() -> None:
    class Broken(CircuitListener):
        def would_trip(self, cb: pybreaker.CircuitBreaker) -> None:
            raise RuntimeError("broken")

    scene = Scene(observe_only=True)
    ear = Ear()
    scene.breaker.add_listeners(Broken(), ear)
    scene.calls(FAILED, 20)
    assert len(ear.trips) == 1
