"""Time in which the loop was away is told from time in which an upstream was silent: every lost second, and once."""

from __future__ import annotations

import pytest

from health.lag import LagMeter, no_lag


def ticking(*moments: float, interval: float = 1.0) -> LagMeter:
    meter = LagMeter(interval, tolerance=0.1)
    for moment in moments:
        meter.tick(moment)
    return meter


def test_a_loop_that_was_never_heard_of_lags() -> None:
    assert LagMeter(1.0).between(0.0, 1_000.0) == 0.0
    assert LagMeter(1.0).tick(1_000.0) == 0.0
    assert no_lag(0.0, 1_000.0) == 0.0


def test_a_tick_within_the_tolerance_is_lag() -> None:
    meter = LagMeter(1.0, tolerance=0.1)
    assert [meter.tick(moment) for moment in (0.0, 1.0, 2.09, 3.15)] == [0.0, 0.0, 0.0, 0.0]
    assert meter.between(0.0, 4.15) == 0.0


def test_a_late_tick_finds_too_much_or_too_little() -> None:
    meter = ticking(10.0)
    assert meter.tick(14.0) == pytest.approx(3.0)
    assert meter.tick(15.0) == 0.0


@pytest.mark.parametrize(
    ("start", "end", "lag"),
    [
        (0.0, 20.0, 3.0),
        (11.0, 14.0, 3.0),
        (12.0, 13.5, 1.5),
        (13.0, 20.0, 1.0),
        (0.0, 12.0, 1.0),
        (0.0, 11.0, 0.0),
        (14.0, 20.0, 0.0),
        (13.0, 13.0, 0.0),
    ],
)
def test_a_stall_counts_outside_of_the_span_that_it_lies_in(start: float, end: float, lag: float) -> None:
    meter = ticking(10.0, 14.0, *range(15, 21))
    assert meter.between(start, end) == pytest.approx(lag)


def test_several_stalls_in_one_span_are_not_added_up() -> None:
    meter = ticking(0.0, 3.0, 4.0, 7.0, 8.0)
    assert meter.between(0.0, 8.0) == pytest.approx(4.0)
    assert meter.between(2.0, 6.0) == pytest.approx(2.0)


def test_a_stall_that_no_tick_has_told_of_is_not_seen_yet() -> None:
    meter = ticking(10.0)
    assert meter.between(0.0, 11.1) == 0.0
    assert meter.between(0.0, 14.0) == pytest.approx(3.0)
    assert meter.between(12.0, 14.0) == pytest.approx(2.0)


def test_a_stall_is_counted_twice_when_its_tick_comes() -> None:
    meter = ticking(10.0)
    before = meter.between(0.0, 14.0)
    meter.tick(14.0)
    assert meter.between(0.0, 14.0) == pytest.approx(before)
    # Whoever has asked in the middle asks for the rest, and gets no more.
    assert meter.between(0.0, 12.0) + meter.between(12.0, 14.0) == pytest.approx(before)


def test_a_loop_that_lags_for_ever_fills_the_memory() -> None:
    meter = ticking(*(2.0 * turn for turn in range(10_000)))
    assert len(meter._stalls) < 1_000
    # What is forgotten is what is old.
    assert meter.between(19_898.0, 19_998.0) == pytest.approx(50.0)


def test_a_meter_that_is_stopped_sees_an_endless_stall() -> None:
    meter = ticking(10.0, 14.0)
    meter.stop()
    assert meter.between(0.0, 1_000.0) == pytest.approx(3.0)
    assert meter.tick(1_000.0) == 0.0
