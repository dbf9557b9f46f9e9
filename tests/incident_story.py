"""Incidents on a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from health.config import BreakerConfig
from health.outcome import FailureReason, Outcome
from health.pace import NextProbe
from health.probe import ProbeResult
from health.transitions import CircuitState, Transition, TransitionReason
from proxy import events
from proxy.dialects.base import Usage
from proxy.events import RouteReason
from proxy.history.incidents import Incidents
from proxy.override import NO_OVERRIDE, Override

BAD = Outcome.failure(FailureReason.SERVER_ERROR)
START = datetime(2026, 11, 24, 3, tzinfo=UTC)


class Story:
    """Incidents on a clock that is turned by hand; times in seconds after three o'clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ahead = 0.0
        self.written: list[Mapping[str, Any]] = []
        self.override: Override = NO_OVERRIDE
        self.incidents = Incidents(
            "vertex",
            write=self.written.append,
            override=lambda: self.override,
            clock=lambda: self.now,
            wall_clock=lambda: START + timedelta(seconds=self.now + self.ahead),
        )
        self.incidents(events.ThresholdsSet(BreakerConfig(slow_call_seconds=1.5, window_size=10)))

    def at(self, seconds: float) -> Story:
        self.now = seconds
        return self

    def set_back(self, seconds: float) -> None:
        """Let the wall clock be corrected."""
        self.ahead -= seconds

    @property
    def unix(self) -> float:
        return START.timestamp() + self.now + self.ahead

    def answers(
        self, outcome: Outcome, upstream: str = "vertex", first_byte: float | None = None, model: str = "m"
    ) -> None:
        self.incidents(events.AttemptEnded(upstream, model, outcome, first_byte))

    def probe(self, outcome: Outcome, usage: Usage | None = None, upstream: str = "vertex") -> None:
        result = ProbeResult(upstream, "m", outcome, 0.0, 0.1, None, None, NextProbe(1.0, 1, False))
        self.incidents(events.Probed(self.unix, result, "", usage))

    def circuit(self, to_state: CircuitState, upstream: str = "vertex", model: str = "m") -> events.CircuitMoved:
        """A move of a circuit's; those out of the closed state rest on half of twenty calls."""
        before = CircuitState.CLOSED if to_state is CircuitState.OPEN else CircuitState.HALF_OPEN
        tripped = to_state is CircuitState.OPEN
        reason = TransitionReason.FAILURE_RATE if tripped else TransitionReason.TRIALS_PASSED
        moved = events.CircuitMoved(
            self.unix,
            upstream,
            model,
            Transition(self.now, before, to_state, reason, 20, 10, 0, 2, 0, BreakerConfig(), None, 1),
        )
        self.incidents(moved)
        return moved

    def override_changes(self, override: Override) -> None:
        before, self.override = self.override, override
        change = events.OverrideChange.CLEARED if override is NO_OVERRIDE else events.OverrideChange.SET
        self.incidents(events.OverrideChanged(self.unix, override, before, change))

    def loses(self, model: str = "m") -> None:
        self.incidents(events.RequestLost(model, "connect"))

    def repairs(self, model: str = "m") -> None:
        self.incidents(events.FailedOver(model, FailureReason.SERVER_ERROR))

    def switch(
        self,
        to: str,
        model: str = "m",
        reason: RouteReason = RouteReason.CIRCUIT_OPEN,
        cause: events.CircuitMoved | None = None,
    ) -> None:
        left = "claude" if to == "vertex" else "vertex"
        self.incidents(events.Switch(self.unix, model, left, to, reason, cause))

    def ended(self, upstream: str) -> None:
        self.incidents(events.RequestEnded(upstream, 200, 0.1, model="m"))

    @property
    def only(self) -> dict[str, Any]:
        (entry,) = self.incidents.entries
        return entry
