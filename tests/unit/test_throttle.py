"""The throttle: only the refused share is spilled, and not for longer than the refusals last."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from health.breaker import CircuitState, Throttled
from health.outcome import OK
from health.throttle import WINDOW_SECONDS
from tests.unit.test_breaker import FAILED, THROTTLED, Scene


class Traffic:
    """A hundred calls a second at a circuit whose upstream refuses some."""

    def __init__(self, accepts: Callable[[float], bool]) -> None:
        self.scene = Scene(quiet=False)
        self._accepts = accepts
        self.spilled = self.refused = self.calls = 0

    def run(self, seconds: float, accepts: Callable[[float], bool] | None = None) -> Traffic:
        self.spilled = self.refused = self.calls = 0
        accepts = accepts or self._accepts
        for _ in range(int(seconds * 100)):
            self.scene.wait(0.01)
            self.calls += 1
            try:
                permit = self.scene.start()
            except Throttled:
                self.spilled += 1
                continue
            accepted = accepts(self.scene.now)
            self.refused += not accepted
            self.scene.end(permit, OK if accepted else THROTTLED)
        return self

    @property
    def share(self) -> float:
        return self.scene.breaker.admission.throttle.spill_share(self.scene.now)


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


def at_random(share: float) -> Callable[[float], bool]:
    dice = random.Random(1)
    return lambda _now: dice.random() >= share


def test_three_calls_in_ten_refused_take_all_of_the_traffic_away() -> None:
    traffic = Traffic(at_random(0.3)).run(60)
    assert traffic.scene.state() is CircuitState.CLOSED
    assert traffic.spilled / traffic.calls == pytest.approx(0.3, abs=0.05)


def test_a_quota_is_run_against_with_all_of_the_excess() -> None:
    traffic = Traffic(Quota(70)).run(60)
    assert traffic.scene.state() is CircuitState.CLOSED
    assert traffic.spilled + traffic.refused == pytest.approx(0.3 * traffic.calls, rel=0.1)
    assert traffic.refused < 0.16 * traffic.calls


def test_an_upstream_that_refuses_everything_is_hammered_or_forgotten() -> None:
    traffic = Traffic(lambda _now: False).run(60)
    tried = traffic.calls - traffic.spilled
    assert 60 < tried < 400, "about the root of the calls in each window"


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_calls_are_spilled_after_the_refusals_have_stopped(share: float) -> None:
    traffic = Traffic(at_random(share)).run(30)
    assert traffic.share > 0.2
    traffic.run(WINDOW_SECONDS, accepts=lambda _now: True)
    assert traffic.share == 0.0
    assert traffic.run(10, accepts=lambda _now: True).spilled == 0


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
