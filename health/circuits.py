"""The circuits that there are: one per upstream and model, and no more than a bounded number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from health.breaker import CircuitBreaker

OVERFLOW = "other"
"""The model of the circuit that the models beyond the limit share."""


class Circuits:
    """One circuit per upstream and model, so that a retired model does not trip the others.

    Model names come from callers, and each is a set of time series and a window in memory. So an upstream has at most
    `limit` circuits of single models, first come first served, and one more, `OVERFLOW`, for all the rest. Evicting
    the least used one would be bounded too, but would forget an outage just when its circuit keeps the traffic away.
    A model that is asked for at start-up, before any caller's, is sure of its place.
    """

    def __init__(self, make: Callable[[str, str, float], CircuitBreaker], *, limit: int) -> None:
        """`make(upstream, model, now)` makes a circuit when its first call comes."""
        self._make = make
        self._limit = limit
        self._circuits: dict[str, dict[str, CircuitBreaker]] = {}

    def get(self, upstream: str, model: str, now: float) -> CircuitBreaker:
        """The circuit that judges calls to `model` at `upstream`; made at `now` when there is none yet."""
        circuits = self._circuits.setdefault(upstream, {})
        if model not in circuits and len(circuits) >= self._limit:
            model = OVERFLOW
        if model not in circuits:
            circuits[model] = self._make(upstream, model, now)
        return circuits[model]

    def label(self, upstream: str, model: str) -> str:
        """The model of the circuit that judges calls to `model`: its own, or `OVERFLOW`."""
        return model if model in self._circuits.get(upstream, ()) else OVERFLOW

    def __iter__(self) -> Iterator[tuple[str, str, CircuitBreaker]]:
        """Each upstream, model and circuit, as they were when the iteration began."""
        return iter(
            [(upstream, model, circuit) for upstream, of in self._circuits.items() for model, circuit in of.items()]
        )

    def poll(self, now: float) -> None:
        """Make every circuit's timed transitions."""
        for _, _, circuit in self:
            circuit.poll(now)
