"""What the circuit tells of itself: the evidence of a change, a refusal in words, a permit's latency."""

from __future__ import annotations

from contextlib import suppress

import pytest

from health.breaker import BreakerConfig, CircuitBreaker, CircuitOpen, CircuitState, Throttled, TransitionReason
from health.outcome import OK
from tests.unit.scene import FAILED, THROTTLED, Scene


def test_a_new_circuit_was_open_before_or_heard_of_probes() -> None:
    scene = Scene()
    assert (scene.breaker.trip_reason, scene.breaker.last_transition, scene.breaker.open_until) == (None, None, None)
    scene.calls(FAILED, 10)
    assert scene.last.failed_probes == 0


def test_a_change_is_told_with_the_wrong_states_thresholds_or_end() -> None:
    scene = Scene()
    scene.calls(FAILED, 10)
    breaker = scene.breaker
    assert (scene.last.from_state, scene.last.to_state) == (CircuitState.CLOSED, CircuitState.OPEN)
    assert scene.last.config is breaker.config
    assert scene.last.open_until == breaker.open_until == scene.now + 5.0
    scene.wait(5.001)
    breaker.poll(scene.now)
    assert (scene.last.from_state, scene.last.to_state) == (CircuitState.OPEN, CircuitState.HALF_OPEN)
    assert scene.last.open_until is None


def test_a_trip_by_traffic_is_put_down_to_the_probes_of_the_trip_before() -> None:
    scene = Scene()
    scene.breaker.trip(scene.now, None, 3)
    assert scene.last.failed_probes == 3
    scene.wait(5.001)
    scene.breaker.poll(scene.now)
    assert scene.last.failed_probes == 0
    scene.trip()
    assert scene.last.failed_probes == 0


def test_a_refusal_does_not_say_which_circuit_refuses() -> None:
    refusal = CircuitOpen("vertex/codestral-2", TransitionReason.SLOW_RATE, 1.5)
    assert "vertex/codestral-2" in str(refusal)
    assert "slow_rate" in str(refusal)
    assert "1.500 s" in str(refusal)
    assert "vertex/codestral-2" in str(Throttled("vertex/codestral-2"))


def test_the_latency_of_a_stream_grows_after_its_first_content() -> None:
    scene = Scene(slow_call_seconds=0.5)
    permit, without_content = scene.start(), scene.start()
    permit.content(scene.now + 0.5)
    permit.content(scene.now + 1.0)
    scene.wait(2.0)
    assert scene.end(permit)
    assert scene.counts == (1, 0, 0)
    assert scene.end(without_content)
    assert scene.counts == (2, 0, 1)


def test_a_refused_caller_does_not_learn_which_circuit_it_was() -> None:
    scene = Scene()
    scene.trip()
    assert scene.refusal().args[0] == "c"


def test_a_throttled_caller_does_not_learn_which_circuit_it_was() -> None:
    scene = Scene()
    scene.calls(THROTTLED)
    scene.insisted_calls(THROTTLED, 20)
    with pytest.raises(Throttled, match="circuit c spills"):
        scene.calls(OK, 20)


def test_a_trial_that_is_kept_back_for_capacity_is_refused_as_if_the_circuit_were_open() -> None:
    scene = Scene()
    scene.trip()
    scene.half_open()
    scene.start()
    scene.insisted_calls(THROTTLED, 20)
    with pytest.raises(Throttled, match="circuit c spills"):
        scene.calls(THROTTLED, 20)
    assert scene.state() is CircuitState.HALF_OPEN


def test_a_call_without_a_permit_takes_no_share_of_what_may_pass() -> None:
    scene = Scene()
    scene.insisted_calls(OK, 20)
    scene.insisted_calls(THROTTLED, 10)
    passed = 0
    for number in range(100):
        with suppress(Throttled):
            (scene.breaker.pass_uncounted if number % 2 else scene.breaker.acquire)(scene.now)
            passed += 1
    assert 65 <= passed <= 70, "a third is spilled, of both together"
    assert scene.counts.calls == 20, "and nothing of it was counted"


def test_a_call_without_a_permit_passes_a_circuit_that_is_not_closed() -> None:
    scene = Scene()
    scene.trip()
    with pytest.raises(CircuitOpen):
        scene.breaker.pass_uncounted(scene.now)
    scene.wait(5.1)
    with pytest.raises(CircuitOpen, match="circuit c refuses calls"):
        scene.breaker.pass_uncounted(scene.now)
    assert scene.state() is CircuitState.HALF_OPEN


def test_a_call_that_observing_lets_pass_has_no_start_or_counts_as_a_trial() -> None:
    scene = Scene(observe_only=True)
    scene.trip()
    permit = scene.start()
    assert (permit.started_at, permit.trial) == (scene.now, False)


@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_a_call_that_was_exactly_in_time_but_for_the_lag_is_slow(start: float) -> None:
    breaker = CircuitBreaker("c", BreakerConfig(slow_call_seconds=1.5), now=start, lag=lambda _start, _end: 0.5)
    breaker.acquire(start).settle(OK, start + 2.0)
    assert breaker.counts(start + 2.0).slow == 0
