"""Since when the primary's answers are bad, and since when they are good again; a model at a time.

The circuit knows whether they are; the post-mortem asks since when. Bad answers count together until good ones speak
against it: a row of them, or one and more time than the circuit's window. One failure in a hundred is no beginning of
an outage, and neither is one of long ago.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from health.config import WindowType
from health.outcome import OutcomeKind
from proxy import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from health.config import BreakerConfig
    from health.outcome import Outcome
    from proxy.events import Event

_BAD = (OutcomeKind.FAILED, OutcomeKind.MISCONFIGURED)
_MODELS_KEPT = 1_000
_GOOD_ROW = 10
"""So many good answers in a row end a streak of bad ones."""
_STALE_SECONDS = 600.0
"""And so does this time without any answer."""
_CALLS_WINDOW_SECONDS = 60.0
"""How long bad answers count together where the window is one of calls, which has no length in time."""


@dataclass(slots=True)
class _Streak:
    """Times in seconds on the clock of the `now` that is given."""

    bad_since: float | None = None
    last_bad_at: float = -math.inf
    good_since: float | None = None
    good_answers: int = 0
    """In a row, since the last bad one."""
    before: Counter[str] = field(default_factory=Counter)
    """What had been counted before the first bad answer."""


class Streaks:
    """Told every event, with the time."""

    def __init__(self, upstream: str, until_now: Callable[[str], Counter[str]]) -> None:
        """`until_now(model)` is what has been counted for it; kept as it stood when a streak of bad answers began."""
        self._upstream = upstream
        self._until_now = until_now
        self._slow_seconds = math.inf
        self._together_seconds = _CALLS_WINDOW_SECONDS
        self._by_model: dict[str, _Streak] = {}

    def __call__(self, event: Event, now: float) -> None:
        """See what an answer or a probe says."""
        match event:
            case events.ThresholdsSet(config=config):
                self._set(config)
            case events.AttemptEnded(upstream=upstream, outcome=outcome) if upstream == self._upstream:
                seconds = event.seconds_to_first_byte
                slow = seconds is not None and seconds > self._slow_seconds
                # One that took too long was bad from then on, and not only when it was given up.
                since = now - event.seconds + self._slow_seconds if event.seconds > self._slow_seconds else now
                self._record(event.model, outcome, min(since, now), bad=slow or outcome.kind in _BAD)
            case events.Probed(result=result) if result.upstream == self._upstream:
                self._record(result.model, result.outcome, now, bad=result.outcome.kind in _BAD)

    def begin(self, model: str, now: float) -> tuple[float | None, Counter[str]]:
        """When the bad answers began that an outage of `model` began with, and what had been counted before them.

        None where there are none: with calls that hang, a circuit opens before the first of them has ended.
        """
        streak = self._by_model.get(model)
        if streak is None or streak.bad_since is None or self._is_over(streak, now):
            return None, self._until_now(model)
        return streak.bad_since, streak.before

    def bad_since(self, model: str) -> float | None:
        """When the bad answers began of which the latest is one."""
        streak = self._by_model.get(model)
        return None if streak is None else streak.bad_since

    def forget(self) -> None:
        """What was bad until now belongs to an incident that is over."""
        for streak in self._by_model.values():
            streak.bad_since = None

    def good_since(self, model: str) -> float | None:
        """When the first good answer came after the last bad one."""
        streak = self._by_model.get(model)
        return None if streak is None else streak.good_since

    def _set(self, config: BreakerConfig) -> None:
        self._slow_seconds = config.slow_call_seconds
        timed = config.window_type is WindowType.TIME
        self._together_seconds = config.window_size if timed else _CALLS_WINDOW_SECONDS

    def _record(self, model: str, outcome: Outcome, now: float, *, bad: bool) -> None:
        streak = self._by_model.get(model)
        if streak is None:
            if not bad or len(self._by_model) >= _MODELS_KEPT:
                return
            streak = self._by_model[model] = _Streak()
        if bad:
            if streak.bad_since is None or self._is_over(streak, now):
                streak.bad_since, streak.before = now, self._until_now(model)
            streak.last_bad_at, streak.good_since, streak.good_answers = now, None, 0
        elif outcome.kind is OutcomeKind.OK:
            streak.good_answers += 1
            if streak.good_since is None:
                streak.good_since = now

    def _is_over(self, streak: _Streak, now: float) -> bool:
        quiet = now - streak.last_bad_at
        spoken_against = streak.good_answers > 0 and quiet > self._together_seconds
        return streak.good_answers >= _GOOD_ROW or spoken_against or quiet > _STALE_SECONDS
