"""How the page speaks of names, times, shares and evidence. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from proxy.moments import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_NAME = 60
_UPSTREAMS = {"vertex": "Vertex", "claude": "Claude"}


def upstream_of(name: str) -> str:
    """An upstream, as people write it."""
    return _UPSTREAMS.get(name, name.capitalize())


def name_of(model: str) -> str:
    """A model's name, which came from a caller, cut to what a page can hold."""
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in model)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 1]}…"


def clock(moment: str) -> str:
    """The time of an RFC 3339 moment in UTC, to the second."""
    return f"{moment[11:19]} UTC"


def percent(share: float) -> str:
    """A share of 1; what is above nothing is never told as nothing."""
    return "under 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def age(moment: str, now: datetime) -> str:
    """How long ago."""
    return ago(now - datetime.fromisoformat(moment))


def ago(length: timedelta) -> str:
    """A length of time back, in its largest unit: enough for an age."""
    if length < timedelta(seconds=1):
        return "just now"
    number, unit, *_ = in_words(length).split(" ")
    return f"{number} {unit} ago"


def milliseconds(seconds: float) -> str:
    """A latency."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2g} s"


def evidence(circuit: Mapping[str, Any]) -> str:
    """What an open circuit of the status opened on, in numbers; "" for one that is not open, or has none."""
    on = circuit["tripped_on"]
    if on is None:
        return ""
    match circuit["reason"]:
        case "consecutive_failures":
            return f"{on['consecutive_failures']} failures in a row"
        case "failure_rate":
            return f"{percent(on['failure_rate'])} of {on['calls']} calls failed"
        case "slow_rate":
            slow = on["thresholds"]["slow_call_seconds"]
            return f"{percent(on['slow_rate'])} of {on['calls']} calls took over {slow:g} s"
        case "trials_failed":
            were = "was" if on["slow"] == 1 else "were"
            return f"of {on['calls']} trial calls {on['failed']} failed and {on['slow']} {were} slow"
        case "probe" if on["failed_probes"]:
            return f"{on['failed_probes']} probes in a row failed"
    return ""


def reason_of(circuit: Mapping[str, Any]) -> str:
    """Why a circuit is not closed, in a word or two; "" for one that is."""
    reason = circuit["reason"]
    return "failed probes" if reason == "probe" else (reason or "").replace("_", " ")
