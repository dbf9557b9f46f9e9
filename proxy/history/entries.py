"""What happened, as one JSON object an event: the words of the journal and of `GET /events`. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from health.outcome import OutcomeKind
from proxy import events
from proxy.history.evidence import evidence
from proxy.moments import rfc3339_of
from proxy.override import entry as override_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def is_sound(entry: Mapping[str, Any]) -> bool:
    """Whether it is an entry of ours, as a line of a file may not be that somebody has edited."""
    sound = _is_moment(entry.get("at")) and isinstance(entry.get("event"), str)
    return sound and (entry["event"] != "incident" or _is_incident(entry))


def _is_incident(entry: Mapping[str, Any]) -> bool:
    """Whether it has all that is shown of an incident, each in its kind."""
    trigger, tokens, models = entry.get("trigger"), entry.get("tokens"), entry.get("models")
    counts = ("switches", "requests_repaired", "requests_lost", "requests_served_by_backup")
    lengths = ("seconds_to_detect", "seconds_away", "seconds_to_return")
    return (
        all(isinstance(entry.get(key), str) for key in ("id", "from"))
        and _is_moment(entry.get("began_at"))
        and all(key in entry and (entry[key] is None or _is_moment(entry[key])) for key in _MOMENTS)
        and all(key in entry and isinstance(entry[key], str | None) for key in ("to", "ended_by"))
        and all(key in entry and isinstance(entry[key], int | float | None) for key in lengths)
        and all(isinstance(entry.get(key), int) for key in counts)
        and isinstance(models, list)
        and all(isinstance(model, str) for model in models)
        and isinstance(tokens, dict)
        and all(isinstance(tokens.get(key), int) for key in ("input", "output"))
        and isinstance(trigger, dict)
        and _is_trigger(trigger)
    )


_MOMENTS = ("ended_at", "first_bad_answer_at")


def _is_trigger(trigger: Mapping[str, Any]) -> bool:
    override, evidence = trigger.get("override"), trigger.get("evidence")
    return (
        isinstance(trigger.get("reason"), str)
        and {"override", "evidence"} <= trigger.keys()
        and isinstance(evidence, dict | None)
        and (override is None or (isinstance(override, dict) and _is_override(override)))
    )


def _is_override(override: Mapping[str, Any]) -> bool:
    return all(isinstance(override.get(key), str) for key in ("mode", "source")) and all(
        key in override and isinstance(override[key], str | None) for key in ("reason", "actor")
    )


def _is_moment(value: object) -> bool:
    """Whether it is a moment that another can be compared with."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
