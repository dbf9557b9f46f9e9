"""How soon probes are repeated, and how many of them a day may have."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from health.outcome import OK, Outcome
from health.pace import DAY, Pace, ProbeBudget
from health.probe import ProbeTracker
from tests.unit.scene import FAILED, THROTTLED, tracker

# The pace


def delay(pace: Pace, seen: ProbeTracker, random: float = 0.5) -> float:
    return pace.delay(doubt=seen.wavers, down=seen.up is False, random=lambda: random)


@pytest.mark.parametrize(
    ("outcomes", "seconds"),
    [
        ([], 10.0),
        ([OK], 10.0),
        ([FAILED], 1.0),
        ([OK, FAILED, FAILED], 1.0),
        ([OK, FAILED, OK], 10.0),
        ([FAILED] * 3, 20.0),
        ([FAILED] * 30, 20.0),
        ([FAILED] * 3 + [OK], 1.0),
        ([FAILED] * 3 + [OK, FAILED], 20.0),
        ([FAILED] * 3 + [OK, OK], 10.0),
        ([OK, THROTTLED], 10.0),
        ([OK, FAILED, THROTTLED], 1.0),
        ([FAILED] * 3 + [THROTTLED], 20.0),
    ],
)
def test_a_change_is_not_settled_in_seconds_or_calm_is_disturbed(outcomes: list[Outcome], seconds: float) -> None:
    assert delay(Pace(10.0), tracker(*outcomes)) == pytest.approx(seconds)


def test_fast_is_slower_than_the_interval() -> None:
    assert delay(Pace(0.2), tracker(FAILED)) == pytest.approx(0.2)


@pytest.mark.parametrize(("random", "share"), [(0.0, 0.9), (1.0, 1.1)])
def test_replicas_probe_in_step(random: float, share: float) -> None:
    for outcomes, seconds in (([], 10.0), ([FAILED], 1.0), ([FAILED] * 3, 20.0)):
        assert delay(Pace(10.0), tracker(*outcomes), random) == pytest.approx(share * seconds)


def test_a_pace_without_a_pause_is_accepted() -> None:
    with pytest.raises(ValueError, match="interval"):
        Pace(0.0)
    with pytest.raises(ValueError, match="slow"):
        Pace(10.0, slow=0.5)


# The budget


def probe_for_days(
    daily: int, pace: Pace, seen: ProbeTracker, *, days: int = 3, took: float = 0.25, early: float = 0.0
) -> tuple[list[float], ProbeBudget]:
    """When the probes of so many days begin; each takes `took` seconds, and the timer of each is `early`."""
    chance = random.Random(7)
    began = now = 12_345.678
    budget = ProbeBudget(daily, now=began)
    times: list[float] = []
    while now < began + days * DAY:
        times.append(now - began)
        budget.spend(now)
        now += took
        now += max(delay(pace, seen, chance.random()), budget.least_delay(now)) - early
    return times, budget


@pytest.mark.parametrize("daily", [1_440, 1_441, 2_000, 20_000])
@pytest.mark.parametrize("interval", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("took", [0.0, 0.25, 3.0])
def test_probes_cost_more_than_their_budget_or_end_in_blindness(daily: int, interval: float, took: float) -> None:
    times, _ = probe_for_days(daily, Pace(interval), tracker(OK, FAILED), took=took)
    for day in range(3):
        assert sum(1 for at in times if at // DAY == day) <= daily
    assert max(after - before for before, after in pairwise(times)) <= 60.01 + took


def test_a_timer_that_is_a_little_early_takes_a_probe_of_the_next_day() -> None:
    times, _ = probe_for_days(1_440, Pace(1.0), tracker(OK), took=0.0, early=0.0005)
    for day in range(3):
        assert sum(1 for at in times if at // DAY == day) <= 1_440


def test_a_budget_is_left_unused_by_a_prober_that_could_use_it() -> None:
    times, _ = probe_for_days(20_000, Pace(1.0), tracker(OK, FAILED), days=1, took=0.0)
    assert len(times) >= 19_990


def test_a_calm_upstream_is_held_back() -> None:
    times, budget = probe_for_days(20_000, Pace(10.0, jitter=0.0), tracker(OK), days=1, took=0.0)
    assert len(times) == 8_640
    assert budget.remaining(12_345.678 + DAY - 1) == 20_000 - 8_640


def test_the_first_part_of_a_budget_is_rationed() -> None:
    budget = ProbeBudget(20_000, now=0.0)
    for _ in range(17_999):
        budget.spend(0.0)
    assert budget.remaining(0.0) == 2_001
    assert budget.least_delay(0.0) == 0.0
    budget.spend(0.0)
    assert budget.remaining(0.0) == 2_000
    assert budget.least_delay(0.0) == pytest.approx(DAY / 2_001, abs=0.01)


def test_the_reserve_of_a_small_budget_cannot_last_a_day() -> None:
    budget = ProbeBudget(2_000, now=0.0)
    for _ in range(560):
        budget.spend(0.0)
    assert budget.least_delay(0.0) == pytest.approx(60.0, abs=0.05)


def test_a_new_day_begins_without_a_new_budget() -> None:
    budget = ProbeBudget(1_440, now=100.0)
    for _ in range(1_440):
        budget.spend(200.0)
    assert (budget.remaining(99.0 + DAY), budget.remaining(100.0 + DAY)) == (0, 1_440)
    assert budget.least_delay(101.0 + 3.5 * DAY) == pytest.approx(DAY / 2 / 1_441, abs=0.01)


def test_a_budget_that_ends_in_blindness_is_accepted() -> None:
    with pytest.raises(ValueError, match="at least 1440 probes"):
        ProbeBudget(1_439, now=0.0)
