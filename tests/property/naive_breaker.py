"""The circuit breaker once more, as plainly as it can be said: it keeps every sample and recomputes every answer.

The real one takes O(1), and the cleverness which that takes is what can be wrong. `test_breaker_model.py` drives both
with the same steps. They share the vocabulary, `EvenSpread`, and the configuration's two sums about openings.
`NaiveBreaker` is all the rules; `Period` is what was seen, and what it says when it is added up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from math import floor, inf

from health.breaker import BackoffReset, BreakerConfig, CircuitState, WindowType
from health.outcome import FailureReason, Outcome, OutcomeKind
from health.spread import EvenSpread
from health.transitions import TransitionReason as Reason
from health.window import Counts

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
RAN_ON = (FailureReason.CLIENT_LEFT, FailureReason.TOTAL_TIMEOUT)
FAILURES = (OutcomeKind.FAILED, OutcomeKind.MISCONFIGURED)


@dataclass(eq=False)
class Sample:
    at: float
    failed: bool = False
    slow: bool = False
    gone: bool = False  # taken back, or pushed out by a later one


@dataclass(eq=False)
class Call:
    period: Period
    started: float
    content: float | None = None
    mark: Sample | None = None  # what it counts as since it was found slow in flight

    def latency(self, now: float) -> float:
        return (now if self.content is None else self.content) - self.started


@dataclass(eq=False)
class Period:
    """The time between two transitions: what is known of it does not outlast it."""

    config: BreakerConfig
    state: CircuitState
    since: float
    attempts: int = 0  # when it began
    reason: Reason | None = None  # of the transition that began it, as is `evidence`
    evidence: Counts | None = None
    until: float = inf
    asked: float = -inf  # the latest time that a Retry-After named
    samples: list[Sample] = field(default_factory=list)
    flight: list[Call] = field(default_factory=list)
    ends: list[tuple[float, OutcomeKind]] = field(default_factory=list)
    heard: list[tuple[float, bool]] = field(default_factory=list)  # whether calls were refused for capacity

    def held(self, now: float) -> list[Sample]:
        held, config = [sample for sample in self.samples if not sample.gone], self.config
        if self.state is CLOSED and config.window_type is WindowType.TIME:  # the results of trials all stay
            held = [sample for sample in held if floor(sample.at) > floor(now) - config.window_size]
        return held

    def record(self, sample: Sample) -> None:
        self.samples.append(sample)
        if self.state is CLOSED and self.config.window_type is WindowType.COUNT:
            for left in self.held(sample.at)[: -self.config.window_size]:
                left.gone = True

    def counts(self, now: float) -> Counts:
        held = self.held(now)
        return Counts(len(held), sum(sample.failed for sample in held), sum(sample.slow for sample in held))

    def row(self) -> int:
        failed = [kind in FAILURES for _, kind in self.ends if kind is OutcomeKind.OK or kind in FAILURES]
        return len(list(takewhile(bool, reversed(failed))))

    def attempt(self, now: float) -> int:
        left, healthy, at_once = self.attempts, now - self.since, self.config.backoff_reset is BackoffReset.ON_CLOSE
        while self.state is CLOSED and left and (at_once or healthy >= self.config.open_length(left)):
            left, healthy = left - 1, healthy - self.config.open_length(left)
        return left

    def ramp(self, now: float) -> float:
        ramps = self.state is CLOSED and self.reason is not None and now < self.since + self.config.ramp_seconds
        return (now - self.since) / self.config.ramp_seconds if ramps else 1.0

    def spill(self, now: float) -> float:
        heard = [refused for at, refused in self.heard if floor(at) > floor(now) - 10]
        return sum(heard) / (len(heard) + 1)

    def trials(self) -> list[Call]:
        return self.flight if self.state is HALF_OPEN else []

    def share(self, now: float) -> float:
        if self.state is CLOSED:
            return min(self.ramp(now), 1.0 - self.spill(now))
        taken = sum(call.mark is None for call in self.flight) + self.counts(now).calls
        return 1.0 - self.spill(now) if self.state is HALF_OPEN and taken < self.config.trial_calls else 0.0

    def rationed(self, now: float) -> bool:
        return self.state is not OPEN and min(self.ramp(now), 1.0 - self.spill(now)) < 1

    def end(self, outcome: Outcome, now: float) -> None:
        self.ends.append((now, outcome.kind))
        if outcome.kind is not OutcomeKind.NEUTRAL or outcome.reason in RAN_ON:
            self.heard.append((now, outcome.kind is OutcomeKind.THROTTLED))

    def too_high(self, now: float) -> Reason | None:
        calls, failed, slow = self.counts(now)
        if failed / calls >= self.config.failure_rate_threshold:
            return Reason.FAILURE_RATE
        return Reason.SLOW_RATE if slow / calls >= self.config.slow_rate_threshold else None


class NaiveBreaker:
    def __init__(self, config: BreakerConfig, now: float) -> None:
        self.config, self.period, self.spread, self.stale = config, Period(config, CLOSED, now), EvenSpread(), 0

    def move(self, state: CircuitState, reason: Reason, now: float) -> None:
        old, attempts, until, heard = self.period, self.period.attempt(now), inf, self.period.heard
        if state is OPEN:
            attempts, heard = self.config.next_attempt(attempts), []
            until = max(now + self.config.open_length(attempts), min(old.asked, now + self.config.max_open_seconds))
        self.period = Period(self.config, state, now, attempts, reason, old.counts(now), until, heard=heard)

    def pass_time(self, now: float) -> None:
        if now > self.period.until:
            self.move(HALF_OPEN, Reason.OPEN_ELAPSED, now)
        elif any(now - call.started > self.config.trial_seconds for call in self.period.trials()):
            self.move(OPEN, Reason.TRIALS_TIMED_OUT, now)

    def admit(self, now: float, take: bool = True, insist: bool = False) -> bool:
        self.pass_time(now)
        share = self.period.share(now)
        passes = (share > 0 or self.period.state is CLOSED) if insist else self.spread.includes(share)
        if self.period.rationed(now) and not insist and (take or not passes):
            self.spread.advance()
        self.period.flight += [Call(self.period, now)] * (passes and take)
        return passes

    def poll(self, now: float) -> None:
        self.pass_time(now)
        for call in [call for call in self.period.flight if call.mark is None]:
            if call.period is self.period and call.latency(now) > self.config.slow_call_seconds:
                call.mark = Sample(now, slow=True)
                self.period.record(call.mark)
                self.judge(now)

    def settle(self, call: Call, outcome: Outcome, now: float) -> None:
        self.pass_time(now if self.period.trials() else -inf)
        period, failed, mark = self.period, outcome.kind in FAILURES, call.mark or Sample(now)
        if call.period is not period:
            self.stale += 1
            return
        period.flight.remove(call)
        period.end(outcome, now)
        period.asked = max(period.asked, now + ((failed and outcome.retry_after) or -inf))
        slow = call.latency(now) > self.config.slow_call_seconds
        counts = failed or outcome.kind is OutcomeKind.OK or (slow and outcome.reason in RAN_ON)
        mark.failed, mark.gone = failed, mark.gone or not counts
        if counts and (not call.mark or (failed and mark not in period.held(now))):
            period.record(Sample(now, failed, slow))
        if counts and (not call.mark or failed or period.state is HALF_OPEN):
            self.judge(now)

    def judge(self, now: float) -> None:
        period, calls, rate = self.period, self.period.counts(now).calls, self.period.too_high(now)
        if period.state is HALF_OPEN:
            if calls >= self.config.trial_calls and (rate or not period.flight):
                self.move(OPEN if rate else CLOSED, Reason.TRIALS_FAILED if rate else Reason.TRIALS_PASSED, now)
        elif rate and calls >= self.config.minimum_calls:
            self.move(OPEN, rate, now)
        elif 0 < self.config.consecutive_failures <= period.row():
            self.move(OPEN, Reason.CONSECUTIVE_FAILURES, now)
