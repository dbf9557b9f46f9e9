"""What the tests of health/ share: a circuit on a clock that only the test moves, and what can come of a call."""

from __future__ import annotations

from typing import Any

import pybreaker
import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitOpen, CircuitState, Permit, Transition
from health.outcome import OK, FailureReason, Outcome
from health.probe import ProbeTracker
from health.window import Counts

FAILED = Outcome.failure(FailureReason.CONNECT)
MISCONFIGURED = Outcome.failure(FailureReason.NOT_FOUND)
THROTTLED = Outcome.failure(FailureReason.THROTTLED)
CLIENT_LEFT = Outcome.failure(FailureReason.CLIENT_LEFT)

PYBREAKERS = {CircuitState.CLOSED: "closed", CircuitState.OPEN: "open", CircuitState.HALF_OPEN: "half-open"}
"""The names that pybreaker's states have."""


class Scene:
    """A circuit without jitter, its clock, and verbs to drive both. `quiet` switches the rule of a row off."""

    def __init__(self, *, quiet: bool = True, random: float = 0.0, **settings: Any) -> None:
        defaults: dict[str, Any] = {"jitter": 0.0, "ramp_seconds": 0.0, "consecutive_failures": 0 if quiet else 5}
        self.now = 1000.0
        self.breaker = CircuitBreaker("c", BreakerConfig(**defaults | settings), now=self.now, random=lambda: random)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def start(self) -> Permit:
        return self.breaker.acquire(self.now)

    def end(self, permit: Permit, outcome: Outcome = OK) -> bool:
        return permit.settle(outcome, self.now)

    def calls(self, outcome: Outcome, times: int = 1, seconds: float = 0.0) -> None:
        for _ in range(times):
            permit = self.start()
            self.wait(seconds)
            self.end(permit, outcome)

    def insisted_calls(self, outcome: Outcome, times: int) -> None:
        """Calls that no throttle or ramp keeps back."""
        for _ in range(times):
            permit = self.breaker.insist(self.now)
            assert permit is not None
            self.end(permit, outcome)

    def trip(self) -> None:
        self.breaker.trip(self.now)

    def half_open(self) -> None:
        """Open, and wait until trials may begin."""
        self.trip()
        assert self.breaker.open_until is not None
        self.now = self.breaker.open_until + 0.001
        self.breaker.poll(self.now)

    def refusal(self) -> CircuitOpen:
        with pytest.raises(CircuitOpen) as caught:
            self.start()
        return caught.value

    def state(self) -> CircuitState:
        return self.breaker.circuit_state

    @property
    def counts(self) -> Counts:
        return self.breaker.counts(self.now)

    @property
    def last(self) -> Transition:
        assert self.breaker.last_transition is not None
        return self.breaker.last_transition


class Recorder(pybreaker.CircuitBreakerListener):
    """Each transition that a listener is told of, if all that it can see of it agrees.

    A circuit survives a listener that raises, so what does not agree shows as a transition that is missing from `seen`.
    """

    def __init__(self) -> None:
        self.seen: list[Transition] = []

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        assert isinstance(cb, CircuitBreaker)
        assert old_state is not None
        last = cb.last_transition
        assert last is not None
        assert cb.state is new_state
        assert (old_state.name, new_state.name) == (PYBREAKERS[last.from_state], PYBREAKERS[last.to_state])
        assert cb.current_state == new_state.name
        self.seen.append(last)


def tracker(*outcomes: Outcome) -> ProbeTracker:
    """One for which three failures are down and two successes up again, after these probes."""
    probes = ProbeTracker(fall=3, rise=2)
    for outcome in outcomes:
        probes.record(outcome)
    return probes
