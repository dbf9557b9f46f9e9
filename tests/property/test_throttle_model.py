"""The throttle: its formula against a list of every answer, and what it comes to against an upstream that refuses.

The upstreams here are rules, not services: one refuses a share at random, one has a quota a second, one refuses all.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState, Throttled
from health.outcome import OK, FailureReason, Outcome
from health.throttle import Throttle

REFUSED = Outcome.failure(FailureReason.THROTTLED)
WINDOW = 10
RATE = 100  # calls a second


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    answers=st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0, 3.0, 9.875, 10.0, 11.0]), st.booleans()), max_size=60
    ),
    size=st.sampled_from([1, 3, 10]),
)
def test_the_share_is_the_formulas_over_the_answers_of_the_window(answers: list[tuple[float, bool]], size: int) -> None:
    throttle, now, heard = Throttle(size), 1000.0, list[tuple[float, bool]]()
    for pause, refused in answers:
        now += pause
        held = [was_refused for at, was_refused in heard if floor(at) > floor(now) - size]
        assert throttle.spill_share(now) == sum(held) / (len(held) + 1)
        assert throttle.accept_ratio(now) == 1.0 - (sum(held) / len(held) if held else 0.0)
        throttle.record(now, refused=refused)
        heard.append((now, refused))
        assert throttle.active or not any(refused for at, refused in heard if floor(at) > floor(now) - size)


@dataclass
class Traffic:
    """`RATE` calls a second to a closed circuit; `accepts` is the upstream."""

    breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker("c", BreakerConfig(), now=1000.0))
    now: float = 1000.0
    sent: int = 0
    spilled: int = 0

    def run(self, seconds: float, accepts: Callable[[float], bool]) -> float:
        """Returns the share that was spilled."""
        self.sent = self.spilled = 0
        for _ in range(int(seconds * RATE)):
            self.now += 1 / RATE
            try:
                permit = self.breaker.acquire(self.now)
            except Throttled:
                self.spilled += 1
            else:
                self.sent += 1
                permit.settle(OK if accepts(self.now) else REFUSED, self.now)
        assert self.breaker.circuit_state is CircuitState.CLOSED, "refusals for capacity opened the circuit"
        return self.spilled / (self.spilled + self.sent)


class Quota:
    """Accepts so many calls in each second."""

    def __init__(self, quota: int) -> None:
        self.quota, self.second, self.used = quota, 0, 0

    def __call__(self, now: float) -> bool:
        if floor(now) != self.second:
            self.second, self.used = floor(now), 0
        self.used += 1
        return self.used <= self.quota


def test_of_an_upstream_that_refuses_three_in_ten_three_in_ten_are_spilled_and_no_more() -> None:
    dice, traffic = random.Random(7), Traffic()
    traffic.run(2 * WINDOW, lambda _: dice.random() >= 0.3)
    assert abs(traffic.run(10 * WINDOW, lambda _: dice.random() >= 0.3) - 0.3) < 0.03


def test_of_an_upstream_with_a_quota_no_more_than_the_excess_is_spilled_and_the_quota_is_used() -> None:
    traffic, quota = Traffic(), Quota(RATE // 2)
    traffic.run(3 * WINDOW, quota)
    spilled = traffic.run(10 * WINDOW, quota)
    assert 0.1 < spilled <= 0.5
    assert traffic.sent >= 10 * WINDOW * RATE // 2, "the quota was not used"


def test_one_window_after_the_last_refusal_nothing_is_spilled() -> None:
    traffic = Traffic()
    traffic.run(WINDOW, Quota(RATE // 2))
    assert traffic.breaker.admitted_share(traffic.now) < 1
    traffic.run(WINDOW, lambda _: True)
    assert traffic.breaker.admitted_share(traffic.now + 0.001) == 1
    assert traffic.run(WINDOW, lambda _: True) == 0


def test_of_an_upstream_that_refuses_everything_a_few_calls_are_asked_still() -> None:
    traffic = Traffic()
    traffic.run(3 * WINDOW, lambda _: False)
    traffic.run(10 * WINDOW, lambda _: False)
    root = (RATE * WINDOW) ** 0.5
    assert root / 2 < traffic.sent / 10 < root * 2
