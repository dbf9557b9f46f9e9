"""Everything that Prometheus sees, made from the hub's events. The only module that imports prometheus_client.

Label sets are made in full from the enums when a circuit, a probe or a model appears, so that `increase()` sees the
first event of each. The registry is the process's own: no collector of the library's default one stands in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from health.outcome import KINDS, FailureReason, OutcomeKind
from health.transitions import TRANSITIONS, CircuitState
from proxy import events
from proxy.events import NO_UPSTREAM, RouteReason
from proxy.override import OverrideMode, OverrideSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from health.pace import NextProbe

# Seconds. Completions are satisfying under one second and useless after five.
_BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 30.0)
_ANSWERED = ("200", "400", "401", "403", "404", "413", "429", "500", "502", "503", "504")
_TOKEN_KINDS = ("input", "output")
_CIRCUIT = ("upstream", "model")


class Metrics:
    """The hub's listener that counts."""

    def __init__(
        self,
        upstreams: Sequence[str],
        version: str,
        clock: Callable[[], float],
    ) -> None:
        """`clock` is that of the circuits, whose ratios each scrape reads."""
        # A `_created` beside every counter would double the series and tells nothing that a scrape does not.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._upstreams = tuple(upstreams)
        self._clock = clock
        self._make_requests()
        self._make_circuits()
        self._make_switches()
        self._make_probes()
        self._make_operations()
        self._set_up()
        self._build_info.labels(version).set(1)
        self._handlers: dict[type[events.Event], Callable[..., None]] = {
            events.Switch: self._on_switch,
            events.Serving: self._on_serving,
            events.CircuitCreated: self._on_circuit_created,
            events.CircuitMoved: self._on_circuit_moved,
            events.WouldTrip: self._on_would_trip,
            events.CapacityRefused: lambda event: self._refusals.labels(event.upstream, event.model).inc(),
            events.Spilled: lambda event: self._spills.labels(event.upstream, event.model).inc(),
            events.StaleResult: self._on_stale_result,
            events.ProbeStarted: self._on_probe_started,
            events.ProbesEnded: self._on_probes_ended,
            events.Probed: self._on_probed,
            events.ProbeSkipped: self._on_probe_skipped,
            events.OverrideChanged: self._on_override,
            events.FlagFailed: lambda event: self._flag_failures.labels(event.reason).inc(),
            events.ThresholdsSet: self._on_thresholds,
            events.Started: lambda event: self._on_config_read(event.at, in_force=True),
            events.ConfigReloaded: lambda event: self._on_config_read(event.at, in_force=not event.problems),
            events.JournalFailed: lambda _: self._journal_failures.inc(),
            events.AttemptEnded: self._on_attempt,
            events.FailedOver: lambda event: self._failovers.labels(event.reason).inc(),
            events.RequestLost: lambda event: self._lost.labels(event.reason).inc(),
            events.RequestStarted: lambda _: self._in_flight.inc(),
            events.RequestEnded: self._on_request,
            events.TokensUsed: self._on_tokens,
            events.LoopLagged: lambda event: self._loop_lag.inc(event.seconds),
        }

    def __call__(self, event: events.Event) -> None:
        """Count one event."""
        if (handler := self._handlers.get(type(event))) is not None:
            handler(event)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"completion_proxy_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"completion_proxy_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"completion_proxy_{name}", text, labels, registry=self.registry, buckets=_BUCKETS)

    def _make_requests(self) -> None:
        self._requests = self._counter("requests_total", "Requests answered, by who served them.", "upstream", "code")
        self._duration = self._histogram(
            "request_duration_seconds", "From the request's first byte to the end.", "upstream"
        )
        self._in_flight = self._gauge("requests_in_flight", "Requests that are being served.")
        self._attempts = self._counter("upstream_attempts_total", "Attempts at an upstream.", "upstream", "outcome")
        self._failures = self._counter("upstream_failures_total", "Attempts that failed.", "upstream", "reason")
        self._first_byte = self._histogram(
            "upstream_time_to_first_byte_seconds", "From asking an upstream to its first content.", "upstream"
        )
        self._tokens = self._counter("tokens_total", "Tokens as the upstream counted them.", "upstream", "kind")
        self._loop_lag = self._counter(
            "event_loop_lag_seconds_total", "Seconds for which the event loop was late beyond the tolerance."
        )
        self._build_info = self._gauge("build_info", "The version that runs.", "version")

    def _make_circuits(self) -> None:
        self._state = self._gauge(
            "breaker_state", "1 for the circuit's present state, 0 for the others.", *_CIRCUIT, "state"
        )
        self._transitions = self._counter(
            "breaker_transitions_total", "Changes of a circuit's state.", *_CIRCUIT, "from_state", "to_state", "reason"
        )
        self._failure_ratio = self._gauge("breaker_failure_ratio", "Share of failed calls in the window.", *_CIRCUIT)
        self._slow_ratio = self._gauge("breaker_slow_ratio", "Share of slow calls in the window.", *_CIRCUIT)
        self._would_trip = self._counter(
            "breaker_would_trip_total", "Trips that BREAKER__OBSERVE_ONLY kept from happening.", *_CIRCUIT, "reason"
        )
        self._admitted = self._gauge("breaker_admitted_ratio", "Share of calls that the circuit lets pass.", *_CIRCUIT)
        self._spill_ratio = self._gauge("throttle_spill_ratio", "Share of calls not tried, for refusals.", *_CIRCUIT)
        self._accept_ratio = self._gauge("throttle_accept_ratio", "Share of calls accepted of those tried.", *_CIRCUIT)
        self._refusals = self._counter(
            "throttle_refusals_total", "Calls refused for capacity by the upstream.", *_CIRCUIT
        )
        self._spills = self._counter("throttle_spills_total", "Calls not tried, for refusals of others.", *_CIRCUIT)
        self._stale = self._counter(
            "breaker_stale_results_total", "Results of an earlier state, not counted.", *_CIRCUIT
        )

    def _make_switches(self) -> None:
        self._switches = self._counter(
            "switches_total", "Times that a model moved to another upstream.", "model", "from_upstream", "to_upstream",
            "reason",
        )  # fmt: skip
        self._switched_at = self._gauge(
            "switch_last_timestamp_seconds", "When a model last moved to this upstream.", "model", "to_upstream"
        )
        self._active = self._gauge("active_upstream", "1 for the upstream that serves the model.", "model", "upstream")
        self._failovers = self._counter("failovers_total", "Requests repaired within the request.", "reason")
        self._lost = self._counter(
            "requests_lost_total", "Requests that no upstream could serve, or that broke off half-way.", "reason"
        )
        self._available = self._gauge(
            "available_upstreams", "Upstreams that have a closed circuit for the model.", "model"
        )

    def _make_probes(self) -> None:
        self._probe_success = self._gauge("probe_success", "1 if the last probe succeeded.", *_CIRCUIT)
        self._probes = self._counter("probes_total", "Probes.", *_CIRCUIT, "result")
        self._probe_duration = self._gauge("probe_duration_seconds", "How long the last probe took.", *_CIRCUIT)
        self._probed_at = self._gauge("probe_last_run_timestamp_seconds", "When the last probe ended.", *_CIRCUIT)
        self._probes_skipped = self._counter(
            "probes_skipped_total", "Probes that fresh traffic made needless.", *_CIRCUIT
        )
        self._probe_interval = self._gauge("probe_interval_seconds", "The wait until the next probe.", *_CIRCUIT)
        self._probe_budget = self._gauge("probe_budget_remaining", "Probes left of the day's budget.", *_CIRCUIT)
        self._probe_tokens = self._counter(
            "probe_tokens_total", "Tokens of tokens_total that probes cost.", *_CIRCUIT, "kind"
        )

    def _make_operations(self) -> None:
        self._override = self._gauge("override_mode", "1 for the mode in force.", "mode")
        self._override_expires = self._gauge(
            "override_expires_timestamp_seconds", "When the override ends; 0 for never."
        )
        self._override_percent = self._gauge("override_percent", "Share of the callers that it holds for, 0 to 100.")
        self._override_changes = self._counter(
            "override_changes_total", "Overrides set, cleared and expired.", "source", "change"
        )
        self._flag_failures = self._counter(
            "override_flag_failures_total", "Feature flags that could not be asked.", "reason"
        )
        self._journal_failures = self._counter(
            "journal_write_failures_total", "Times that the journal was not written."
        )
        self._reloaded = self._gauge("config_last_reload_successful", "1 if the settings last read are in force.")
        self._reloaded_at = self._gauge("config_last_reload_timestamp_seconds", "When the settings were last read.")
        self._failure_threshold = self._gauge("breaker_failure_rate_threshold", "Failure ratio that opens a circuit.")
        self._slow_threshold = self._gauge("breaker_slow_rate_threshold", "Slow ratio that opens a circuit.")
        self._slow_seconds = self._gauge(
            "breaker_slow_call_seconds", "A call is slow whose first content takes longer."
        )

    def _set_up(self) -> None:
        for upstream in self._upstreams:
            self._duration.labels(upstream)
            self._first_byte.labels(upstream)
            for kind in OutcomeKind:
                self._attempts.labels(upstream, kind)
            for reason in KINDS:
                self._failures.labels(upstream, reason)
            for token_kind in _TOKEN_KINDS:
                self._tokens.labels(upstream, token_kind)
            for code in _ANSWERED:
                self._requests.labels(upstream, code)
        self._duration.labels(NO_UPSTREAM)
        for code in ("400", "401", "404", "408", "413", "499", "500", "503", "504"):
            self._requests.labels(NO_UPSTREAM, code)
        for reason in FailureReason:
            self._failovers.labels(reason)
            self._lost.labels(reason)
        self._lost.labels("internal")
        for mode in OverrideMode:
            self._override.labels(mode).set(mode is OverrideMode.AUTO)
        for source in OverrideSource:
            if source is not OverrideSource.NONE:
                for change in events.OverrideChange:
                    self._override_changes.labels(source, change)
        for failure in events.FlagFailure:
            self._flag_failures.labels(failure)

    def _on_request(self, event: events.RequestEnded) -> None:
        self._in_flight.dec()
        self._requests.labels(event.upstream, str(event.code)).inc()
        self._duration.labels(event.upstream).observe(event.seconds)

    def _on_attempt(self, event: events.AttemptEnded) -> None:
        self._attempts.labels(event.upstream, event.outcome.kind).inc()
        if event.outcome.reason is not None:
            self._failures.labels(event.upstream, event.outcome.reason).inc()
        if event.seconds_to_first_byte is not None:
            self._first_byte.labels(event.upstream).observe(event.seconds_to_first_byte)

    def _on_tokens(self, event: events.TokensUsed) -> None:
        self._tokens.labels(event.upstream, "input").inc(event.usage.input_tokens)
        self._tokens.labels(event.upstream, "output").inc(event.usage.output_tokens)

    def _on_circuit_created(self, event: events.CircuitCreated) -> None:
        circuit = (event.upstream, event.model)
        for state in CircuitState:
            self._state.labels(*circuit, state).set(state is CircuitState.CLOSED)
        for (from_state, to_state), reasons in TRANSITIONS.items():
            for reason in reasons:
                self._transitions.labels(*circuit, from_state, to_state, reason)
        for reason in TRANSITIONS[CircuitState.CLOSED, CircuitState.OPEN]:
            self._would_trip.labels(*circuit, reason)
        for counted in (self._stale, self._refusals, self._spills):
            counted.labels(*circuit)
        breaker, clock = event.circuit, self._clock
        throttle = breaker.admission.throttle
        self._failure_ratio.labels(*circuit).set_function(lambda: breaker.counts(clock()).failure_rate)
        self._slow_ratio.labels(*circuit).set_function(lambda: breaker.counts(clock()).slow_rate)
        self._admitted.labels(*circuit).set_function(lambda: breaker.admitted_share(clock()))
        self._spill_ratio.labels(*circuit).set_function(lambda: breaker.spilled_share(clock()))
        self._accept_ratio.labels(*circuit).set_function(lambda: throttle.accept_ratio(clock()))

    def _on_circuit_moved(self, event: events.CircuitMoved) -> None:
        moved = event.transition
        for state in CircuitState:
            self._state.labels(event.upstream, event.model, state).set(state is moved.to_state)
        self._transitions.labels(event.upstream, event.model, moved.from_state, moved.to_state, moved.reason).inc()

    def _on_would_trip(self, event: events.WouldTrip) -> None:
        self._would_trip.labels(event.upstream, event.model, event.transition.reason).inc()

    def _on_stale_result(self, event: events.StaleResult) -> None:
        self._stale.labels(event.upstream, event.model).inc()

    def _on_serving(self, event: events.Serving) -> None:
        self._available.labels(event.model).set_function(event.available)
        for upstream in self._upstreams:
            self._active.labels(event.model, upstream).set(upstream == event.upstream)
            self._switched_at.labels(event.model, upstream)
            for other in self._upstreams:
                if other != upstream:
                    for reason in RouteReason:
                        self._switches.labels(event.model, upstream, other, reason)

    def _on_switch(self, event: events.Switch) -> None:
        for upstream in self._upstreams:
            self._active.labels(event.model, upstream).set(upstream == event.to_upstream)
        self._switches.labels(event.model, event.from_upstream, event.to_upstream, event.reason).inc()
        self._switched_at.labels(event.model, event.to_upstream).set(event.at)

    def _on_probe_started(self, event: events.ProbeStarted) -> None:
        # Neither 0 nor 1 before the first result: an alert on 0 must not fire at every start.
        self._probe_success.labels(event.upstream, event.model).set(math.nan)
        for kind in OutcomeKind:
            self._probes.labels(event.upstream, event.model, kind)
        for gauge in (self._probe_interval, self._probe_budget):
            gauge.labels(event.upstream, event.model).set(math.nan)
        self._probes_skipped.labels(event.upstream, event.model)
        for token_kind in _TOKEN_KINDS:
            self._probe_tokens.labels(event.upstream, event.model, token_kind)

    def _on_probes_ended(self, _: events.ProbesEnded) -> None:
        # What is probed no more must not go on saying what it said last; what was counted stays counted.
        for gauge in (
            self._probe_success,
            self._probe_duration,
            self._probed_at,
            self._probe_interval,
            self._probe_budget,
        ):
            gauge.clear()

    def _on_probed(self, event: events.Probed) -> None:
        result = event.result
        probe = (result.upstream, result.model)
        self._probe_success.labels(*probe).set(result.outcome.kind is OutcomeKind.OK)
        self._probes.labels(*probe, result.outcome.kind).inc()
        self._probe_duration.labels(*probe).set(result.duration)
        self._probed_at.labels(*probe).set(event.at)
        self._plan_probe(*probe, result.next_probe)
        if event.usage is not None:
            self._probe_tokens.labels(*probe, "input").inc(event.usage.input_tokens)
            self._probe_tokens.labels(*probe, "output").inc(event.usage.output_tokens)

    def _on_probe_skipped(self, event: events.ProbeSkipped) -> None:
        self._probes_skipped.labels(event.upstream, event.model).inc()
        self._plan_probe(event.upstream, event.model, event.next_probe)

    def _plan_probe(self, upstream: str, model: str, next_probe: NextProbe) -> None:
        self._probe_interval.labels(upstream, model).set(next_probe.seconds)
        self._probe_budget.labels(upstream, model).set(next_probe.budget_remaining)

    def _on_override(self, event: events.OverrideChanged) -> None:
        override = event.override
        for mode in OverrideMode:
            self._override.labels(mode).set(mode is override.mode)
        self._override_expires.set(override.expires_at.timestamp() if override.expires_at is not None else 0)
        self._override_percent.set(0 if override.mode is OverrideMode.AUTO else override.percent)
        said_by = override if event.change is events.OverrideChange.SET else event.before
        self._override_changes.labels(said_by.source, event.change).inc()

    def _on_thresholds(self, event: events.ThresholdsSet) -> None:
        self._failure_threshold.set(event.config.failure_rate_threshold)
        self._slow_threshold.set(event.config.slow_rate_threshold)
        self._slow_seconds.set(event.config.slow_call_seconds)

    def _on_config_read(self, at: float, *, in_force: bool) -> None:
        self._reloaded.set(in_force)
        self._reloaded_at.set(at)
