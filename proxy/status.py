"""What the admin listener knows, as one JSON value: who serves, why, since when, and what happened lately."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from health.outcome import OutcomeKind
from proxy.events import Probed, ProbeSkipped, Switch
from proxy.evidence import evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from health.circuits import Circuits
    from health.pace import NextProbe
    from proxy.events import Event
    from proxy.override import Override
    from proxy.routing import ActiveUpstreams

_SWITCHES_KEPT = 100


class Status:
    """The hub's listener that remembers, and the snapshot for the admin listener."""

    def __init__(
        self,
        *,
        version: str,
        circuits: Circuits,
        active: ActiveUpstreams,
        override: Callable[[], Override],
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
    ) -> None:
        self._version = version
        self._circuits = circuits
        self._active = active
        self._override = override
        self._clock = clock
        self._wall_clock = wall_clock
        self._started_at = wall_clock()
        self._switches: deque[Switch] = deque(maxlen=_SWITCHES_KEPT)
        self._probes: dict[tuple[str, str], Probed] = {}
        self._next_probes: dict[tuple[str, str], NextProbe] = {}
        self._skipped: Counter[tuple[str, str]] = Counter()

    def __call__(self, event: Event) -> None:
        """Remember what the snapshot shows."""
        if isinstance(event, Switch):
            self._switches.append(event)
        elif isinstance(event, Probed):
            probe = (event.result.upstream, event.result.model)
            self._probes[probe] = event
            self._next_probes[probe] = event.result.next_probe
        elif isinstance(event, ProbeSkipped):
            self._next_probes[event.upstream, event.model] = event.next_probe
            self._skipped[event.upstream, event.model] += 1

    def snapshot(self) -> dict[str, Any]:
        """The value of /status.json; times are RFC 3339 in UTC."""
        return {
            "version": self._version,
            "started_at": _text(self._started_at),
            "override": self._override_entry(),
            "circuits": self._circuit_entries(),
            "probes": [self._probe_entry(probed) for probed in self._probes.values()],
            "active": [
                {
                    "model": active.model,
                    "upstream": active.upstream,
                    "reason": active.reason,
                    "since": _text_of(active.since),
                }
                for active in self._active
            ],
            "switches": [
                {
                    "at": _text_of(switch.at),
                    "model": switch.model,
                    "from": switch.from_upstream,
                    "to": switch.to_upstream,
                    "reason": switch.reason,
                    "evidence": _evidence(switch),
                }
                for switch in self._switches
            ],
        }

    def _override_entry(self) -> dict[str, Any]:
        override = self._override()
        return {
            "mode": override.mode,
            "source": override.source,
            "reason": override.reason,
            "actor": override.actor,
            "expires_at": _text(override.expires_at) if override.expires_at is not None else None,
            "percent": override.percent,
        }

    def _circuit_entries(self) -> list[dict[str, Any]]:
        now = self._clock()
        # The circuits live on a monotonic clock; people read the wall's.
        to_wall = self._wall_clock().timestamp() - now
        entries = []
        for upstream, model, circuit in self._circuits:
            counts = circuit.counts(now)
            entries.append(
                {
                    "upstream": upstream,
                    "model": model,
                    "state": circuit.circuit_state,
                    "reason": circuit.trip_reason,
                    "since": _text_of(circuit.since + to_wall),
                    "calls": counts.calls,
                    "failure_rate": counts.failure_rate,
                    "slow_rate": counts.slow_rate,
                    "admitted_ratio": circuit.admitted_share(now),
                    "spill_ratio": circuit.spilled_share(now),
                    "would_be": circuit.judged_state if circuit.config.observe_only else None,
                    "open_until": _text_of(circuit.open_until + to_wall) if circuit.open_until is not None else None,
                }
            )
        return entries

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
            "last_at": _text_of(probed.at),
            "duration_seconds": result.duration,
            "interval_seconds": next_probe.seconds,
            "budget_remaining": next_probe.budget_remaining,
            "skipped": self._skipped[probe],
        }


def _evidence(switch: Switch) -> dict[str, Any] | None:
    """What the circuit that caused a switch went by; None where an override did."""
    if (moved := switch.cause) is None:
        return None
    return {
        "upstream": moved.upstream,
        "model": moved.model,
        "reason": moved.transition.reason,
        **evidence(moved.transition),
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text_of(unix_seconds: float) -> str:
    return _text(datetime.fromtimestamp(unix_seconds, UTC))
