"""Who serves a model, and in which order a request asks: override, circuits and the time in, a plan out.

Pure but for one memory, who served each model last, so that every change of it is told as one `Switch`. The names of
the upstreams and their order are given; nothing here knows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from health.breaker import CircuitOpen, CircuitState, TransitionReason
from proxy.events import RouteReason, Serving, Switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from health.breaker import CallRefused, CircuitBreaker
    from proxy.events import CircuitMoved, Event
    from proxy.override import Override


@dataclass(frozen=True, slots=True)
class Plan:
    """The upstreams to ask, first to last. A pinned first is asked even where its circuit says no."""

    order: tuple[str, ...]
    reason: RouteReason
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Active:
    """Who serves a model; `since` is Unix time in seconds."""

    model: str
    upstream: str
    reason: RouteReason
    since: float


def plan(order: Sequence[str], override: Override, key: bytes) -> Plan:
    """The plan of one request. `key` is its caller's: an override of a share holds for the same callers each time.

    An override moves one upstream to the front. The others stay behind it as the safety net: an override chooses who
    serves, it is no reason to lose a request.
    """
    if override.mode.value not in order or not override.applies_to(key):
        return Plan(tuple(order), RouteReason.PRIMARY)
    return preferring(order, override.mode.value, pinned=True)


def preferring(order: Sequence[str], upstream: str, *, pinned: bool) -> Plan:
    """The plan that asks `upstream` first; a pinned one whatever its circuit says."""
    return Plan((upstream, *(name for name in order if name != upstream)), RouteReason.OVERRIDE, pinned=pinned)


def refusal_reason(refusal: CallRefused) -> RouteReason:
    """How a caller is told that a circuit refused."""
    return trip_reason(refusal.reason) if isinstance(refusal, CircuitOpen) else RouteReason.THROTTLED


def trip_reason(reason: TransitionReason) -> RouteReason:
    """Why another upstream serves, when a circuit opened for `reason`."""
    return RouteReason.PROBE_DOWN if reason is TransitionReason.PROBE else RouteReason.CIRCUIT_OPEN


def active(
    order: Sequence[str], override: Override, circuits: Sequence[CircuitBreaker | None]
) -> tuple[str, RouteReason] | None:
    """Who serves now, given each upstream's circuit (None: never used, so well); None where no circuit is closed.

    Half-open is not serving: the trials go there, everything else does not.
    """
    if override.mode.value in order and override.percent >= 100:
        return override.mode.value, RouteReason.OVERRIDE
    reason = RouteReason.PRIMARY
    for name, circuit in zip(order, circuits, strict=True):
        if circuit is None or circuit.circuit_state is CircuitState.CLOSED:
            return name, reason
        if reason is RouteReason.PRIMARY and circuit.trip_reason is not None:
            reason = trip_reason(circuit.trip_reason)
    return None


class ActiveUpstreams:
    """Remembers who serves each model, and tells each change once."""

    def __init__(
        self,
        order: Sequence[str],
        circuits: Callable[[str], Sequence[CircuitBreaker | None]],
        emit: Callable[[Event], None],
    ) -> None:
        """`circuits(model)` gives a model's circuits in the same order as `order`."""
        self._order = tuple(order)
        self._circuits = circuits
        self._emit = emit
        self._by_model: dict[str, Active] = {}

    def __iter__(self) -> Iterator[Active]:
        return iter(self._by_model.values())

    def __contains__(self, model: str) -> bool:
        return model in self._by_model

    def __len__(self) -> int:
        return len(self._by_model)

    def review(
        self,
        override: Override,
        wall_now: float,
        models: Sequence[str] | None = None,
        *,
        cause: CircuitMoved | None = None,
    ) -> None:
        """Compare who serves with who served, for `models` or for all known ones. `wall_now` is Unix time.

        `cause` is what gave the occasion, where it was a circuit.
        """
        for model in models if models is not None else list(self._by_model):
            found = active(self._order, override, self._circuits(model))
            before = self._by_model.get(model)
            if found is None:
                # With every circuit open nobody can be said to have taken over.
                found = (self._order[0], RouteReason.PRIMARY) if before is None else (before.upstream, before.reason)
            upstream, reason = found
            if before is None:
                self._by_model[model] = Active(model, upstream, reason, wall_now)
                self._emit(Serving(wall_now, model, upstream, reason, partial(self.available, model)))
            elif before.upstream != upstream:
                self._by_model[model] = Active(model, upstream, reason, wall_now)
                self._emit(Switch(wall_now, model, before.upstream, upstream, reason, cause))
            elif before.reason is not reason:
                self._by_model[model] = Active(model, upstream, reason, before.since)

    def available(self, model: str) -> int:
        """How many upstreams have a closed circuit for `model`."""
        circuits = self._circuits(model)
        return sum(circuit is None or circuit.circuit_state is CircuitState.CLOSED for circuit in circuits)
