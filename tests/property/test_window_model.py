"""The windows beside a list of every sample: whatever the order of records, amendments, readings and pauses."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from health.window import CountWindow, TimeWindow, Window

many = settings(max_examples=250, deadline=None, derandomize=True)


@dataclass(eq=False)
class Sample:
    at: float
    place: int
    counts: tuple[int, int, int]


@dataclass(frozen=True)
class Step:
    pause: float
    failed: bool
    slow: bool
    amends: tuple[int, int, int] | None  # what is added to a sample of before; None: a new one
    which: int
    reads: bool
    clears: bool


steps = st.lists(
    st.builds(
        Step,
        pause=st.sampled_from([0.0, 0.0, 0.125, 0.5, 0.875, 1.0, 2.0, 3.125, 4.0, 5.0, 50.0]),
        failed=st.booleans(),
        slow=st.booleans(),
        amends=st.none() | st.sampled_from([(0, 1, 0), (-1, 0, -1), (0, 0, 1), (-1, -1, 0)]),
        which=st.integers(1, 12),
        reads=st.booleans(),
        clears=st.sampled_from([False] * 9 + [True]),
    ),
    max_size=60,
)
starts = st.sampled_from([0.0, 0.875, 4.0, 1000.0])
sizes = st.integers(1, 5)


def total(samples: list[Sample]) -> tuple[int, int, int]:
    calls, failed, slow = (sum(sample.counts[number] for sample in samples) for number in range(3))
    return calls, failed, slow


def compare(window: Window, size: int, now: float, script: list[Step]) -> None:
    samples = list[Sample]()

    def held() -> list[Sample]:
        """By time or by number; a sample that was taken back keeps its place."""
        if isinstance(window, CountWindow):
            return samples[-size:]
        return [sample for sample in samples if floor(sample.at) > floor(now) - size]

    for step in script:
        now += step.pause
        if step.clears:
            window.clear()
            samples.clear()
        if step.amends is None:
            place = window.record(now, failed=step.failed, slow=step.slow)
            samples.append(Sample(now, place, (1, step.failed, step.slow)))
        elif step.which <= len(samples):
            sample, (calls, failed, slow) = samples[-step.which], step.amends
            amended = window.amend(sample.place, now, calls=calls, failed=failed, slow=slow)
            assert amended is (sample in held())
            sample.counts = (sample.counts[0] + calls, sample.counts[1] + failed, sample.counts[2] + slow)
        if step.reads:
            assert window.counts(now) == total(held())
        if step.amends is None:
            # What is read without the cost of `counts` is as good after a record, by which the breaker judges.
            assert (window.calls, window.failed, window.slow) == total(held())
    assert window.counts(now) == total(held())


@many
@given(size=sizes, start=starts, script=steps)
def test_a_time_window_holds_what_a_list_holds(size: int, start: float, script: list[Step]) -> None:
    compare(TimeWindow(size), size, start, script)


@many
@given(size=sizes, start=starts, script=steps)
def test_a_count_window_holds_what_a_list_holds(size: int, start: float, script: list[Step]) -> None:
    compare(CountWindow(size), size, start, script)
