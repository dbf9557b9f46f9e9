"""What the admin listener knows, as one JSON value: who serves, why, since when, and what happened lately."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from health.circuits import OVERFLOW
from health.outcome import OutcomeKind
from health.transitions import CircuitState
from proxy.events import (
    ConfigReloaded,
    JournalFailed,
    OverrideFileRead,
    OverrideRejected,
    Probed,
    ProbesEnded,
    ProbeSkipped,
    Switch,
    ThresholdsSet,
)
from proxy.history.entries import switch_entry
from proxy.history.evidence import evidence, thresholds
from proxy.moments import rfc3339, rfc3339_of
from proxy.override import entry as override_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from health.breaker import CircuitBreaker
    from health.circuits import Circuits
    from health.pace import NextProbe
    from proxy.events import Event
    from proxy.override import Override
    from proxy.routing import ActiveUpstreams

_SWITCHES_KEPT = 100
_JOURNAL_FAILED_SECONDS = 900.0
"""How long a failure of the journal's file is told of. One that lasts is told anew with every try, seconds apart."""


@dataclass(frozen=True, slots=True)
class _Problem:
    at: datetime
    problems: tuple[str, ...]


class Status:
    """The hub's listener that remembers, and the snapshot for the admin listener."""

    def __init__(
        self,
        *,
        version: str,
        circuits: Circuits,
        active: ActiveUpstreams,
        override: Callable[[], Override],
        in_use: Callable[[str], Collection[str]],
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
    ) -> None:
        """`in_use(upstream)` names the models of the circuits of `upstream` that calls go to now."""
        self._version = version
        self._circuits = circuits
        self._active = active
        self._override = override
        self._in_use = in_use
        self._clock = clock
        self._wall_clock = wall_clock
        self._started_at = wall_clock()
        self._switches: deque[Switch] = deque(maxlen=_SWITCHES_KEPT)
        self._probes: dict[tuple[str, str], Probed] = {}
        self._failed_probes: dict[tuple[str, str], Probed] = {}
        self._next_probes: dict[tuple[str, str], NextProbe] = {}
        self._thresholds: dict[str, Any] = {}
        self._skipped: Counter[tuple[str, str]] = Counter()
        self._problems: dict[str, _Problem] = {}

    def __call__(self, event: Event) -> None:
        """Remember what the snapshot shows."""
        if isinstance(event, ThresholdsSet):
            self._thresholds = thresholds(event.config)
        elif isinstance(event, Switch):
            self._switches.append(event)
        elif isinstance(event, Probed):
            probe = (event.result.upstream, event.result.model)
            self._probes[probe] = event
            if event.result.outcome.kind not in (OutcomeKind.OK, OutcomeKind.THROTTLED, OutcomeKind.NEUTRAL):
                self._failed_probes[probe] = event
            self._next_probes[probe] = event.result.next_probe
        elif isinstance(event, ProbeSkipped):
            self._next_probes[event.upstream, event.model] = event.next_probe
            self._skipped[event.upstream, event.model] += 1
        elif isinstance(event, ProbesEnded):
            self._probes.clear()
            self._failed_probes.clear()
        else:
            self._operation(event)

    def _operation(self, event: Event) -> None:
        """What was given to the proxy and not taken, or not taken down."""
        match event:
            case OverrideRejected(problem=problem):
                self._problems["override_rejected"] = _Problem(self._wall_clock(), (problem,))
            case OverrideFileRead():
                self._problems.pop("override_rejected", None)
            case ConfigReloaded(problems=()):
                self._problems.pop("config_rejected", None)
            case ConfigReloaded(problems=problems):
                self._problems["config_rejected"] = _Problem(self._wall_clock(), problems)
            case JournalFailed(problem=problem):
                self._problems["journal_failed"] = _Problem(self._wall_clock(), (problem,))

    def snapshot(self) -> dict[str, Any]:
        """The value of /status.json; times are RFC 3339 in UTC."""
        return {
            "version": self._version,
            "started_at": rfc3339(self._started_at),
            "thresholds": self._thresholds,
            "override": override_entry(self._override()),
            "problems": self._problem_entries(),
            "circuits": self._circuit_entries(),
            "probes": [self._probe_entry(probed) for probed in self._probes.values()],
            "active": [
                {
                    "model": active.model,
                    "upstream": active.upstream,
                    "reason": active.reason,
                    "since": rfc3339_of(active.since),
                    "available": self._active.available(active.model),
                }
                for active in self._active
            ],
            "switches": [{"at": rfc3339_of(switch.at), **switch_entry(switch)} for switch in self._switches],
        }

    def _circuit_entries(self) -> list[dict[str, Any]]:
        now = self._clock()
        # The circuits live on a monotonic clock; people read the wall's.
        to_wall = self._wall_clock().timestamp() - now
        in_use = {name: self._in_use(name) for name in {name for name, _, _ in self._circuits}}
        entries = []
        for upstream, model, circuit in self._circuits:
            counts = circuit.counts(now)
            entries.append(
                {
                    "upstream": upstream,
                    "model": model,
                    "in_use": model == OVERFLOW or model in in_use[upstream],
                    "state": circuit.circuit_state,
                    "reason": circuit.trip_reason,
                    "since": rfc3339_of(circuit.since + to_wall),
                    "calls": counts.calls,
                    "failure_rate": counts.failure_rate,
                    "slow_rate": counts.slow_rate,
                    "admitted_ratio": circuit.admitted_share(now),
                    "spill_ratio": circuit.spilled_share(now),
                    "would_be": circuit.judged_state if circuit.config.observe_only else None,
                    "tripped_on": _trip(circuit),
                    "open_until": rfc3339_of(circuit.open_until + to_wall) if circuit.open_until is not None else None,
                }
            )
        return entries

    def _problem_entries(self) -> list[dict[str, Any]]:
        """What an operator must mend, by the log's word for it; `at` is when it was last seen."""
        now = self._wall_clock()
        return [
            {"event": event, "at": rfc3339(problem.at), "problems": list(problem.problems)}
            for event, problem in self._problems.items()
            if event != "journal_failed" or (now - problem.at).total_seconds() < _JOURNAL_FAILED_SECONDS
        ]

    def _probe_entry(self, probed: Probed) -> dict[str, Any]:
        result = probed.result
        probe = (result.upstream, result.model)
        next_probe = self._next_probes[probe]
        ok = result.outcome.kind is OutcomeKind.OK
        return {
            "upstream": result.upstream,
            "model": result.model,
            "up": result.up,
            "last_result": result.outcome.kind if ok or result.outcome.reason is None else result.outcome.reason,
            "last_at": rfc3339_of(probed.at),
            "duration_seconds": result.duration,
            "interval_seconds": next_probe.seconds,
            "budget_remaining": next_probe.budget_remaining,
            "skipped": self._skipped[probe],
            "last_failure": _failure(self._failed_probes.get(probe)),
        }


def _failure(probed: Probed | None) -> dict[str, Any] | None:
    """What the last probe that failed said; it stays when the next ones succeed."""
    if probed is None:
        return None
    outcome = probed.result.outcome
    return {"at": rfc3339_of(probed.at), "result": outcome.reason or outcome.kind, "detail": probed.detail}


def _trip(circuit: CircuitBreaker) -> dict[str, Any] | None:
    """What a circuit that is open went by when it opened."""
    trip = circuit.last_transition
    return evidence(trip) if trip is not None and circuit.judged_state is CircuitState.OPEN else None
