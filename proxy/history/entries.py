"""What happened, as one JSON object an event: the words of the journal and of `GET /events`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from health.outcome import OutcomeKind
from proxy import events
from proxy.history.evidence import evidence
from proxy.moments import rfc3339_of
from proxy.override import entry as override_entry

if TYPE_CHECKING:
    from proxy.events import Event


def entry_of(event: Event) -> dict[str, Any] | None:
    """The entry of an event that an operator would look for later; None for any other. `at` and `event` are in each."""
    match event:
        case events.Switch():
            return {"at": rfc3339_of(event.at), "event": "switch", **switch_entry(event)}
        case events.CircuitMoved():
            return _circuit("circuit", event)
        case events.WouldTrip():
            return _circuit("would_trip", event)
        case events.Probed():
            return {"at": rfc3339_of(event.at), "event": "probe", **_probe(event)}
        case events.OverrideChanged():
            return {
                "at": rfc3339_of(event.at),
                "event": "override",
                "change": event.change,
                "override": override_entry(event.override),
                "before": override_entry(event.before),
                "cleared_by": event.actor,
            }
        case events.OverrideExpiring():
            return {
                "at": rfc3339_of(event.at),
                "event": "override_expiring",
                "override": override_entry(event.override),
            }
        case events.Started():
            return {"at": rfc3339_of(event.at), "event": "started", "version": event.version}
        case events.ConfigReloaded():
            return {"at": rfc3339_of(event.at), "event": "config", "problems": list(event.problems)}
    return None


def is_verdict(event: Event) -> bool:
    """Whether an event is more than one probe of many that said the same."""
    return not isinstance(event, events.Probed) or event.result.verdict is not None


def switch_entry(switch: events.Switch) -> dict[str, Any]:
    """A switch but for its time; `evidence` is None where no circuit gave the occasion."""
    moved = switch.cause
    return {
        "model": switch.model,
        "from": switch.from_upstream,
        "to": switch.to_upstream,
        "reason": switch.reason,
        "evidence": None
        if moved is None
        else {
            "upstream": moved.upstream,
            "model": moved.model,
            "reason": moved.transition.reason,
            **evidence(moved.transition),
        },
    }


def _circuit(name: str, event: events.CircuitMoved | events.WouldTrip) -> dict[str, Any]:
    moved = event.transition
    return {
        "at": rfc3339_of(event.at),
        "event": name,
        "upstream": event.upstream,
        "model": event.model,
        "from_state": moved.from_state,
        "to_state": moved.to_state,
        "reason": moved.reason,
        "evidence": evidence(moved),
        "open_seconds": round(moved.open_until - moved.at, 3) if moved.open_until is not None else None,
    }


def _probe(event: events.Probed) -> dict[str, Any]:
    result = event.result
    ok = result.outcome.kind is OutcomeKind.OK
    return {
        "upstream": result.upstream,
        "model": result.model,
        "result": result.outcome.kind if ok or result.outcome.reason is None else result.outcome.reason,
        "detail": event.detail,
        "verdict": result.verdict,
        "seconds": round(result.duration, 4),
    }
