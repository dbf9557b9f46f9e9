"""The windows, by the mistakes that windows make: old samples that stay, new ones that vanish, cost that grows."""

from __future__ import annotations

import random
from collections import deque

import pytest

from health.window import Counts, CountWindow, TimeWindow


def test_no_calls_have_no_rate() -> None:
    assert Counts(0, 0, 0).failure_rate == 0.0
    assert Counts(0, 0, 0).slow_rate == 0.0


def test_a_failed_slow_call_counts_in_both_rates() -> None:
    window = TimeWindow(10)
    window.record(0.0, failed=True, slow=True)
    window.record(0.0, failed=False, slow=False)
    assert window.counts(0.0) == Counts(2, 1, 1)
    assert (window.counts(0.0).failure_rate, window.counts(0.0).slow_rate) == (0.5, 0.5)


@pytest.mark.parametrize(("now", "calls"), [(3.0, 1), (12.999, 1), (13.0, 0), (4000.0, 0)])
def test_a_sample_stays_until_its_second_has_left_the_window(now: float, calls: int) -> None:
    window = TimeWindow(10)
    window.record(3.7, failed=True, slow=False)
    assert window.counts(now).calls == calls


def test_an_idle_hour_leaves_nothing_beside_the_next_sample() -> None:
    window = TimeWindow(10)
    for second in range(10):
        window.record(float(second), failed=True, slow=True)
    window.record(3609.0, failed=False, slow=False)
    assert window.counts(3609.0) == Counts(1, 0, 0)


def test_a_cleared_window_counts_on_from_nothing() -> None:
    window = TimeWindow(10)
    window.record(5.0, failed=True, slow=True)
    window.clear()
    window.record(5.5, failed=False, slow=True)
    assert window.counts(6.0) == Counts(1, 0, 1)
    assert window.counts(15.0) == Counts(0, 0, 0)


def test_totals_never_drift_from_the_samples_in_the_window() -> None:
    dice = random.Random(7)
    window, samples, now = TimeWindow(5), list[tuple[int, bool, bool]](), 0.0
    for _ in range(2000):
        now += dice.choice([0.0, 0.01, 0.4, 1.0, 2.5, 6.0])
        failed, slow = dice.random() < 0.5, dice.random() < 0.3
        window.record(now, failed=failed, slow=slow)
        samples.append((int(now), failed, slow))
        held = [sample for sample in samples if sample[0] > int(now) - 5]
        assert window.counts(now) == (len(held), sum(f for _, f, _ in held), sum(s for _, _, s in held))


def test_a_count_window_holds_the_last_calls_and_no_more() -> None:
    dice = random.Random(7)
    window, last = CountWindow(4), deque[tuple[bool, bool]](maxlen=4)
    for _ in range(200):
        sample = dice.random() < 0.5, dice.random() < 0.5
        last.append(sample)
        window.record(0.0, failed=sample[0], slow=sample[1])
        assert window.counts(1e9) == (len(last), sum(f for f, _ in last), sum(s for _, s in last))
    window.clear()
    assert window.counts(0.0) == Counts(0, 0, 0)


@pytest.mark.parametrize("window", [TimeWindow, CountWindow])
def test_a_window_of_nothing_is_refused(window: type[TimeWindow] | type[CountWindow]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        window(0)
