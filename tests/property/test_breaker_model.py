"""The circuit breaker beside a naive one, by the same random steps: what one of them says, the other must.

All times are multiples of 1/8 s, which floats hold exactly, so that a boundary is met and not missed by an ulp.
"""

from __future__ import annotations

import inspect
import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from health.breaker import (
    BackoffReset,
    BreakerConfig,
    CallRefused,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Permit,
    Throttled,
    TransitionReason,
    WindowType,
)
from health.outcome import NEUTRAL, OK, FailureReason, Outcome
from tests.property.naive_breaker import Call, NaiveBreaker
from tests.unit.scene import CLIENT_LEFT, FAILED, THROTTLED

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
outcomes = st.sampled_from([OK, OK, FAILED, CLIENT_LEFT]) | st.sampled_from(
    [
        THROTTLED,
        NEUTRAL,
        Outcome.failure(FailureReason.FORBIDDEN),
        Outcome.failure(FailureReason.DNS),
        Outcome.failure(FailureReason.TOTAL_TIMEOUT),
        Outcome.failure(FailureReason.SERVER_ERROR, retry_after=0.5),
        Outcome.failure(FailureReason.UNAUTHORIZED, retry_after=3.0),
        Outcome.failure(FailureReason.CONNECT, retry_after=100.0),
        Outcome.failure(FailureReason.THROTTLED, retry_after=4.0),
    ]
)
runs = st.lists(outcomes, min_size=1, max_size=5) | st.integers(1, 4).map(lambda times: [FAILED] * times)
eighths = st.integers(0, 24).map(lambda number: number / 8)


@st.composite
def configs(draw: st.DrawFn) -> BreakerConfig:
    """Small numbers, so that windows fill and empty, and every rule gets its turn within a few dozen steps."""
    size, open_seconds = draw(st.integers(1, 6)), draw(st.sampled_from([0.5, 1.0, 2.0]))
    window_type, rates = draw(st.sampled_from(WindowType)), st.sampled_from([0.25, 1 / 3, 0.5, 0.5, 0.75, 1.0])
    return BreakerConfig(
        window_type=window_type,
        window_size=size,
        minimum_calls=draw(st.integers(1, size if window_type is WindowType.COUNT else 8)),
        failure_rate_threshold=draw(rates),
        slow_call_seconds=draw(st.sampled_from([0.5, 1.0, 2.0, math.inf])),
        slow_rate_threshold=draw(rates),
        consecutive_failures=draw(st.sampled_from([0, 0, 1, 2, 3, 4])),
        open_seconds=open_seconds,
        open_multiplier=draw(st.sampled_from([1.0, 1.5, 2.0])),
        max_open_seconds=open_seconds * draw(st.sampled_from([1, 2, 8])),
        trial_calls=draw(st.integers(1, 4)),
        trial_seconds=draw(st.sampled_from([1.0, 3.0, math.inf])),
        ramp_seconds=draw(st.sampled_from([0.0, 0.0, 1.0, 4.0])),
        jitter=0.0,
        backoff_reset=draw(st.sampled_from(BackoffReset)),
    )


class BreakerMachine(RuleBasedStateMachine):
    """Each rule is a step for both. What they answer is compared in the step, what they then show after it."""

    @initialize(config=configs(), start=st.sampled_from([0.0, 0.875, 1000.0]))
    def begin(self, config: BreakerConfig, start: float) -> None:
        self.now = start
        self.real = CircuitBreaker("c", config, now=start)
        self.naive = NaiveBreaker(config, start)
        self.flight: list[tuple[Permit, Call]] = []
        self.settled: list[Permit] = []
        self.opened_for: TransitionReason | None = None

    # Time

    @rule(seconds=eighths)
    def wait(self, seconds: float) -> None:
        self.now += seconds
        # Nothing but the share is read here: a reading moves the windows, and a rule that forgets to would be covered.
        self.compare_share()

    @rule(
        what=st.sampled_from(["opening", "ramp", "slow", "trial", "healthy", "window"]),
        beyond=st.sampled_from([0.0, 0.125]),
    )
    def wait_until(self, what: str, beyond: float) -> None:
        """To the exact end of something, or just beyond it."""
        config, since = self.real.config, self.real.since
        first = self.flight[0][0].started_at if self.flight else math.inf
        ends = {
            "opening": self.naive.period.until,
            "ramp": since + config.ramp_seconds,
            "slow": first + config.slow_call_seconds,
            "trial": first + config.trial_seconds,
            "window": self.now + config.window_size,
            "healthy": since + (config.open_length(self.real.attempt) if self.real.attempt else math.inf),
        }
        if self.now <= ends[what] < math.inf:
            self.now = ends[what] + beyond
        self.compare_share()

    @rule()
    def poll(self) -> None:
        self.real.poll(self.now)
        self.naive.poll(self.now)
        assert self.real.attempt == self.naive.period.attempt(self.now)
        self.compare()

    # Calls

    @rule(insist=st.sampled_from([False, False, True]))
    def start(self, insist: bool) -> None:
        self.both_start(insist)

    @rule(ends=runs, seconds=st.sampled_from([0.0, 0.0, 0.5, 1.125, 2.125]))
    def calls(self, ends: list[Outcome], seconds: float) -> None:
        """Whole calls, side by side: rates and verdicts need more of them than single steps would bring about."""
        started = [self.both_start(insist=True) for _ in ends]
        self.now += seconds
        for pair, outcome in zip(started, ends, strict=True):
            if pair is not None:
                self.both_settle(pair, outcome)
                self.compare()

    @rule(times=st.integers(0, 3))
    def hang(self, times: int) -> None:
        """Calls that are slow while they are in flight: some of them anew, and all that were there."""
        if self.real.config.slow_call_seconds < math.inf:
            for _ in range(times):
                self.both_start(insist=True)
            self.now += self.real.config.slow_call_seconds + 0.125
            self.poll()

    @rule()
    def check(self) -> None:
        refusal: CallRefused | None = None
        try:
            self.real.check(self.now)
        except CallRefused as caught:
            refusal = caught
        self.compare_refusal(refusal, take=False)
        self.compare()

    @precondition(lambda self: self.flight)
    @rule(which=st.integers(0, 7))
    def content(self, which: int) -> None:
        permit, call = self.flight[which % len(self.flight)]
        permit.content(self.now)
        call.content = self.now if call.content is None else call.content
        self.compare()

    @precondition(lambda self: self.flight)
    @rule(which=st.integers(0, 7), outcome=outcomes)
    def settle(self, which: int, outcome: Outcome) -> None:
        self.both_settle(self.flight[which % len(self.flight)], outcome)
        self.compare()

    @precondition(lambda self: self.settled)
    @rule(which=st.integers(0, 7), outcome=outcomes)
    def settle_again(self, which: int, outcome: Outcome) -> None:
        assert self.settled[which % len(self.settled)].settle(outcome, self.now) is False
        self.compare()

    @precondition(lambda self: self.naive.period.state is not CLOSED)
    @rule(last=st.none() | outcomes)
    def recover(self, last: Outcome | None) -> None:
        """Trials that pass, or all but the last of them: single steps alone would seldom close the circuit again."""
        self.begin_trials()
        started = [self.both_start(insist=True) for _ in range(self.real.config.trial_calls)]
        for pair in filter(None, started[1:]):
            self.both_settle(pair, OK)
            self.compare()
        if last is not None and started[0] is not None:
            self.both_settle(started[0], last)
            self.compare()

    # The probe

    @rule(retry_after=st.sampled_from([None, None, 0.5, 3.0, 100.0]), seldom=st.integers(0, 3))
    def trip(self, retry_after: float | None, seldom: int) -> None:
        if seldom:
            return
        self.real.trip(self.now, retry_after)
        if self.naive.period.state is not OPEN:
            self.naive.period.asked = max(self.naive.period.asked, self.now + (retry_after or 0.0))
            self.naive.move(OPEN, TransitionReason.PROBE, self.now)
        self.compare()

    @rule()
    def begin_trials(self) -> None:
        self.real.begin_trials(self.now)
        if self.naive.period.state is OPEN:
            self.naive.move(HALF_OPEN, TransitionReason.PROBE_RECOVERED, self.now)
        self.compare()

    # Both

    def both_start(self, insist: bool) -> tuple[Permit, Call] | None:
        permit: Permit | None = None
        if insist:
            permit = self.real.insist(self.now)
            assert self.naive.admit(self.now, insist=True) is (permit is not None)
        else:
            admits, refusal = self.real.admits(self.now), None
            try:
                permit = self.real.acquire(self.now)
            except CallRefused as caught:
                refusal = caught
            self.compare_refusal(refusal, take=True)
            assert admits is (refusal is None), "admits() and acquire() disagree"
        self.compare()
        if permit is None:
            return None
        self.flight.append((permit, self.naive.period.flight[-1]))
        assert permit.trial is (self.naive.period.state is HALF_OPEN)
        return self.flight[-1]

    def both_settle(self, pair: tuple[Permit, Call], outcome: Outcome) -> None:
        permit, call = pair
        self.flight.remove(pair)
        self.settled = [permit, *self.settled[:7]]
        assert permit.settle(outcome, self.now) is True
        self.naive.settle(call, outcome, self.now)

    def compare_refusal(self, refusal: CallRefused | None, take: bool) -> None:
        ramp_passes = self.naive.spread.includes(self.naive.period.ramp(self.now))
        assert self.naive.admit(self.now, take) is (refusal is None)
        period = self.naive.period
        has_room = period.state is CLOSED or period.share(self.now) > 0
        if refusal is None:
            return
        assert isinstance(refusal, Throttled if has_room and ramp_passes else CircuitOpen)
        assert refusal.retry_after == (period.until - self.now if period.state is OPEN else 0.0)
        if isinstance(refusal, CircuitOpen):
            assert refusal.reason is (period.reason if period.state is OPEN else self.opened_for)

    def compare(self) -> None:
        real, period = self.real, self.naive.period
        if period.state is OPEN:
            self.opened_for = period.reason
        assert (real.circuit_state, real.open_until) == (
            period.state,
            None if period.state is not OPEN else period.until,
        )
        assert real.counts(self.now) == period.counts(self.now)
        assert (real.in_flight_trials, real.stale_results) == (len(period.trials()), self.naive.stale)
        if period.state is not CLOSED:  # a closed circuit's attempts are as of the last poll
            assert real.attempt == period.attempts
        assert period.state is not HALF_OPEN or period.flight or period.share(self.now) > 0, "half-open for ever"
        last = real.last_transition
        assert (last is None) is (period.reason is None)
        if last is not None:
            assert (last.reason, last.at, last.attempt) == (period.reason, period.since, period.attempt(period.since))
            assert (last.calls, last.failed, last.slow) == period.evidence
        self.compare_share()

    def compare_share(self) -> None:
        share = self.naive.period.share(self.now) if self.naive.period.state is CLOSED else 0.0
        assert self.real.admitted_share(self.now) == share


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=700, stateful_step_count=40, deadline=None, derandomize=True)


def test_the_naive_breaker_is_clever() -> None:
    assert len(inspect.getsource(NaiveBreaker).splitlines()) <= 60
