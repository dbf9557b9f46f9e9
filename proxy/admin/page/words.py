"""How the page speaks of names, times and shares. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from proxy.moments import in_words

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
