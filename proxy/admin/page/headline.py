"""The one line that tells within five seconds what is wrong, the worst first. Pure: from the status to words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from proxy.admin.page.words import clock, name_of, percent, upstream_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Level(StrEnum):
    """How bad it is. The values are words and class names of the page."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a reader must know; `detail` says why."""

    level: Level
    text: str
    detail: str = ""


def findings(status: Mapping[str, Any], primary: str, backup: str, lost: int, lost_lately: int) -> list[Finding]:
    """What is wrong, the worst first, or that nothing is.

    `lost` is of the last 15 minutes, `lost_lately` of the last minute: what is over should not hide what is.
    """
    found = [*_nobody(status), *_overridden(status), *_moved(status, primary), *_backup(status, backup)]
    found += [*_throttled(status), *_lost(lost, lost_lately)]
    if not found:
        return [_well(status, primary)]
    return sorted(found, key=lambda finding: finding.level is not Level.CRITICAL)


def _well(status: Mapping[str, Any], primary: str) -> Finding:
    if not status["active"]:
        return Finding(Level.OK, "Ready", "No request has come in yet.")
    return Finding(Level.OK, "All well", f"{upstream_of(primary)} serves every model.")


def _nobody(status: Mapping[str, Any]) -> Iterator[Finding]:
    models = [name_of(active["model"]) for active in status["active"] if not active["available"]]
    if models:
        yield Finding(
            Level.CRITICAL,
            f"No upstream is available for {_and(models)}",
            "Every circuit is open. Each request still asks all of them as a last resort; most are lost.",
        )


def _lost(lost: int, lost_lately: int) -> Iterator[Finding]:
    if lost:
        were = "request was" if lost == 1 else "requests were"
        lately = f"{lost_lately} of them in the last minute" if lost_lately else "none in the last minute"
        level = Level.CRITICAL if lost_lately else Level.WARNING
        yield Finding(level, f"{lost} {were} lost in the last 15 minutes", f"{lately.capitalize()}.")


def _overridden(status: Mapping[str, Any]) -> Iterator[Finding]:
    override = status["override"]
    if override["mode"] == "auto":
        return
    share = "everything" if override["percent"] >= 100 else f"{override['percent']:g} % of the callers"
    until = f" until {clock(override['expires_at'])}" if override["expires_at"] else ""
    who = f"{override['actor']}: " if override["actor"] else ""
    yield Finding(
        Level.WARNING,
        f"Override: {share} to {upstream_of(override['mode'])}{until}",
        f"{who}{override['reason'] or 'no reason was given'} (by {_SOURCES[override['source']]})",
    )


_SOURCES = {"environment": "the environment", "file": "the override file", "api": "the admin API"}


def _moved(status: Mapping[str, Any], primary: str) -> Iterator[Finding]:
    moved: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for active in status["active"]:
        if active["upstream"] != primary and active["reason"] != "override" and active["available"]:
            moved.setdefault((active["upstream"], active["reason"]), []).append(active)
    for (upstream, _), models in moved.items():
        since = min(active["since"] for active in models)
        yield Finding(
            Level.WARNING,
            f"{upstream_of(upstream)} serves {_and([name_of(active['model']) for active in models])} "
            f"since {clock(since)}",
            _why(status["circuits"], models[0]["model"], primary),
        )


def _why(circuits: Sequence[Mapping[str, Any]], model: str, primary: str) -> str:
    for circuit in circuits:
        if (circuit["upstream"], circuit["model"]) == (primary, model):
            state = {"open": "is open", "half_open": "tries calls again"}.get(circuit["state"], "has closed again")
            return f"{upstream_of(primary)}'s circuit {state}{_trip(circuit)}."
    return ""


def _trip(circuit: Mapping[str, Any]) -> str:
    """On what it opened, in numbers where they are known."""
    on = circuit["tripped_on"]
    if on is None:
        return _reason(circuit["reason"])
    match circuit["reason"]:
        case "consecutive_failures":
            return f": {on['consecutive_failures']} failures in a row"
        case "failure_rate":
            return f": {percent(on['failure_rate'])} of {on['calls']} calls failed"
        case "slow_rate":
            slow = on["thresholds"]["slow_call_seconds"]
            return f": {percent(on['slow_rate'])} of {on['calls']} calls took over {slow:g} s"
        case "probe" if on["failed_probes"]:
            return f": {on['failed_probes']} probes in a row failed"
        case reason:
            return _reason(reason)


def _reason(reason: str | None) -> str:
    return f" ({reason.replace('_', ' ')})" if reason else ""


def _backup(status: Mapping[str, Any], backup: str) -> Iterator[Finding]:
    for circuit in status["circuits"]:
        if circuit["upstream"] == backup and circuit["state"] != "closed":
            yield Finding(
                Level.WARNING,
                f"{upstream_of(backup)}, the backup, is not ready",
                f"The circuit of {name_of(circuit['model'])} is {circuit['state'].replace('_', '-')}"
                f"{_reason(circuit['reason'])}.",
            )
            return
    for probe in status["probes"]:
        if probe["upstream"] == backup and probe["up"] is False:
            yield Finding(
                Level.WARNING, f"{upstream_of(backup)}, the backup, is not ready", f"Probes say {probe['last_result']}."
            )
            return


def _throttled(status: Mapping[str, Any]) -> Iterator[Finding]:
    for circuit in status["circuits"]:
        if circuit["spill_ratio"] > 0.05:
            yield Finding(
                Level.WARNING,
                f"{upstream_of(circuit['upstream'])} refuses calls of {name_of(circuit['model'])} for capacity",
                f"{percent(circuit['spill_ratio'])} of its calls go to the other upstream without a first try.",
            )


def _and(names: Sequence[str]) -> str:
    if len(names) > 2:
        return f"{names[0]} and {len(names) - 1} more models"
    return " and ".join(names)
