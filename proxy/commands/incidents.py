"""`completion-proxy incidents`: what happened, in a line each, or as the draft of a post-mortem."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from proxy.commands.client import NoAnswer, ask
from proxy.moments import in_words
from proxy.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_AROUND = timedelta(minutes=1)
"""What the journal holds so shortly before and after an incident belongs to its story."""


async def show_incidents(
    url: str,
    say: Callable[[str], None],
    complain: Callable[[str], None],
    *,
    markdown: bool,
    chosen: str | None,
) -> int:
    """Write every incident in a line, the newest first; or the draft of one, of the newest if none is chosen.

    Returns 0, or 1 where the proxy cannot be asked or knows no such incident.
    """
    try:
        incidents = (await ask(url, "/incidents"))["incidents"]
        entries = (await ask(url, "/journal"))["entries"] if markdown else []
    except NoAnswer as failure:
        complain(str(failure))
        return 1
    if chosen is not None:
        incidents = [incident for incident in incidents if incident["id"] == chosen]
        if not incidents:
            complain(f"there is no incident {chosen}; `completion-proxy incidents` lists them")
            return 1
    if not incidents:
        say("no incidents\n")
        return 0
    if markdown:
        say("".join(f"{printable(line)}\n" for line in _draft(incidents[-1], entries)))
    else:
        say("".join(f"{printable(_line(incident))}\n" for incident in reversed(incidents)))
    return 0


def _line(incident: Mapping[str, Any]) -> str:
    to = incident["to"] or "nobody"
    models = ", ".join(incident["models"]) or "no model"
    return (
        f"{incident['id']}  {_length(incident)}  {incident['from']} to {to} ({incident['trigger']['reason']}), "
        f"{models}: {incident['requests_repaired']} repaired, {incident['requests_lost']} lost, "
        f"{incident['requests_served_by_backup']} served by the backup"
    )


def _length(incident: Mapping[str, Any]) -> str:
    if incident["ended_at"] is None:
        return "still on"
    length = datetime.fromisoformat(incident["ended_at"]) - datetime.fromisoformat(incident["began_at"])
    return in_words(length)


def _models(incident: Mapping[str, Any]) -> str:
    return ", ".join(map(_plain, incident["models"])) or "no model"


def _draft(incident: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    to = incident["to"] or "nobody"
    yield f"# Completions moved from {incident['from']} to {to} on {incident['began_at'][:10]}"
    yield ""
    yield "## Summary"
    yield ""
    yield f"{_summary(incident)}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in _facts(incident):
        yield f"| {name} | {value} |"
    yield ""
    yield "## Trigger"
    yield ""
    yield from _trigger(incident["trigger"])
    yield ""
    yield "## Timeline (UTC)"
    yield ""
    story = [(entry["at"], _told_of(entry)) for entry in _story(incident, entries)]
    if incident["first_bad_answer_at"] is not None:
        story.append((incident["first_bad_answer_at"], f"first bad answer of {incident['from']}"))
    for at, told in sorted(story, key=lambda one: one[0]):
        yield f"- {_clock(at)} {told}"
    yield ""
    for heading in ("Cause", "What went well", "What went wrong", "Actions"):
        yield f"## {heading}"
        yield ""
        yield "_To be written._"
        yield ""


def _summary(incident: Mapping[str, Any]) -> str:
    ends = {
        None: "It is not over.",
        "return": f"Traffic returned after {_length(incident)}.",
        "quiet": f"It went quiet after {_length(incident)}: nothing more was lost, or nobody asked any more.",
        "override": f"An override moved the traffic back after {_length(incident)}.",
        "restart": f"The process was restarted after {_length(incident)}, while it was still on.",
    }
    end = ends.get(incident["ended_by"], f"It ended after {_length(incident)}.")
    lost = incident["requests_lost"]
    harm = "No request was lost." if not lost else f"{lost} request{'s were' if lost > 1 else ' was'} lost."
    by = "" if incident["to"] is None else f" {incident['to'].capitalize()} answered in its place."
    if incident["trigger"]["override"] is not None:
        return f"{_models(incident)} was moved by an override.{by} {harm} {end}"
    return f"{incident['from'].capitalize()} failed for {_models(incident)}.{by} {harm} {end}"


def _facts(incident: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    tokens = incident["tokens"]
    yield "models", _models(incident)
    yield "began", incident["began_at"]
    yield "ended", incident["ended_at"] or "not yet"
    yield "first bad answer", incident["first_bad_answer_at"] or "none came before the switch"
    yield "from the first bad answer to the switch", _in_seconds(incident["seconds_to_detect"])
    yield "from the switch to the return", _in_seconds(incident["seconds_away"])
    yield "from the first good answer to the return", _in_seconds(incident["seconds_to_return"])
    yield "switches", str(incident["switches"])
    yield "requests repaired within the request", str(incident["requests_repaired"])
    yield "requests lost", str(incident["requests_lost"])
    yield "requests served by the backup", str(incident["requests_served_by_backup"])
    yield "tokens spent on the backup", f"{tokens['input']} in, {tokens['output']} out"


def _in_seconds(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{seconds:g} s"


def _trigger(trigger: Mapping[str, Any]) -> Iterator[str]:
    override, evidence = trigger["override"], trigger["evidence"]
    yield f"`{trigger['reason']}`"
    if override is not None:
        who = f" by {_plain(override['actor'])}" if override["actor"] else ""
        why = _plain(override["reason"] or "no reason was given")
        yield f"- override to {override['mode']} ({override['source']}){who}: {why}"
    if evidence is not None:
        for name, value in evidence.items():
            shown = ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else value
            yield f"- {name.replace('_', ' ')}: {_plain(str(shown))}"


def _story(incident: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    began = datetime.fromisoformat(incident["first_bad_answer_at"] or incident["began_at"])
    ended = datetime.fromisoformat(incident["ended_at"]) if incident["ended_at"] else None
    return [
        entry
        for entry in entries
        if entry["event"] != "incident"
        and (at := datetime.fromisoformat(entry["at"])) >= began - _AROUND
        and (ended is None or at <= ended + _AROUND)
    ]


def _told_of(entry: Mapping[str, Any]) -> str:
    try:
        return _told(entry)
    except (KeyError, TypeError, ValueError, AttributeError):
        # Another version wrote it, or a hand: one line that lacks something must not cost the draft.
        return f"{_plain(entry['event'])} (the journal has no more of it)"


def _told(entry: Mapping[str, Any]) -> str:
    match entry["event"]:
        case "switch":
            return f"switch of {_plain(entry['model'])}: {entry['from']} to {entry['to']} ({entry['reason']})"
        case "circuit" | "would_trip":
            evidence = entry["evidence"]
            return (
                f"{entry['event'].replace('_', ' ')} of {entry['upstream']}/{_plain(entry['model'])}: "
                f"{entry['from_state']} to {entry['to_state']} ({entry['reason']}; {evidence['calls']} calls, "
                f"{evidence['failure_rate']:.0%} failed, {evidence['slow_rate']:.0%} slow)"
            )
        case "probe":
            detail = f" ({_plain(entry['detail'])})" if entry["detail"] else ""
            probed = f"{entry['upstream']}/{_plain(entry['model'])}"
            return f"probes of {probed} say {entry['verdict']}: {entry['result']}{detail}"
        case "override":
            return _told_override(entry)
        case "config" if entry["problems"]:
            return f"settings read anew and refused: {'; '.join(map(_plain, entry['problems']))}"
        case "config":
            return "settings read anew and in force"
        case "override_expiring":
            return f"the override ends soon, at {_clock(entry['override']['expires_at'])}"
        case other:
            return _plain(other.replace("_", " "))


def _told_override(entry: Mapping[str, Any]) -> str:
    """An override that was set, or what became of the one before."""
    said = entry["override"] if entry["change"] == "set" else entry["before"]
    who = said["actor"] if entry["change"] == "set" else entry["cleared_by"]
    by = f" by {_plain(who)}" if who else ""
    why = f": {_plain(said['reason'])}" if entry["change"] == "set" and said["reason"] else ""
    share = f" for {said['percent']:g} % of the callers" if said["percent"] < 100 else ""
    return f"override to {said['mode']}{share} {entry['change']}{by}{why}"


def _clock(moment: str) -> str:
    return moment[11:23]


def _plain(text: str) -> str:
    """A name or text of others, on one line and without what Markdown would read as more than text."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in " ".join(text.split()))
