"""Permission to make one call, and what remembers how it went until the call is settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from health.outcome import Outcome

if TYPE_CHECKING:
    from health.breaker import CircuitBreaker


@dataclass(slots=True, eq=False)
class Permit:
    """One admitted call. Whoever acquired it settles it on every way out, cancellation and local faults included."""

    circuit: CircuitBreaker
    started_at: float
    """Seconds, on the clock of the `now` that the breaker was given."""
    generation: int
    """The circuit's when the call was admitted: a result from before a transition says nothing about the time after."""
    trial: bool
    settled: bool = False
    content_at: float | None = None
    place: int | None = None
    """The window's handle on the call, once it was found slow in flight and counted."""

    def content(self, now: float) -> None:
        """Mark the first byte of content, which ends the latency; later calls change nothing.

        Whether a stream succeeds is known at its end only, and by then its length says nothing about slowness.
        """
        if self.content_at is None:
            self.content_at = now

    def answered_at(self, now: float) -> float:
        """When the first content came; `now` while there is none."""
        return now if self.content_at is None else self.content_at

    def settle(self, outcome: Outcome, now: float) -> bool:
        """Hand the result to the circuit. Returns False, and does nothing, when the permit was settled before."""
        return self.circuit.settle(self, outcome, now)
