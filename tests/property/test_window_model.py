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
    which: int  # of the slow samples to which nothing was done yet, from the latest


steps = st.lists(
    st.builds(
        Step,
        what=st.sampled_from([What.RECORD] * 6 + [What.FAIL, What.TAKE_BACK] * 3 + [What.READ] * 2 + [What.CLEAR]),
        pause=st.sampled_from([0.0, 0.0, 0.125, 0.5, 0.875, 1.0, 2.0, 3.125, 4.0, 5.0, 50.0]),
        failed=st.booleans(),
        slow=st.booleans(),
        which=st.integers(1, 6),
    ),
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
    open_places = list[Sample]()  # recorded as slow in flight, and their end is to come

    for step in script:
        now += step.pause
        model.drop(now)
        if step.what is What.RECORD:
            in_flight = step.slow and not step.failed
            sample = Sample(now, window.record(now, failed=step.failed, slow=step.slow), step.failed, step.slow)
            model.samples.append(sample)
            model.drop(now)
            open_places += [sample] * in_flight
            # What is read without the cost of `counts` is as good after a record, by which the breaker judges.
            assert (window.calls, window.failed, window.slow) == model.total()
        elif step.what is What.CLEAR:
            window.clear()
            model.samples.clear()
            open_places.clear()
            assert (window.calls, window.failed, window.slow) == (0, 0, 0)
        elif step.what is What.READ:
            assert window.counts(now) == model.total()
        elif step.which <= len(open_places):
            sample = open_places.pop(-step.which)
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
