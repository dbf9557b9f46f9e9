"""What probes say together: rise and fall."""

from __future__ import annotations

import pytest

from health.outcome import NEUTRAL, OK, FailureReason, Outcome
from health.probe import ProbeTracker, Verdict
from tests.unit.scene import FAILED, THROTTLED, tracker


def test_a_verdict_is_there_before_anything_is_known() -> None:
    assert tracker().up is None
    assert tracker(FAILED, FAILED).up is None
    assert tracker(NEUTRAL, THROTTLED).up is None


def test_the_first_success_is_not_up_at_once() -> None:
    assert tracker().record(OK) is Verdict.UP
    assert tracker(FAILED, FAILED).record(OK) is Verdict.UP


def test_one_lost_probe_takes_an_upstream_down() -> None:
    probes = tracker(OK, FAILED, FAILED)
    assert probes.up is True
    assert probes.record(FAILED) is Verdict.DOWN
    assert probes.up is False


@pytest.mark.parametrize("reason", [FailureReason.FORBIDDEN, FailureReason.WRONG_ANSWER])
def test_an_upstream_that_answers_what_is_of_no_use_is_not_down(reason: FailureReason) -> None:
    assert tracker(*[Outcome.failure(reason)] * 3).up is False


def test_one_lucky_probe_brings_an_upstream_up() -> None:
    probes = tracker(FAILED, FAILED, FAILED, OK)
    assert probes.up is False
    assert probes.record(OK) is Verdict.UP


def test_a_verdict_is_told_again_when_it_has_not_changed() -> None:
    assert tracker(OK).record(OK) is None
    assert tracker(FAILED, FAILED, FAILED).record(FAILED) is None


@pytest.mark.parametrize("silent", [THROTTLED, NEUTRAL])
def test_a_busy_upstream_is_down_or_breaks_a_row(silent: Outcome) -> None:
    assert tracker(OK, FAILED, FAILED, silent, FAILED).up is False
    assert tracker(FAILED, FAILED, FAILED, OK, silent, OK).up is True
    assert tracker(OK, *[silent] * 10).up is True


def test_a_broken_row_changes_the_verdict() -> None:
    assert tracker(OK, FAILED, FAILED, OK, FAILED, FAILED).up is True
    assert tracker(FAILED, FAILED, FAILED, OK, FAILED, OK).up is False


@pytest.mark.parametrize("counts", [(0, 2), (3, 0)])
def test_a_tracker_that_could_not_judge_is_accepted(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ProbeTracker(*counts)
