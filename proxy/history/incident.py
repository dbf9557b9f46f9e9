"""One incident, as it is kept while it lasts and as `GET /incidents` shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.moments import rfc3339_of

if TYPE_CHECKING:
    from collections import Counter

    from proxy.history.counts import Counts

_OVERRIDES_NAMED = 20


@dataclass(slots=True)
class Incident:
    """Times in seconds on a clock that nobody sets; they are shown as so much after the beginning."""

    began_at: float
    """The beginning once more, as Unix time."""
    began: float
    trigger: dict[str, Any]
    first_bad: float | None
    to: str | None = None
    """Who took over; None where requests were lost and nobody did."""
    before: dict[str, Counter[str]] = field(default_factory=dict)
    """What had been counted for each of its models before it."""
    away: set[str] = field(default_factory=set)
    """Of those, the ones that the primary does not serve now."""
    forced: set[str] = field(default_factory=set)
    """Of those, the ones that an override sends to the primary all the same, though its circuit says no."""
    overrides: list[dict[str, Any]] = field(default_factory=list)
    switches: int = 0
    asked_at: float = 0.0
    """When one of its models was asked for last."""
    lost_at: float = 0.0
    trouble_at: float = 0.0
    """When a request was lost last, or the primary's circuit closed."""
    ended: float | None = None
    ended_by: str | None = None
    good_since: float | None = None
    """When the primary's answers were good again, before the end."""

    @property
    def id(self) -> str:
        """The moment of its beginning, which no two share."""
        return rfc3339_of(self.began_at)

    @property
    def models(self) -> list[str]:
        """In the order in which they joined."""
        return [model for model in self.before if model]

    def join(self, model: str, before: Counter[str]) -> None:
        """`model` is in it from now on; what had been counted `before` is not."""
        if model not in self.before:
            self.before[model] = before

    def note_override(self, override: dict[str, Any], change: str, at: str) -> None:
        """Somebody changed the override while it lasted."""
        self.overrides.append({"at": at, "change": change, "override": override})
        del self.overrides[:-_OVERRIDES_NAMED]

    def entry(self, primary: str, counts: Counts) -> dict[str, Any]:
        """As `GET /incidents` shows it, with what has been counted until now."""
        counted = counts.since(self.before)
        return {
            "id": self.id,
            "began_at": self.id,
            "ended_at": self._moment(self.ended),
            "ended_by": self.ended_by if self.ended is not None else None,
            "models": self.models,
            "from": primary,
            "to": self.to,
            "trigger": self.trigger,
            "overrides": list(self.overrides),
            "first_bad_answer_at": self._moment(self.first_bad),
            "seconds_to_detect": _seconds(self.first_bad, self.began),
            "seconds_away": _seconds(self.began, self.ended),
            "seconds_to_return": _seconds(self.good_since, self.ended),
            "switches": self.switches,
            "requests_repaired": counted["repaired"],
            "requests_lost": counted["lost"],
            "requests_served_by_backup": counted["served_by_backup"],
            "tokens": {"input": counted["input_tokens"], "output": counted["output_tokens"]},
        }

    def _moment(self, moment: float | None) -> str | None:
        return None if moment is None else rfc3339_of(self.began_at + moment - self.began)


def _seconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
