"""What the probes of an upstream say together: a verdict, and what it does to the circuit.

The probe does I/O only (`prober.py`); the judgement is here, pure. The tracker is one thing and the circuit another: a
probe is one small call from one place, so it may open a circuit that has no traffic to judge by, and it may let trials
begin early, but only real traffic closes a circuit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from health.breaker import CircuitBreaker
from health.outcome import Outcome, OutcomeKind
from health.pace import NextProbe
from health.transitions import CircuitState


class Verdict(StrEnum):
    """What a change of the tracker's mind says of the upstream."""

    UP = "up"
    DOWN = "down"


class ProbeTracker:
    """Rise and fall, as load balancers count: `fall` failures in a row are DOWN, then `rise` successes in a row are UP.

    It starts without a verdict, and then the first success is UP at once. Throttled and neutral results neither count
    nor break a row: a probe that answers 429 has found an upstream that is alive and busy. The attributes are for
    reading: `up` is None while there is no verdict, `failures` and `successes` are the row that stands now.
    """

    def __init__(self, fall: int = 3, rise: int = 2) -> None:
        if fall < 1 or rise < 1:
            raise ValueError(f"fall and rise must be at least 1, not {fall!r} and {rise!r}")
        self.fall = fall
        self.rise = rise
        self.up: bool | None = None
        self.failures = 0
        self.successes = 0

    def record(self, outcome: Outcome) -> Verdict | None:
        """Count one probe. Returns the verdict when it changes, else None."""
        match outcome.kind:
            case OutcomeKind.OK:
                self.failures, self.successes = 0, self.successes + 1
                needed = self.rise if self.up is False else 1
                return self._turn(True) if self.successes >= needed else None
            case OutcomeKind.FAILED | OutcomeKind.MISCONFIGURED:
                self.failures, self.successes = self.failures + 1, 0
                return self._turn(False) if self.failures >= self.fall else None
            case OutcomeKind.THROTTLED | OutcomeKind.NEUTRAL:
                return None

    def _turn(self, up: bool) -> Verdict | None:
        if self.up is up:
            return None
        self.up = up
        return Verdict.UP if up else Verdict.DOWN

    @property
    def wavers(self) -> bool:
        """Whether the last results speak against the verdict, so that the next ones are wanted soon."""
        return self.successes > 0 if self.up is False else self.failures > 0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe and what the tracker made of it."""

    upstream: str
    model: str
    outcome: Outcome
    at: float
    """When it ended, in seconds on the prober's clock."""
    duration: float
    """Seconds."""
    verdict: Verdict | None
    """Set when this probe changed it."""
    up: bool | None
    next_probe: NextProbe


class ProbeJudge:
    """Lets the probes of one upstream and model act on its circuit, and never close it."""

    def __init__(self, breaker: CircuitBreaker, tracker: ProbeTracker) -> None:
        self.tracker = tracker
        self._breaker = breaker
        self._opening = breaker.generation
        self._answered = 0  # probes in a row that succeeded during this opening
        self._unrefuted = 0  # probes in a row that failed since traffic last showed the upstream to be well
        self._failed_at = -math.inf

    @property
    def in_doubt(self) -> bool:
        """Whether the next results are wanted soon.

        Either the last ones speak against the verdict, or it is DOWN of an upstream whose traffic has refuted that and
        does so no more.
        """
        return self.tracker.wavers or (self.tracker.up is False and not self.is_down and self._unrefuted > 1)

    @property
    def is_down(self) -> bool:
        """Whether the verdict is DOWN and no traffic keeps the circuit closed."""
        return self.tracker.up is False and self._breaker.judged_state is not CircuitState.CLOSED

    def needless(self, now: float, within: float) -> bool:
        """Whether a probe at `now` could tell nothing that traffic of the last `within` seconds has not told better.

        Only where nothing is in doubt: the probes say up, the circuit is closed, and a call has lately succeeded in
        good time.
        """
        return (
            self.tracker.up is True
            and not self.tracker.wavers
            and self._breaker.judged_state is CircuitState.CLOSED
            and now - self._breaker.last_success_at <= within
        )

    def record(self, outcome: Outcome, started_at: float, now: float) -> Verdict | None:
        """Judge a probe that ran from `started_at` to `now`. Returns the tracker's verdict when it changes.

        While the verdict is DOWN, each failure opens a circuit that is not open: without traffic nothing else would.
        But traffic knows better: a circuit is left alone until `fall` probes have failed without a success of traffic
        between them, and while its trials are out.
        `rise` successes in a row since the circuit opened let its trials begin, also when it was traffic that opened it
        and the tracker never fell. A probe that began before the opening counts for none.
        """
        verdict = self.tracker.record(outcome)
        if outcome.kind is OutcomeKind.OK:
            self._unrefuted = 0
            self._count_answer(started_at, now)
        elif outcome.kind in (OutcomeKind.FAILED, OutcomeKind.MISCONFIGURED):
            self._answered = 0
            self._count_unrefuted(now)
            if self.tracker.up is False and not self._traffic_knows_better():
                self._breaker.trip(now, outcome.retry_after, self.tracker.failures)
        return verdict

    def _count_unrefuted(self, now: float) -> None:
        refuted = self._breaker.last_success_at >= self._failed_at
        self._unrefuted = 1 if refuted else self._unrefuted + 1
        self._failed_at = now

    def _traffic_knows_better(self) -> bool:
        return self._unrefuted < self.tracker.fall or self._breaker.in_flight_trials > 0

    def _count_answer(self, started_at: float, now: float) -> None:
        if self._breaker.judged_state is not CircuitState.OPEN or started_at < self._breaker.since:
            return
        if self._opening != self._breaker.generation:
            self._opening, self._answered = self._breaker.generation, 0
        self._answered += 1
        if self._answered >= self.tracker.rise:
            self._breaker.begin_trials(now)
