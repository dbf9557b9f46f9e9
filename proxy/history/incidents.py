"""Incidents: from the moment that traffic leaves the primary to its return, with what it cost. For the post-mortem.

A listener of the hub that counts while it listens, so that nothing has to be pieced together from logs afterwards. Each
incident is written to the journal when it begins, now and then while it lasts, and when it ends: one that a killed
process was in is found again by the next.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy import events
from proxy.history.entries import switch_entry
from proxy.history.streaks import Streaks
from proxy.moments import rfc3339_of
from proxy.override import entry as override_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from proxy.events import Event
    from proxy.override import Override

KEPT = 100
QUIET_SECONDS = 60.0
"""What begins within so many seconds after the end of an incident belongs to it: a circuit that flaps is one story."""
_IDLE_SECONDS = 900.0
"""An incident ends when nobody has asked for any of its models for so long."""
_WRITE_SECONDS = 10.0
_LONG_SECONDS, _SELDOM_SECONDS = 600.0, 60.0
"""One that lasts is written less often: its lines must not turn all others out of the file."""
_MODELS_NAMED = 20


@dataclass(slots=True)
class _Incident:
    """Unix times in seconds."""

    began: float
    to: str | None
    """Who took over; None where requests were lost and nobody did."""
    trigger: dict[str, Any]
    first_bad_at: float | None
    before: Counter[str]
    """What had been counted before it."""
    models: list[str] = field(default_factory=list)
    away: dict[str, float] = field(default_factory=dict)
    """Of those, the ones that the primary does not serve now, and when each was last asked for."""
    switches: int = 0
    lost_at: float = 0.0
    ended: float | None = None
    ended_by: str | None = None
    good_since: float | None = None
    """When the primary's answers were good again, before the end."""

    @property
    def id(self) -> str:
        """The moment of its beginning, which no two share."""
        return rfc3339_of(self.began)

    def entry(self, primary: str, totals: Counter[str]) -> dict[str, Any]:
        """As `GET /incidents` shows it; `totals` is what has been counted until now, or until its end."""
        counted = totals - self.before
        return {
            "id": self.id,
            "began_at": rfc3339_of(self.began),
            "ended_at": _moment(self.ended),
            "ended_by": self.ended_by if self.ended is not None else None,
            "models": self.models,
            "from": primary,
            "to": self.to,
            "trigger": self.trigger,
            "first_bad_answer_at": _moment(self.first_bad_at),
            "seconds_to_detect": _seconds(self.first_bad_at, self.began),
            "seconds_away": _seconds(self.began, self.ended),
            "seconds_to_return": _seconds(self.good_since, self.ended),
            "switches": self.switches,
            "requests_repaired": counted["repaired"],
            "requests_lost": counted["lost"],
            "requests_served_by_backup": counted["served_by_backup"],
            "tokens": {"input": counted["input_tokens"], "output": counted["output_tokens"]},
        }


class Incidents:
    """The incidents of one process, and those that its journal knows of."""

    def __init__(
        self,
        primary: str,
        *,
        write: Callable[[Mapping[str, Any]], None],
        override: Callable[[], Override],
        wall_clock: Callable[[], datetime],
    ) -> None:
        """`write` gets an incident's entry whenever it should outlive the process.

        `override()` is the one in effect.
        """
        self._primary = primary
        self._write = write
        self._override = override
        self._wall_clock = wall_clock
        self._totals: Counter[str] = Counter()
        self._streaks = Streaks(primary, self._totals)
        self._entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._latest: _Incident | None = None
        self._written_at = 0.0

    def _now(self) -> float:
        return self._wall_clock().timestamp()

    def restore(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Take over what an earlier process wrote; what it was still in ended with it, at its last word."""
        for entry in entries:
            if entry["event"] == "incident" and isinstance(entry.get("id"), str):
                restored = {key: value for key, value in entry.items() if key not in ("at", "event")}
                if restored.get("ended_at") is None:
                    restored |= {"ended_at": entry["at"], "ended_by": "restart"}
                self._keep(restored)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """All of them, the oldest first."""
        if self._latest is not None and self._latest.ended is None:
            self._keep(self._latest.entry(self._primary, self._totals))
        return list(self._entries.values())

    def poll(self) -> None:
        """Write, now and then, how one stands that lasts; end one in which requests were lost, and no more are."""
        incident, now = self._latest, self._now()
        if incident is None or incident.ended is not None:
            return
        last_sign = max(incident.lost_at, *incident.away.values(), 0.0)
        # A circuit without traffic stays half-open: nobody comes back, and nobody is missing.
        if now - last_sign > (_IDLE_SECONDS if incident.away else QUIET_SECONDS):
            self._end(incident, last_sign, "quiet")
        elif now - self._written_at >= (_WRITE_SECONDS if now - incident.began < _LONG_SECONDS else _SELDOM_SECONDS):
            self.save()

    def save(self) -> None:
        """Write how one stands that is not over, if anything has changed."""
        incident = self._latest
        if incident is None or incident.ended is not None:
            return
        if incident.entry(self._primary, self._totals) != self._entries.get(incident.id):
            self._save(incident)

    def __call__(self, event: Event) -> None:
        """Count, and see whether one begins or ends."""
        self._streaks(event, self._now())
        match event:
            case events.RequestEnded(upstream=upstream):
                self._totals["served_by_backup"] += upstream not in (self._primary, events.NO_UPSTREAM)
                if self._latest is not None and event.model in self._latest.away:
                    self._latest.away[event.model] = self._now()
            case events.FailedOver():
                self._totals["repaired"] += 1
            case events.RequestLost():
                self._lost(event)
            case events.TokensUsed(upstream=upstream, usage=usage) if upstream != self._primary:
                self._totals["input_tokens"] += usage.input_tokens
                self._totals["output_tokens"] += usage.output_tokens
            case events.Probed(result=result, usage=usage) if usage is not None and result.upstream != self._primary:
                # A probe costs the same with and without an incident.
                self._totals["input_tokens"] -= usage.input_tokens
                self._totals["output_tokens"] -= usage.output_tokens
            case events.Switch(from_upstream=left) if left == self._primary:
                self._left(event, switches=1)
            case events.Serving(upstream=upstream) if upstream != self._primary:
                # First seen while another serves it already: a restart under an override, or a new model in an outage.
                self._left(events.Switch(event.at, event.model, self._primary, upstream, event.reason), switches=0)
            case events.Switch(to_upstream=to) if to == self._primary:
                self._returned(event)

    def _left(self, switch: events.Switch, *, switches: int) -> None:
        incident = self._latest
        if incident is None or not self._belongs(incident, switch.at):
            incident = self._begin(switch.model, switch.at, switch.to_upstream, self._trigger(switch))
        incident.to = incident.to or switch.to_upstream
        incident.ended = None
        incident.switches += switches
        incident.away[switch.model] = switch.at
        if switch.model not in incident.models:
            incident.models.append(switch.model)
        self._save(incident)

    def _trigger(self, switch: events.Switch) -> dict[str, Any]:
        entry = switch_entry(switch)
        override = self._override() if switch.reason is events.RouteReason.OVERRIDE else None
        return {
            "reason": entry["reason"],
            "evidence": entry["evidence"],
            "override": None if override is None else override_entry(override),
        }

    def _returned(self, switch: events.Switch) -> None:
        incident = self._latest
        if incident is None or switch.model not in incident.away:
            return
        incident.switches += 1
        del incident.away[switch.model]
        if not incident.away:
            good_since = self._streaks.good_since(switch.model)
            # What was good before it began has not come back.
            incident.good_since = good_since if good_since is not None and good_since >= incident.began else None
            forced = switch.reason is events.RouteReason.OVERRIDE
            self._end(incident, switch.at, "override" if forced else "return")

    def _lost(self, event: events.RequestLost) -> None:
        now = self._now()
        incident = self._latest
        if incident is None or not self._belongs(incident, now):
            trigger = {"reason": "request_lost", "evidence": {"reason": event.reason}, "override": None}
            incident = self._begin(event.model, now, None, trigger)
            news = True
        else:
            news = incident.ended is not None
            incident.ended = None
        incident.lost_at = now
        self._totals["lost"] += 1
        if event.model and event.model not in incident.models and len(incident.models) < _MODELS_NAMED:
            incident.models.append(event.model)
        if news:
            self._save(incident)

    def _belongs(self, incident: _Incident, now: float) -> bool:
        return incident.ended is None or now - incident.ended <= QUIET_SECONDS

    def _begin(self, model: str, now: float, to: str | None, trigger: dict[str, Any]) -> _Incident:
        first_bad_at, before = self._streaks.begin(model, now)
        if trigger["override"] is not None:
            # A person decided; what was bad before that is no measure of how soon, and not of this.
            first_bad_at, before = None, Counter(self._totals)
        incident = _Incident(now, to, trigger, first_bad_at, before, models=[model] if model else [])
        self._latest = incident
        return incident

    def _end(self, incident: _Incident, at: float, by: str) -> None:
        incident.ended, incident.ended_by = at, by
        self._streaks.forget()
        self._save(incident)

    def _save(self, incident: _Incident) -> None:
        self._written_at = self._now()
        entry = incident.entry(self._primary, self._totals)
        self._keep(entry)
        self._write({"at": rfc3339_of(self._written_at), "event": "incident", **entry})

    def _keep(self, entry: dict[str, Any]) -> None:
        self._entries[entry["id"]] = entry
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)


def _moment(unix_seconds: float | None) -> str | None:
    return None if unix_seconds is None else rfc3339_of(unix_seconds)


def _seconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
