"""What the page shows, made from the status and the timeline: everything is chosen, ordered and worded here. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from proxy.admin.page.chart import HEIGHT, WIDTH, Chart, chart
from proxy.admin.page.headline import Finding, Level, findings
from proxy.admin.page.words import age, clock, evidence, milliseconds, name_of, percent, reason_of, upstream_of
from proxy.history.timeline import BUCKET_SECONDS
from proxy.moments import rfc3339, rfc3339_of
from proxy.upstreams.providers import ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.history.timeline import Point, Timeline

_ROWS = 6
"""Of models, circuits and probes so many are shown, the worst first; a page of one screen has no room for 64."""
_SWITCHES = 6
_LONGEST_DETAIL = 120
_LATELY = 60 // BUCKET_SECONDS
"""Buckets of the last minute."""
_STATES = {"closed": "ok", "half_open": "warning", "open": "critical"}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list."""

    name: str
    badge: str
    level: str
    text: str
    extra: str = ""
    until: int | None = None
    """Unix time in milliseconds that is counted down to."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A ratio against its threshold; both 0 to 100."""

    label: str
    value: float
    threshold: float
    text: str
    over: bool


@dataclass(frozen=True, slots=True)
class CircuitRow:
    """One circuit."""

    row: Row
    gauges: list[Gauge]


@dataclass(frozen=True, slots=True)
class Rows:
    """A list, and how many lines it leaves out."""

    shown: list[Any]
    hidden: int


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the template writes."""

    now: str
    now_milliseconds: int
    version: str
    up_for: str
    headline: Finding
    others: list[Finding]
    override: Mapping[str, Any]
    override_until: int | None
    models: Rows
    circuits: Rows
    probes: Rows
    switches: Rows
    chart: Chart
    chart_size: tuple[int, int]
    chart_from: str
    chart_to: str
    legend: list[tuple[str, str, str]]
    """Class name, name and share of each area."""
    chart_text: str
    slow: str


def view(status: Mapping[str, Any], timeline: Timeline, now: datetime) -> Page:
    """The page at this moment."""
    points = timeline.points()
    switches = timeline.switches()
    slow_seconds = _slow_seconds(status)
    found = findings(status, *ORDER, _lost(points), _lost(points[-_LATELY:]))
    override = status["override"]
    return Page(
        now=clock(rfc3339(now)),
        now_milliseconds=round(now.timestamp() * 1000),
        version=status["version"],
        up_for=age(status["started_at"], now),
        headline=found[0],
        others=found[1:],
        override=override,
        override_until=_milliseconds(override["expires_at"]),
        models=_models(status["active"], now),
        circuits=_circuits(status["circuits"], status["thresholds"], now),
        probes=_probes(status["probes"], now),
        switches=_switches(status["switches"], now),
        chart=chart(points, ORDER, slow_seconds, [switch.at for switch in switches]),
        chart_size=(WIDTH, HEIGHT),
        chart_from=clock(rfc3339_of(points[0].at)),
        chart_to=clock(rfc3339_of(points[-1].at + BUCKET_SECONDS)),
        legend=_legend(points),
        chart_text=_chart_text(points, len(switches)),
        slow=f"{slow_seconds:g} s",
    )


def _lost(points: Sequence[Point]) -> int:
    return sum(point.lost for point in points)


def _slow_seconds(status: Mapping[str, Any]) -> float:
    return float(status["thresholds"]["slow_call_seconds"])


def _milliseconds(moment: str | None) -> int | None:
    return None if moment is None else round(datetime.fromisoformat(moment).timestamp() * 1000)


def _cut(rows: Sequence[Any], most: int = _ROWS) -> Rows:
    return Rows(list(rows[:most]), max(0, len(rows) - most))


def _models(active: Sequence[Mapping[str, Any]], now: datetime) -> Rows:
    worst_first = sorted(active, key=lambda one: (one["available"] > 0, one["upstream"] == ORDER[0], one["since"]))
    rows = []
    for one in worst_first:
        level = Level.OK if one["upstream"] == ORDER[0] else Level.WARNING
        badge = upstream_of(one["upstream"])
        if not one["available"]:
            level, badge = Level.CRITICAL, "nobody"
        why = one["reason"].replace("_", " ")
        rows.append(
            Row(name_of(one["model"]), badge, level, f"{why}, since {clock(one['since'])}", age(one["since"], now))
        )
    return _cut(rows)


def _circuits(circuits: Sequence[Mapping[str, Any]], thresholds: Mapping[str, Any], now: datetime) -> Rows:
    states = list(_STATES)
    worst_first = sorted(
        circuits,
        key=lambda one: (
            not one["in_use"],
            -states.index(one["state"]),
            ORDER.index(one["upstream"]),
            -max(one["failure_rate"], one["slow_rate"]),
            one["model"],
        ),
    )
    return _cut([_circuit(one, thresholds, now) for one in worst_first])


def _circuit(one: Mapping[str, Any], thresholds: Mapping[str, Any], now: datetime) -> CircuitRow:
    text = f"since {clock(one['since'])} ({age(one['since'], now)})"
    if why := evidence(one) or reason_of(one):
        text = f"{why}, {text}"
    row = Row(
        f"{upstream_of(one['upstream'])} · {name_of(one['model'])}",
        one["state"].replace("_", "-"),
        _STATES[one["state"]],
        text,
        _beside(one),
        _milliseconds(one["open_until"]),
    )
    # An open circuit counts nothing; what it opened on is what a reader wants to know.
    judged = one["tripped_on"] or one
    calls = f"{judged['calls']} call{'' if judged['calls'] == 1 else 's'}"
    if one["tripped_on"]:
        calls = f"{judged['calls']} at the trip"
    gauges = [
        _gauge("failed", judged["failure_rate"], thresholds["failure_rate"], calls),
        _gauge("slow", judged["slow_rate"], thresholds["slow_rate"], calls),
    ]
    # Where probes alone opened it there were no calls, and a share of none is no evidence.
    return CircuitRow(row, gauges if judged["calls"] or not one["tripped_on"] else [])


def _beside(one: Mapping[str, Any]) -> str:
    notes = []
    if not one["in_use"]:
        notes.append("not used any more")
    if one["would_be"] is not None:
        notes.append(f"observed only: would be {one['would_be'].replace('_', '-')}")
    elif one["state"] == "closed" and one["admitted_ratio"] < 1:
        notes.append(f"lets {percent(one['admitted_ratio'])} pass")
    if one["spill_ratio"] > 0:
        notes.append(f"{percent(one['spill_ratio'])} not sent, for refusals (429)")
    return ", ".join(notes)


def _gauge(label: str, rate: float, threshold: float, calls: str) -> Gauge:
    text = f"{percent(rate)} of {calls}, threshold {percent(threshold)}"
    return Gauge(label, round(rate * 100, 1), round(threshold * 100, 1), text, rate >= threshold)


def _probes(probes: Sequence[Mapping[str, Any]], now: datetime) -> Rows:
    rows = []
    for one in sorted(probes, key=lambda one: one["up"] is not False):
        badge, level = {True: ("up", "ok"), False: ("down", "critical"), None: ("unknown", "warning")}[one["up"]]
        text = f"{one['last_result']} in {milliseconds(one['duration_seconds'])}, {age(one['last_at'], now)}"
        failure = one["last_failure"]
        extra = ""
        if failure is not None:
            detail = failure["detail"][:_LONGEST_DETAIL]
            told = f"{failure['result']} ({detail})" if detail else failure["result"]
            # Where it was the last probe of all, its time and its kind stand there already.
            extra = detail if failure["at"] == one["last_at"] else f"last failure {clock(failure['at'])}: {told}"
        rows.append(Row(f"{upstream_of(one['upstream'])} · {name_of(one['model'])}", badge, level, text, extra))
    return _cut(rows)


def _switches(switches: Sequence[Mapping[str, Any]], now: datetime) -> Rows:
    rows = [
        Row(
            name_of(one["model"]),
            upstream_of(one["to"]),
            "ok" if one["to"] == ORDER[0] else "warning",
            f"{upstream_of(one['from'])} to {upstream_of(one['to'])}: {one['reason'].replace('_', ' ')}",
            f"{clock(one['at'])}, {age(one['at'], now)}",
        )
        for one in reversed(switches)
    ]
    return _cut(rows, _SWITCHES)


def _totals(points: Sequence[Point]) -> dict[str, int]:
    totals = {name: sum(point.served[name] for point in points) for name in ORDER}
    return {**totals, "lost": sum(point.lost for point in points)}


def _legend(points: Sequence[Point]) -> list[tuple[str, str, str]]:
    totals = _totals(points)
    every = sum(totals.values())
    return [
        (name, _LEGEND.get(name) or upstream_of(name), percent(count / every) if every else "0 %")
        for name, count in totals.items()
    ]


_LEGEND = {"lost": "Lost or cut off"}


def _chart_text(points: Sequence[Point], switches: int) -> str:
    """The timeline for whoever does not see it."""
    totals = _totals(points)
    every = sum(totals.values())
    if not every:
        return "No request in the last 15 minutes."
    shares = ", ".join(f"{share} by {name}" for _, name, share in _legend(points)[:2])
    times = [point for point in points if point.p95 is not None]
    latest = ""
    if times:
        p50, p95 = times[-1].p50 or 0.0, times[-1].p95 or 0.0
        latest = f" First content, latest: p50 {milliseconds(p50)}, p95 {milliseconds(p95)}."
    moves = "1 switch" if switches == 1 else f"{switches} switches"
    requests = "1 request" if every == 1 else f"{every:,} requests"
    return f"{requests}, {shares}, {totals['lost']} lost; {moves}.{latest}"
