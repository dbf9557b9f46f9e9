"""The circuits of one process, and who serves each model: what a plan is made from, and what moves the traffic.

It outlives every reading of the settings. It decides nothing by itself: health/ judges, routing.py plans.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from health.breaker import CircuitBreaker, CircuitListener
from health.circuits import OVERFLOW, Circuits
from health.config import BreakerConfig, WindowType
from health.transitions import CircuitState
from proxy import events, routing
from proxy.moments import rfc3339_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pybreaker

    from proxy.events import Event
    from proxy.override import Override
    from proxy.routing import Plan
    from proxy.settings import Settings
    from proxy.upstreams.base import Upstream

MODELS_KEPT = 64
_TRIAL_GRACE_SECONDS = 1.0
"""A trial that lasts as long as a request may is no hung one: it ends by its own limit, whatever timers are late by."""


class Switchboard:
    """One of them; a listener of the hub, for whatever may change who serves is a reason to look."""

    def __init__(
        self,
        order: Sequence[str],
        settings: Settings,
        emit: Callable[[Event], None],
        *,
        override: Callable[[], Override],
        clock: Callable[[], float],
        lag: Callable[[float, float], float],
    ) -> None:
        """`override()` is the one in effect; `order` names the upstreams, first to last. `use` must follow."""
        self._order = tuple(order)
        self._emit = emit
        self._override = override
        self._clock = clock
        self._lag = lag
        self._config = breaker_config(settings)
        self._upstreams: Mapping[str, Upstream] = {}
        self._probed_up: dict[tuple[str, str], bool | None] = {}
        self._throttled: set[tuple[str, str]] = set()
        self.circuits = Circuits(self._make_circuit, limit=MODELS_KEPT)
        self.active = routing.ActiveUpstreams(order, self._circuits_of, emit)

    def __call__(self, event: Event) -> None:
        """Look who serves now."""
        if isinstance(event, events.Probed):
            self._probed_up[event.result.upstream, event.result.model] = event.result.up
        elif isinstance(event, events.ProbesEnded):
            self._probed_up.clear()
        elif isinstance(event, events.CircuitMoved | events.OverrideChanged):
            cause = event if isinstance(event, events.CircuitMoved) else None
            self.active.review(self._override(), time.time(), cause=cause)

    def use(self, settings: Settings, upstreams: Mapping[str, Upstream]) -> None:
        """Judge by these settings from now on; the circuits stay as they are."""
        self._upstreams = upstreams
        self._config = breaker_config(settings)
        for _, _, circuit in self.circuits:
            circuit.reconfigure(self._config)
        self._emit(events.ThresholdsSet(self._config))
        # Another backup model has another circuit.
        self.active.review(self._override(), time.time())

    def plan(self, model: str, key: bytes) -> Plan:
        """The plan of one request for `model`, by a caller with this key."""
        override = self._override()
        if model not in self.active:
            # As the circuits, so that no caller can make time series without end.
            self.watch(model if len(self.active) < MODELS_KEPT else OVERFLOW)
        return routing.plan(self._order, override, key)

    def watch(self, model: str) -> None:
        """Know who serves `model` from now on."""
        if model not in self.active:
            self.active.review(self._override(), time.time(), [model])

    def circuit(self, upstream: str, model: str) -> CircuitBreaker:
        """The circuit that judges `model` at `upstream`."""
        return self.circuits.get(upstream, model, self._clock())

    def proven_dead(self, upstream: str) -> list[str]:
        """The circuits of `upstream` that are open, in words; those that only observe, too.

        One whose opening is over counts while its probes say down: without traffic it stays half-open, dead or not.
        """
        in_use = self.in_use(upstream)
        to_wall = time.time() - self._clock()
        return [
            f"the circuit of {name}/{model} is {circuit.judged_state.replace('_', '-')} ({circuit.trip_reason}) "
            f"since {rfc3339_of(circuit.since + to_wall)}"
            for name, model, circuit in self.circuits
            if name == upstream and model in in_use and self._is_dead(name, model, circuit)
        ]

    def in_use(self, upstream: str) -> set[str]:
        """The models of the circuits of `upstream` that calls go to now: after a reload a backup model may be not."""
        # The present backup model counts before any model is asked for.
        models = ("", *(one.model for one in self.active))
        return {self._upstreams[upstream].circuit_model(model) for model in models}

    def _is_dead(self, upstream: str, model: str, circuit: CircuitBreaker) -> bool:
        if circuit.judged_state is CircuitState.HALF_OPEN:
            return self._probed_up.get((upstream, model)) is False
        return circuit.judged_state is CircuitState.OPEN

    def poll(self) -> None:
        """Let happen what only time makes happen."""
        now = self._clock()
        self.circuits.poll(now)
        for upstream, model, circuit in self.circuits:
            spilled = circuit.spilled_share(now)
            if (throttled := spilled > 0) is not ((upstream, model) in self._throttled):
                (self._throttled.add if throttled else self._throttled.discard)((upstream, model))
                accepted = circuit.admission.throttle.accept_ratio(now)
                self._emit(events.ThrottleChanged(upstream, model, throttled, spilled, accepted))

    def _circuits_of(self, model: str) -> list[CircuitBreaker]:
        return [self.circuit(name, self._upstreams[name].circuit_model(model)) for name in self._order]

    def _make_circuit(self, upstream: str, model: str, now: float) -> CircuitBreaker:
        listener = _CircuitListener(upstream, model, self._emit)
        circuit = CircuitBreaker(f"{upstream}/{model}", self._config, now=now, lag=self._lag, listeners=[listener])
        self._emit(events.CircuitCreated(upstream, model, circuit))
        return circuit


class _CircuitListener(CircuitListener):
    """Tells the hub of a circuit's transitions."""

    def __init__(self, upstream: str, model: str, emit: Callable[[Event], None]) -> None:
        self._upstream = upstream
        self._model = model
        self._emit = emit

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: object, new_state: object) -> None:
        assert isinstance(cb, CircuitBreaker)
        assert cb.last_transition is not None
        self._emit(events.CircuitMoved(time.time(), self._upstream, self._model, cb.last_transition))

    def would_trip(self, cb: pybreaker.CircuitBreaker) -> None:
        assert isinstance(cb, CircuitBreaker)
        assert cb.last_transition is not None
        self._emit(events.WouldTrip(time.time(), self._upstream, self._model, cb.last_transition))


def breaker_config(settings: Settings) -> BreakerConfig:
    """What circuits judge by, from the settings."""
    breaker = settings.breaker
    return BreakerConfig(
        window_type=WindowType.COUNT if breaker.window_calls else WindowType.TIME,
        window_size=breaker.window_calls or breaker.window_seconds,
        minimum_calls=breaker.minimum_calls,
        failure_rate_threshold=breaker.failure_rate_threshold,
        slow_call_seconds=breaker.slow_call_seconds,
        slow_rate_threshold=breaker.slow_rate_threshold,
        consecutive_failures=breaker.consecutive_failures,
        open_seconds=breaker.open_seconds,
        open_multiplier=breaker.open_multiplier,
        max_open_seconds=breaker.max_open_seconds,
        trial_calls=breaker.trial_calls,
        ramp_seconds=breaker.ramp_seconds,
        observe_only=breaker.observe_only,
        trial_seconds=settings.timeouts.total_seconds + _TRIAL_GRACE_SECONDS,
    )
