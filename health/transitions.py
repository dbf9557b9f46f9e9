"""The states of a circuit, and every way from one to another, as one table.

A circuit is CLOSED (calls pass and are counted), OPEN (calls are refused) or HALF_OPEN (a few trials pass, the rest are
refused). Nothing else is a state: an operator's override stands beside the breaker, and so does the ramp after closing,
for a circuit whose calls are all judged is closed, however few of them it lets pass.

    CLOSED → OPEN        The evidence is in the window (a rate), in a row of failures (too little traffic for a rate),
                         or in the probe (no traffic at all). A success can trip too: it may be the call that fills the
                         window up to its minimum, or a slow one.
    OPEN → HALF_OPEN     Time has passed, or the probe saw the upstream answer before that. Neither is proof: a probe
                         is one small call from one place, so it may only let the trials begin.
    HALF_OPEN → OPEN     The trials failed by the same rates, one of them hangs, or the probes say down and no
                         traffic says otherwise. The backoff grows.
    HALF_OPEN → CLOSED   The trials passed. Real traffic alone closes a circuit.

What is not in the table cannot happen. CLOSED → HALF_OPEN would ration a healthy upstream on no evidence and leave
nothing to say why; OPEN → CLOSED would send it the whole load untried, at its weakest moment. A move to the state that
the circuit is in is no transition: it restarts no clock and tells nobody, or late failures would keep a circuit open
for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from health.window import Counts

if TYPE_CHECKING:
    from health.config import BreakerConfig


class CircuitState(StrEnum):
    """What a circuit does with calls. The values are label values."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class TransitionReason(StrEnum):
    """Why a circuit changed its state. The values are label values.

    When several reasons to trip hold at once, the first of FAILURE_RATE, SLOW_RATE, CONSECUTIVE_FAILURES is named: a
    rate rests on more calls than a row does, and a failure says more than slowness.
    """

    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_rate"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    PROBE = "probe"
    """The probe found the upstream down."""
    TRIALS_FAILED = "trials_failed"
    TRIALS_TIMED_OUT = "trials_timed_out"
    OPEN_ELAPSED = "open_elapsed"
    PROBE_RECOVERED = "probe_recovered"
    """The probe found the upstream answering, before the time was up."""
    TRIALS_PASSED = "trials_passed"


TRANSITIONS: dict[tuple[CircuitState, CircuitState], frozenset[TransitionReason]] = {
    (CircuitState.CLOSED, CircuitState.OPEN): frozenset(
        {
            TransitionReason.FAILURE_RATE,
            TransitionReason.SLOW_RATE,
            TransitionReason.CONSECUTIVE_FAILURES,
            TransitionReason.PROBE,
        }
    ),
    (CircuitState.OPEN, CircuitState.HALF_OPEN): frozenset(
        {TransitionReason.OPEN_ELAPSED, TransitionReason.PROBE_RECOVERED}
    ),
    (CircuitState.HALF_OPEN, CircuitState.OPEN): frozenset(
        {TransitionReason.TRIALS_FAILED, TransitionReason.TRIALS_TIMED_OUT, TransitionReason.PROBE}
    ),
    (CircuitState.HALF_OPEN, CircuitState.CLOSED): frozenset({TransitionReason.TRIALS_PASSED}),
}


class IllegalTransitionError(RuntimeError):
    """The breaker asked for a transition that the table lacks: its own bug, never the caller's or the upstream's."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, with the evidence as it stood at that moment."""

    at: float
    """Seconds, on the clock of the `now` that the breaker was given."""
    from_state: CircuitState
    to_state: CircuitState
    reason: TransitionReason
    calls: int
    failed: int
    slow: int
    """What the window held: calls when closed, results of trials when half-open; no results are taken when open."""
    consecutive_failures: int
    """The row of failures that stood."""
    failed_probes: int
    """The probes in a row that failed; 0 where no probe had a part in it."""
    config: BreakerConfig
    """The thresholds that all of it was held against."""
    open_until: float | None
    """When the opening ends, on the same clock; None when the circuit does not open."""
    attempt: int
    """The number of openings that the backoff remembers."""

    @property
    def failure_rate(self) -> float:
        """The share of calls that failed, 0 to 1."""
        return Counts(self.calls, self.failed, self.slow).failure_rate

    @property
    def slow_rate(self) -> float:
        """The share of calls that were slow, 0 to 1."""
        return Counts(self.calls, self.failed, self.slow).slow_rate


def ensure_legal(from_state: CircuitState, to_state: CircuitState, reason: TransitionReason) -> None:
    """Raise IllegalTransitionError unless the table has this transition for this reason."""
    if reason not in TRANSITIONS.get((from_state, to_state), ()):
        raise IllegalTransitionError(f"{from_state} to {to_state} for {reason} is no transition of a circuit")
