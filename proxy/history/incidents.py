"""Incidents: from the moment that traffic leaves the primary to its return, with what it cost. For the post-mortem.

A listener of the hub that counts while it listens, so that nothing has to be pieced together from logs afterwards. Each
incident is written to the journal when it begins, now and then while it lasts, and when it ends: one that a killed
process was in is found again by the next.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from health.transitions import CircuitState
from proxy import events, routing
from proxy.history.counts import Counts
from proxy.history.entries import switch_entry
from proxy.history.incident import Incident
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


class Incidents:
    """The incidents of one process, and those that its journal knows of."""

    def __init__(
        self,
        primary: str,
        *,
        write: Callable[[Mapping[str, Any]], None],
        override: Callable[[], Override],
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
    ) -> None:
        """`write` gets an incident's entry whenever it should outlive the process.

        `override()` is the one in effect. Lengths are taken from `clock`, which nobody sets.
        """
        self._primary = primary
        self._write = write
        self._override = override
        self._clock = clock
        self._wall_clock = wall_clock
        self._counts = Counts(primary)
        self._streaks = Streaks(primary, self._counts.until_now)
        self._openings: dict[str, events.CircuitMoved] = {}
        """How the primary's circuits opened that are not closed again, by model."""
        self._entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._latest: Incident | None = None
        self._written_at = 0.0

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
        if (incident := self._present()) is not None:
            self._keep(incident.entry(self._primary, self._counts))
        return list(self._entries.values())

    def poll(self) -> None:
        """Write, now and then, how one stands that lasts; end one in which nothing happens any more."""
        now = self._clock()
        if (incident := self._present()) is None:
            return
        quiet_since, patience = incident.trouble_at, QUIET_SECONDS
        if incident.away or self._broken(incident):
            # A circuit without traffic stays half-open: nobody comes back, and nobody is missing.
            quiet_since, patience = max(incident.asked_at, incident.lost_at, incident.began), _IDLE_SECONDS
        if now - quiet_since > patience:
            self._end(incident, quiet_since, "quiet")
        elif now - self._written_at >= (_WRITE_SECONDS if now - incident.began < _LONG_SECONDS else _SELDOM_SECONDS):
            self.save()

    def save(self) -> None:
        """Write how one stands that is not over, if anything has changed."""
        if (incident := self._present()) is None:
            return
        if incident.entry(self._primary, self._counts) != self._entries.get(incident.id):
            self._save(incident)

    def __call__(self, event: Event) -> None:
        """Count, and see whether one begins or ends."""
        self._counts(event)
        self._streaks(event, self._clock())
        match event:
            case events.RequestEnded(model=model):
                if self._latest is not None and self._counts.name(model) in self._latest.before:
                    self._latest.asked_at = self._clock()
            case events.AttemptEnded(upstream=upstream, model=model) if upstream == self._primary:
                self._late(model)
            case events.RequestLost():
                self._lost(event)
            case events.Switch(from_upstream=left) if left == self._primary:
                self._left(event, switches=1)
            case events.Serving(upstream=upstream) if upstream != self._primary:
                # First seen while another serves it already: a restart under an override, or a new model in an outage.
                self._left(events.Switch(event.at, event.model, self._primary, upstream, event.reason), switches=0)
            case events.Switch(to_upstream=to) if to == self._primary:
                self._returned(event)
            case events.CircuitMoved(upstream=upstream) if upstream == self._primary:
                self._moved(event)
            case events.OverrideChanged():
                self._overridden(event)

    # --- what happens

    def _left(self, switch: events.Switch, *, switches: int) -> None:
        incident = self._joined(self._counts.name(switch.model), self._trigger(switch))
        incident.to = incident.to or switch.to_upstream
        incident.switches += switches
        incident.away.add(switch.model)
        incident.forced.discard(switch.model)
        incident.asked_at = self._clock()
        self._save(incident)

    def _returned(self, switch: events.Switch) -> None:
        incident = self._present()
        if incident is None or switch.model not in incident.away:
            return
        incident.switches += 1
        if switch.reason is events.RouteReason.OVERRIDE and switch.model in self._openings:
            # Asked first by order, and as dead as before: the others go on repairing what it does not answer.
            incident.forced.add(switch.model)
            self._save(incident)
            return
        self._back(incident, switch.model, "override" if switch.reason is events.RouteReason.OVERRIDE else "return")

    def _back(self, incident: Incident, model: str, by: str) -> None:
        incident.away.discard(model)
        incident.forced.discard(model)
        if not incident.away:
            good_since = self._streaks.good_since(model)
            # What was good before it began has not come back.
            incident.good_since = good_since if good_since is not None and good_since >= incident.began else None
            self._end(incident, self._clock(), by)

    def _moved(self, moved: events.CircuitMoved) -> None:
        incident = self._present()
        if moved.transition.to_state is CircuitState.CLOSED:
            self._openings.pop(moved.model, None)
            if incident is not None and moved.model in incident.before:
                incident.trouble_at = self._clock()
                if moved.model in incident.forced:
                    self._back(incident, moved.model, "return")
        elif moved.transition.from_state is CircuitState.CLOSED:
            self._openings[moved.model] = moved
            if incident is not None and incident.trigger["reason"] == _LOST and moved.model in incident.before:
                incident.trigger = self._opening(moved.model)
                self._save(incident)

    def _lost(self, event: events.RequestLost) -> None:
        latest, now, model = self._latest, self._clock(), self._counts.name(event.model)
        if latest is not None and latest.ended is not None and latest.to is not None and self._belongs(latest):
            # The traffic has returned, and that it did stands; so does what was lost behind it.
            latest.join(model, self._counts.until_now(model))
            self._counts.lost(model)
            self._save(latest)
            return
        trigger = {"reason": _LOST, "evidence": {"reason": event.reason}, "override": None}
        news = latest is None or latest.ended is not None
        incident = self._joined(model, self._opening(model) if model in self._openings else trigger)
        self._counts.lost(model)
        incident.lost_at = incident.trouble_at = now
        if news:
            self._save(incident)

    def _overridden(self, event: events.OverrideChanged) -> None:
        if (incident := self._present()) is None:
            return
        cause = incident.trigger["override"]
        if event.before.mode is event.override.mode or cause is None:
            incident.note_override(override_entry(event.override), event.change, rfc3339_of(event.at))
            self._save(incident)
            return
        # What a person began ends with it. What is away after that is away for a reason of its own.
        dead = [model for model in incident.away if model in self._openings]
        if dead and event.override.mode.value != incident.to:
            to = incident.to or events.NO_UPSTREAM
            self._end(incident, self._clock(), "override")
            for model in dead:
                opening = self._openings[model]
                reason = routing.trip_reason(opening.transition.reason)
                self._left(events.Switch(event.at, model, self._primary, to, reason, opening), switches=0)

    def _late(self, model: str) -> None:
        """A call that hung has ended: it was bad before the circuit opened, though nobody had said so."""
        incident = self._present()
        if (
            incident is not None
            and incident.first_bad is None
            and incident.trigger["override"] is None
            and incident.models[:1] == [model]
            and (bad := self._streaks.bad_since(model)) is not None
            and bad <= incident.began
        ):
            incident.first_bad = bad

    # --- one incident

    def _present(self) -> Incident | None:
        """The one that is not over."""
        return None if self._latest is None or self._latest.ended is not None else self._latest

    def _broken(self, incident: Incident) -> bool:
        return any(model in self._openings for model in incident.before)

    def _belongs(self, incident: Incident) -> bool:
        return incident.ended is None or self._clock() - incident.ended <= QUIET_SECONDS

    def _joined(self, model: str, trigger: dict[str, Any]) -> Incident:
        """The incident that `model` is in from now on: the present one, or the last, or a new one."""
        incident, now = self._latest, self._clock()
        first_bad, before = self._streaks.begin(model, now)
        # A failure soon after a drill is no part of the drill.
        drill = incident is not None and incident.ended is not None and incident.trigger["override"] is not None
        if incident is None or not self._belongs(incident) or (drill and trigger["override"] is None):
            if trigger["override"] is not None:
                # A person decided; what was bad before that is no measure of how soon, and not of this.
                first_bad, before = None, self._counts.until_now(model)
            incident = self._latest = Incident(self._free_moment(), now, trigger, first_bad)
        incident.ended = None
        incident.join(model, before)
        return incident

    def _free_moment(self) -> float:
        """Now, in Unix time, and a little later where an incident is known by this moment: clocks are set back."""
        moment = self._wall_clock().timestamp()
        while rfc3339_of(moment) in self._entries:
            moment += 0.001
        return moment

    def _trigger(self, switch: events.Switch) -> dict[str, Any]:
        if switch.reason is events.RouteReason.OVERRIDE:
            return {"reason": switch.reason, "evidence": None, "override": override_entry(self._override())}
        # With both down, the one that came back first gave the occasion; why the traffic left is another matter.
        if (switch.cause is None or switch.cause.upstream != self._primary) and switch.model in self._openings:
            return self._opening(switch.model)
        entry = switch_entry(switch)
        return {"reason": entry["reason"], "evidence": entry["evidence"], "override": None}

    def _opening(self, model: str) -> dict[str, Any]:
        opening = self._openings[model]
        reason = routing.trip_reason(opening.transition.reason)
        switch = events.Switch(opening.at, model, self._primary, events.NO_UPSTREAM, reason, opening)
        return {"reason": reason, "evidence": switch_entry(switch)["evidence"], "override": None}

    def _end(self, incident: Incident, at: float, by: str) -> None:
        incident.ended, incident.ended_by = at, by
        self._streaks.forget()
        self._save(incident)

    def _save(self, incident: Incident) -> None:
        self._written_at = self._clock()
        entry = incident.entry(self._primary, self._counts)
        self._keep(entry)
        self._write({"at": rfc3339_of(self._wall_clock().timestamp()), "event": "incident", **entry})

    def _keep(self, entry: dict[str, Any]) -> None:
        self._entries[entry["id"]] = entry
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)


_LOST = "request_lost"
"""The trigger of an incident that began with a lost request."""
