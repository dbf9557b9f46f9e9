"""The throttle: only the refused share is spilled, and not for longer than the refusals last.

The upstreams here are rules, not services: one refuses a share at random, one has a quota a second, one refuses all.
The throttle's formula is tested in `property/test_throttle_model.py`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from health.breaker import CircuitState, Throttled
from health.outcome import OK
from tests.unit.scene import FAILED, THROTTLED, Scene

WINDOW = 10
"""Seconds; not the throttle's own number, so that a longer memory is noticed."""
RATE = 100
"""Calls a second."""

Upstream = Callable[[float], bool]
"""Whether it accepts a call at that time."""


class Traffic:
    """`RATE` calls a second to a closed circuit, of which those that it lets pass reach the upstream."""

    def __init__(self) -> None:
        self.scene = Scene(quiet=False)
        self.calls = self.spilled = self.refused = 0

    def run(self, seconds: float, accepts: Upstream) -> Traffic:
        """Counts anew."""
        self.calls = self.spilled = self.refused = 0
        for _ in range(int(seconds * RATE)):
            self.scene.wait(1 / RATE)
            self.calls += 1
            try:
                permit = self.scene.start()
            except Throttled:
                self.spilled += 1
                continue
            accepted = accepts(self.scene.now)
            self.refused += not accepted
            self.scene.end(permit, OK if accepted else THROTTLED)
        assert self.scene.state() is CircuitState.CLOSED, "refusals for capacity opened the circuit"
        return self

    @property
    def share(self) -> float:
        """What is spilled now, by the throttle and by the circuit, which must agree."""
        share = self.scene.breaker.admission.throttle.spill_share(self.scene.now)
        assert self.scene.breaker.admitted_share(self.scene.now) == 1.0 - share
        assert self.scene.breaker.spilled_share(self.scene.now) == share
        return share


class Quota:
    """So many calls a second, and no more."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._second = -1
        self._left = 0

    def __call__(self, now: float) -> bool:
        if math.floor(now) != self._second:
            self._second, self._left = math.floor(now), self._calls
        self._left -= 1
        return self._left >= 0


def at_random(share: float) -> Upstream:
    """Refuses that share of the calls."""
    dice = random.Random(1)
    return lambda _now: dice.random() >= share


# Each runs from the first call on, and then on for longer: what holds must hold from the start, and for good.


def test_three_calls_in_ten_refused_take_all_of_the_traffic_away() -> None:
    traffic, upstream = Traffic(), at_random(0.3)
    for seconds in (6 * WINDOW, 10 * WINDOW):
        traffic.run(seconds, upstream)
        assert traffic.spilled / traffic.calls == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("quota", [50, 70])
def test_a_quota_is_run_against_with_all_of_the_excess_or_left_unused(quota: int) -> None:
    traffic, upstream = Traffic(), Quota(quota)
    for seconds in (6 * WINDOW, 10 * WINDOW):
        traffic.run(seconds, upstream)
        accepted = traffic.calls - traffic.spilled - traffic.refused
        assert accepted == pytest.approx(quota * seconds, rel=0.01), "the quota was not used"
        # Of what is sent, the share that is refused is the share that is spilled: (1 - spilled)² is the quota's share.
        assert traffic.spilled / traffic.calls == pytest.approx(1 - math.sqrt(quota / RATE), abs=0.015)


def test_an_upstream_that_refuses_everything_is_hammered_or_forgotten() -> None:
    traffic, root = Traffic(), math.sqrt(RATE * WINDOW)
    for windows in (6, 10):
        traffic.run(windows * WINDOW, lambda _now: False)
        sent = traffic.calls - traffic.spilled
        assert root / 2 < sent / windows < root * 2, "about the root of the calls in each window"


@pytest.mark.parametrize("upstream", [at_random(0.3), at_random(1.0), Quota(50)], ids=["some", "all", "the excess"])
def test_calls_are_spilled_after_the_refusals_have_stopped(upstream: Upstream) -> None:
    traffic = Traffic().run(3 * WINDOW, upstream)
    assert traffic.share > 0.2
    traffic.run(WINDOW, lambda _now: True)
    assert traffic.share == 0.0
    assert traffic.run(WINDOW, lambda _now: True).spilled == 0


def test_errors_that_are_no_refusals_are_throttled() -> None:
    scene = Scene(minimum_calls=1000)
    scene.calls(FAILED, 100)
    assert scene.breaker.admission.throttle.accept_ratio(scene.now) == 1.0
    assert scene.breaker.admitted_share(scene.now) == 1.0


def test_trials_are_spilled_for_what_was_refused_before() -> None:
    scene = Scene(trial_calls=1)
    scene.insisted_calls(THROTTLED, 50)
    scene.half_open()
    scene.calls(OK)
    assert scene.state() is CircuitState.CLOSED
    assert scene.breaker.admitted_share(scene.now) == 1.0
