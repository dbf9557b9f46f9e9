"""What probes may do to a circuit, and when none is needed."""

from __future__ import annotations

from contextlib import suppress

import pytest

from health.breaker import BreakerConfig, CallRefused, CircuitBreaker, CircuitState, TransitionReason
from health.outcome import OK, FailureReason, Outcome, OutcomeKind
from health.probe import ProbeJudge, ProbeTracker
from tests.unit.scene import FAILED, THROTTLED


class Bench:
    """A circuit, its judge, and probes that take a tenth of a second."""

    def __init__(self, *, trial_calls: int = 1, observe_only: bool = False) -> None:
        self.now = 100.0
        config = BreakerConfig(jitter=0.0, trial_calls=trial_calls, observe_only=observe_only)
        self.breaker = CircuitBreaker("c", config, now=self.now)
        self.judge = ProbeJudge(self.breaker, ProbeTracker(fall=3, rise=2))

    def probe(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            started_at = self.now
            self.now += 0.1
            self.judge.record(outcome, started_at, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.breaker.poll(self.now)

    def call(self, outcome: Outcome) -> None:
        self.breaker.acquire(self.now).settle(outcome, self.now)

    def state(self) -> CircuitState:
        return self.breaker.circuit_state


def brought_back() -> Bench:
    """Called down by the probes, and closed again by traffic."""
    bench = Bench()
    bench.probe(FAILED, FAILED, FAILED)
    bench.wait(5.1)
    bench.call(OK)
    assert bench.state() is CircuitState.CLOSED
    return bench


def test_an_outage_without_traffic_leaves_the_circuit_closed() -> None:
    bench = Bench()
    bench.probe(OK, FAILED, FAILED)
    assert bench.state() is CircuitState.CLOSED
    bench.probe(FAILED)
    assert (bench.state(), bench.breaker.trip_reason) == (CircuitState.OPEN, TransitionReason.PROBE)


def test_half_open_without_traffic_lasts_while_the_probe_fails_or_reopens_without_backing_off() -> None:
    bench = Bench()
    bench.probe(FAILED, FAILED, FAILED)
    bench.wait(5.1)
    assert bench.state() is CircuitState.HALF_OPEN
    bench.probe(FAILED)
    assert (bench.state(), bench.breaker.attempt) == (CircuitState.OPEN, 2)


def test_failing_probes_extend_an_opening() -> None:
    bench = Bench()
    bench.probe(FAILED, FAILED, FAILED)
    until = bench.breaker.open_until
    bench.probe(FAILED, FAILED)
    assert bench.breaker.open_until == until


def test_a_retry_after_that_a_probe_was_told_goes_unheeded() -> None:
    bench = Bench()
    bench.probe(*[Outcome.failure(FailureReason.SERVER_ERROR, retry_after=40.0)] * 3)
    assert bench.breaker.open_until == pytest.approx(bench.now + 40)


def test_trials_wait_for_the_openings_end_though_the_probe_is_answered_again() -> None:
    bench = Bench()
    bench.probe(FAILED, FAILED, FAILED, OK)
    assert bench.state() is CircuitState.OPEN
    bench.probe(OK)
    assert bench.state() is CircuitState.HALF_OPEN


def test_trials_wait_for_the_openings_end_when_traffic_opened_the_circuit_and_the_probe_never_fell() -> None:
    bench = Bench()
    bench.probe(OK, OK, OK)
    for _ in range(5):
        bench.call(FAILED)
    bench.probe(OK)
    assert bench.state() is CircuitState.OPEN, "successes from before the outage count for nothing"
    bench.probe(OK)
    assert bench.state() is CircuitState.HALF_OPEN


def test_a_probe_that_began_before_the_outage_is_a_sign_of_recovery() -> None:
    bench = Bench()
    bench.breaker.trip(bench.now)
    for _ in range(5):
        bench.judge.record(OK, bench.now - 0.01, bench.now + 0.1)
    assert bench.state() is CircuitState.OPEN


def test_successes_of_an_earlier_opening_count_for_this_one() -> None:
    bench = Bench()
    bench.breaker.trip(bench.now)
    bench.probe(OK)
    bench.wait(5)
    bench.call(FAILED)
    assert (bench.state(), bench.breaker.attempt) == (CircuitState.OPEN, 2)
    bench.probe(OK)
    assert bench.state() is CircuitState.OPEN


def test_successes_with_a_failure_between_are_a_recovery() -> None:
    bench = Bench()
    bench.breaker.trip(bench.now)
    bench.probe(OK, FAILED, OK)
    assert bench.state() is CircuitState.OPEN


def test_a_probe_closes_a_circuit() -> None:
    bench = Bench()
    bench.probe(FAILED, FAILED, FAILED)
    bench.probe(*[OK] * 50)
    assert bench.state() is CircuitState.HALF_OPEN
    bench.call(OK)
    assert bench.state() is CircuitState.CLOSED


def test_a_probe_that_is_wrong_makes_a_circuit_flap_that_traffic_has_closed() -> None:
    bench = brought_back()
    bench.wait(11)  # the ramp
    for _ in range(5):
        bench.call(OK)
        bench.probe(FAILED, FAILED)
    assert bench.state() is CircuitState.CLOSED


def test_a_probe_that_is_wrong_opens_a_circuit_whose_traffic_is_well() -> None:
    bench = Bench()
    for _ in range(10):
        bench.call(OK)
        bench.probe(FAILED, FAILED)
    assert bench.judge.tracker.up is False
    assert bench.state() is CircuitState.CLOSED


@pytest.mark.parametrize("slow", [False, True])
def test_a_call_that_did_not_go_well_keeps_a_circuit_closed_that_probes_call_down(*, slow: bool) -> None:
    bench = Bench()
    for _ in range(3):
        permit = bench.breaker.acquire(bench.now)
        bench.now += 2.0 if slow else 0.0
        permit.settle(OK if slow else FAILED, bench.now)
        bench.probe(FAILED)
    assert (bench.state(), bench.breaker.trip_reason) == (CircuitState.OPEN, TransitionReason.PROBE)


def test_the_end_of_a_stream_that_began_before_an_outage_refutes_the_probes() -> None:
    bench = Bench()
    permit = bench.breaker.acquire(bench.now)
    permit.content(bench.now + 0.05)
    bench.wait(0.1)
    bench.probe(FAILED, FAILED)
    permit.settle(OK, bench.now)
    bench.probe(FAILED)
    assert bench.state() is CircuitState.OPEN


def test_probes_that_failed_with_a_success_between_open_a_circuit_that_traffic_has_closed() -> None:
    bench = brought_back()
    bench.wait(0.1)
    bench.probe(FAILED, FAILED, OK, FAILED, FAILED)
    assert bench.state() is CircuitState.CLOSED
    bench.probe(FAILED)
    assert bench.state() is CircuitState.OPEN


def test_an_upstream_that_dies_as_traffic_ceases_is_not_doubted() -> None:
    """The verdict DOWN came while traffic refuted it; what is wanted then is the next results, and soon."""
    bench = Bench()
    bench.probe(FAILED)
    bench.call(OK)
    bench.probe(FAILED)
    bench.call(OK)
    bench.probe(FAILED)
    assert (bench.judge.is_down, bench.judge.in_doubt) == (False, False)
    bench.probe(FAILED)
    assert (bench.judge.is_down, bench.judge.in_doubt) == (False, True)
    bench.probe(FAILED)
    assert (bench.judge.is_down, bench.judge.in_doubt) == (True, False)
    assert bench.state() is CircuitState.OPEN


def test_a_probe_that_is_wrong_ends_trials_that_go_well() -> None:
    bench = Bench(trial_calls=5)
    bench.probe(FAILED, FAILED, FAILED)
    bench.wait(5.1)
    for _ in range(4):
        permit = bench.breaker.acquire(bench.now)
        bench.probe(FAILED)
        assert bench.state() is CircuitState.HALF_OPEN, "while a trial is out"
        permit.settle(OK, bench.now)
        bench.probe(FAILED)
        assert bench.state() is CircuitState.HALF_OPEN, "when it has just succeeded"
    bench.call(OK)
    assert bench.state() is CircuitState.CLOSED


def test_half_open_lasts_on_an_old_success_while_the_probe_fails() -> None:
    bench = Bench(trial_calls=5)
    bench.probe(FAILED, FAILED, FAILED)
    bench.wait(5.1)
    bench.call(OK)
    bench.probe(FAILED, FAILED)
    assert bench.state() is CircuitState.HALF_OPEN
    bench.probe(FAILED)
    assert bench.state() is CircuitState.OPEN


def test_a_healthy_upstream_is_kept_out_for_ever_by_a_probe_that_is_wrong() -> None:
    """A call every six seconds, all of them well, and probes that ask for a model that is not there."""
    bench = Bench(trial_calls=5)
    bench.probe(FAILED, FAILED, FAILED)
    served = 0
    for _ in range(600):
        bench.wait(6)
        with suppress(CallRefused):
            bench.breaker.acquire(bench.now).settle(OK, bench.now + 0.2)
            served += 1
        bench.wait(0.3)
        bench.probe(FAILED)
    assert bench.state() is CircuitState.CLOSED
    assert served > 590


def test_an_upstream_that_dies_after_traffic_has_ceased_is_taken_for_well() -> None:
    bench = brought_back()
    bench.wait(1)
    bench.probe(FAILED, FAILED)
    assert bench.state() is CircuitState.CLOSED
    bench.probe(FAILED)
    assert bench.state() is CircuitState.OPEN


# When a probe is needless


def well() -> Bench:
    """Probes say up, and a call has just succeeded."""
    bench = Bench()
    bench.probe(OK)
    bench.call(OK)
    return bench


def test_an_upstream_that_traffic_has_just_proved_well_is_probed_all_the_same() -> None:
    bench = well()
    assert bench.judge.needless(bench.now, 10.0)
    assert bench.judge.needless(bench.now + 10, 10.0)


def test_traffic_that_has_stopped_proves_health_for_ever() -> None:
    bench = well()
    assert not bench.judge.needless(bench.now + 10.1, 10.0)


def test_a_probe_is_skipped_before_any_traffic() -> None:
    bench = Bench()
    bench.probe(OK)
    assert not bench.judge.needless(bench.now, 10.0)


def test_a_success_of_a_probe_passes_for_traffic() -> None:
    bench = Bench()
    bench.probe(OK, OK, OK)
    assert not bench.judge.needless(bench.now, 10.0)


@pytest.mark.parametrize("outcome", [FAILED, Outcome(OutcomeKind.NEUTRAL, FailureReason.CLIENT_LEFT), THROTTLED])
def test_a_call_that_did_not_succeed_proves_health(outcome: Outcome) -> None:
    bench = Bench()
    bench.probe(OK)
    bench.call(outcome)
    assert not bench.judge.needless(bench.now, 10.0)


def test_a_slow_answer_proves_health() -> None:
    bench = Bench()
    bench.probe(OK)
    bench.breaker.acquire(bench.now).settle(OK, bench.now + 2)
    assert not bench.judge.needless(bench.now + 2, 10.0)


def test_a_doubt_of_the_probes_is_left_to_traffic() -> None:
    bench = well()
    bench.probe(FAILED)
    assert not bench.judge.needless(bench.now, 10.0)
    bench.probe(OK)
    assert bench.judge.needless(bench.now, 10.0)


def test_an_upstream_without_a_verdict_is_not_probed() -> None:
    bench = Bench()
    bench.call(OK)
    bench.probe(THROTTLED)
    assert not bench.judge.needless(bench.now, 10.0)


def test_an_upstream_that_probes_call_down_is_not_probed_for_one_good_call() -> None:
    bench = Bench()
    bench.probe(FAILED, FAILED, FAILED)
    bench.wait(5.1)
    bench.call(OK)
    assert bench.state() is CircuitState.CLOSED
    bench.wait(20)
    bench.call(OK)
    assert not bench.judge.needless(bench.now, 10.0)


@pytest.mark.parametrize("observe_only", [False, True])
def test_a_circuit_that_is_not_closed_goes_without_probes(observe_only: bool) -> None:
    bench = Bench(observe_only=observe_only)
    bench.probe(OK)
    bench.call(OK)
    for _ in range(5):
        bench.call(FAILED)
    assert not bench.judge.needless(bench.now, 10.0)


def test_the_evidence_of_an_outage_that_probes_found_does_not_say_how_many() -> None:
    bench = Bench()
    bench.probe(FAILED, FAILED, FAILED)
    assert bench.breaker.last_transition is not None
    assert bench.breaker.last_transition.failed_probes == 3
