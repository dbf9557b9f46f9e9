"""The windows beside a list of every sample: whatever the order of records, later news of them, readings and pauses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from health.window import CountWindow, TimeWindow, Window

many = settings(max_examples=250, deadline=None, derandomize=True)


class What(Enum):
    RECORD = auto()
    FIND_SLOW = auto()  # in flight: its end is to come
    FAIL = auto()
    TAKE_BACK = auto()
    CLEAR = auto()
    READ = auto()


@dataclass(eq=False)
class Sample:
    at: float
    place: int
    failed: bool
    slow: bool


@dataclass(frozen=True)
class Step:
    what: What
    pause: float
    failed: bool
    slow: bool
    which: int  # of the slow ones whose end is to come


steps = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(
            [What.RECORD, What.FIND_SLOW] * 4 + [What.FAIL] * 3 + [What.TAKE_BACK, What.READ] * 2 + [What.CLEAR]
        ),
        pause=st.sampled_from([0.0, 0.0, 0.125, 0.5, 0.875, 1.0, 2.0, 3.125, 4.0, 5.0, 50.0]),
        failed=st.booleans(),
        slow=st.booleans(),
        which=st.integers(0, 5),
    ),
    min_size=10,
    max_size=60,
)
starts = st.sampled_from([0.0, 0.875, 4.0, 1000.0])
sizes = st.integers(1, 5)


class ListWindow:
    """The last `size` seconds, or calls, of all that was recorded."""

    def __init__(self, size: int, *, timed: bool) -> None:
        self.size = size
        self.timed = timed
        self.samples: list[Sample] = []

    def drop(self, now: float) -> None:
        if self.timed:
            self.samples = [sample for sample in self.samples if floor(sample.at) > floor(now) - self.size]
        else:
            self.samples = self.samples[-self.size :]

    def total(self) -> tuple[int, int, int]:
        return len(self.samples), sum(s.failed for s in self.samples), sum(s.slow for s in self.samples)


def compare(window: Window, model: ListWindow, now: float, script: list[Step]) -> None:
    unended = list[Sample]()

    for step in script:
        now += step.pause
        model.drop(now)
        if step.what in (What.RECORD, What.FIND_SLOW):
            in_flight = step.what is What.FIND_SLOW
            failed, slow = step.failed and not in_flight, step.slow or in_flight
            sample = Sample(now, window.record(now, failed=failed, slow=slow), failed, slow)
            model.samples.append(sample)
            model.drop(now)
            unended += [sample] * in_flight
            # What is read without the cost of `counts` is as good after a record, by which the breaker judges.
            assert (window.calls, window.failed, window.slow) == model.total()
        elif step.what is What.CLEAR:
            window.clear()
            model.samples.clear()
            unended.clear()
            assert (window.calls, window.failed, window.slow) == (0, 0, 0)
        elif step.what is What.READ:
            assert window.counts(now) == model.total()
        elif unended:
            sample = unended.pop(step.which % len(unended))
            if step.what is What.FAIL:
                assert window.fail(sample.place, now) is (sample in model.samples)
                sample.failed = True
            else:
                window.take_back(sample.place, now)
                model.samples = [kept for kept in model.samples if kept is not sample]
            assert (window.calls, window.failed, window.slow) == model.total()
    assert window.counts(now) == model.total()


@many
@given(size=sizes, start=starts, script=steps)
def test_a_time_window_holds_what_a_list_does_not(size: int, start: float, script: list[Step]) -> None:
    compare(TimeWindow(size), ListWindow(size, timed=True), start, script)


@many
@given(size=sizes, start=starts, script=steps)
def test_a_count_window_holds_what_a_list_does_not(size: int, start: float, script: list[Step]) -> None:
    compare(CountWindow(size), ListWindow(size, timed=False), start, script)
