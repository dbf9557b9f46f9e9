"""The one line that tells within five seconds what is wrong, the worst first. Pure: from the status to words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from proxy.admin.page.words import clock, evidence, name_of, percent, reason_of, upstream_of

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
    found += [*_throttled(status), *_lost(lost, lost_lately), *_rejected(status)]
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
    text = f"Override: {share} to {upstream_of(override['mode'])}{until}"
    detail = f"{who}{_cut(override['reason'] or 'no reason was given')} (by {_SOURCES[override['source']]})"
    if down := [name_of(one["model"]) for one in status["circuits"] if _is_down(one, override["mode"])]:
        text += f", whose circuit of {_and(down)} is not closed"
        detail += ". Each call is tried there all the same; what fails is asked of the other upstream."
    yield Finding(Level.WARNING, text, detail)


def _is_down(circuit: Mapping[str, Any], upstream: str) -> bool:
    return bool(circuit["upstream"] == upstream and circuit["in_use"] and circuit["state"] != "closed")


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
    if told := evidence(circuit):
        return f": {told}"
    return f" ({reason_of(circuit)})" if circuit["reason"] else ""


def _backup(status: Mapping[str, Any], backup: str) -> Iterator[Finding]:
    for circuit in status["circuits"]:
        # After a reload the circuit of an earlier backup stays as it was, and says nothing of the present one.
        if circuit["upstream"] == backup and circuit["state"] != "closed" and circuit["in_use"]:
            yield Finding(
                Level.WARNING,
                f"{upstream_of(backup)}, the backup, is not ready",
                f"The circuit of {name_of(circuit['model'])} is {circuit['state'].replace('_', '-')}{_trip(circuit)}.",
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
        if circuit["spill_ratio"] > 0.05 and circuit["in_use"]:
            yield Finding(
                Level.WARNING,
                f"{upstream_of(circuit['upstream'])} refuses calls of {name_of(circuit['model'])} for capacity",
                f"{percent(circuit['spill_ratio'])} of its calls go to the other upstream without a first try.",
            )


def _rejected(status: Mapping[str, Any]) -> Iterator[Finding]:
    """What an operator gave to the proxy, and believes to be in force or kept, and is not."""
    order = list(_PROBLEMS)
    for problem in sorted(status["problems"], key=lambda problem: order.index(problem["event"])):
        text, what_to_do = _PROBLEMS[problem["event"]]
        first, *others = problem["problems"]
        more = f" (and {len(others)} more)" if others else ""
        yield Finding(Level.WARNING, text, f"{clock(problem['at'])}: {_cut(first)}{more}. {what_to_do}")


_PROBLEMS = {
    "override_rejected": ("The override file is not obeyed", "Mend it, or delete it."),
    "config_rejected": (
        "The settings read last are not in force",
        "The earlier ones still are: mend what is named, and reload; what cannot change live needs a restart.",
    ),
    "journal_failed": (
        "The journal's file fails",
        "Requests are served as ever; what is not written is lost when the process ends. "
        "Make room, or give the file to the proxy's user.",
    ),
}
_LONGEST = 160


def _cut(text: str) -> str:
    """To what a line of the headline can hold; the rest stands in the card, or in the log."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _and(names: Sequence[str]) -> str:
    if len(names) > 2:
        return f"{names[0]} and {len(names) - 1} more models"
    return " and ".join(names)
