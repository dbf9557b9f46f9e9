"""The windows, by the mistakes that windows make: old samples that stay, new ones that vanish, cost that grows."""

from __future__ import annotations

import pytest

from health.window import Counts, CountWindow, TimeWindow


def test_no_calls_have_a_rate() -> None:
    assert Counts(0, 0, 0).failure_rate == 0.0
    assert Counts(0, 0, 0).slow_rate == 0.0


def test_a_failed_slow_call_is_missing_in_one_of_the_rates() -> None:
    window = TimeWindow(10)
    window.record(0.0, failed=True, slow=True)
    window.record(0.0, failed=False, slow=False)
    assert window.counts(0.0) == Counts(2, 1, 1)
    assert (window.counts(0.0).failure_rate, window.counts(0.0).slow_rate) == (0.5, 0.5)


@pytest.mark.parametrize(("now", "calls"), [(3.0, 1), (12.999, 1), (13.0, 0), (4000.0, 0)])
def test_a_sample_leaves_before_its_second_or_outstays_it(now: float, calls: int) -> None:
    window = TimeWindow(10)
    window.record(3.7, failed=True, slow=False)
    assert window.counts(now).calls == calls


def test_an_idle_hour_leaves_old_samples_beside_the_next_one() -> None:
    window = TimeWindow(10)
    for second in range(10):
        window.record(float(second), failed=True, slow=True)
    window.record(3609.0, failed=False, slow=False)
    assert window.counts(3609.0) == Counts(1, 0, 0)


def test_a_cleared_window_counts_what_it_held_or_nothing_more() -> None:
    window = TimeWindow(10)
    window.record(5.0, failed=True, slow=True)
    window.clear()
    window.record(5.5, failed=False, slow=True)
    assert window.counts(6.0) == Counts(1, 0, 1)
    assert window.counts(15.0) == Counts(0, 0, 0)


@pytest.mark.parametrize("window", [TimeWindow, CountWindow])
def test_a_window_of_nothing_is_accepted(window: type[TimeWindow] | type[CountWindow]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        window(0)
