"""Sliding windows over the results of calls: how many, how many failed, how many were slow.

Running totals beside the samples make a record and a reading O(1), and memory is fixed when a window is made: a breaker
reads after every call, and a window that costs more under load would add to the load. Semantics: resilience4j's
`SlidingTimeWindowMetrics` and `FixedSizeSlidingWindowMetrics`. Pure: `now` is an argument.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol


class Counts(NamedTuple):
    """What a window holds. A call that was slow and failed counts in both."""

    calls: int
    failed: int
    slow: int

    @property
    def failure_rate(self) -> float:
        """The share of calls that failed, 0 to 1; 0.0 when there were none."""
        return self.failed / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """The share of calls that were slow, 0 to 1; 0.0 when there were none."""
        return self.slow / self.calls if self.calls else 0.0


class Window(Protocol):
    """What the breaker asks of a window. `now` is in seconds, on a clock that does not go back."""

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call that ended at `now`."""

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`."""

    def clear(self) -> None:
        """Forget everything."""


class TimeWindow:
    """The calls of the last `seconds` seconds, in buckets of one second aligned to whole seconds.

    The present bucket is one of them, so the reach is between `seconds - 1` and `seconds`. An idle gap as long as the
    window forgets everything: the first failure after a quiet hour is not judged beside an hour-old one.
    """

    def __init__(self, seconds: int) -> None:
        if seconds < 1:
            raise ValueError(f"seconds must be at least 1, not {seconds!r}")
        self._seconds = seconds
        self._second = -math.inf
        self._buckets = deque([(0, 0, 0)] * seconds, maxlen=seconds)  # the present second is the last
        self._total = Counts(0, 0, 0)

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call that ended at `now`."""
        self._advance(now)
        calls, failures, slows = self._buckets[-1]
        self._buckets[-1] = (calls + 1, failures + failed, slows + slow)
        calls, failures, slows = self._total
        self._total = Counts(calls + 1, failures + failed, slows + slow)

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`."""
        self._advance(now)
        return self._total

    def clear(self) -> None:
        """Forget everything."""
        self._buckets.extend([(0, 0, 0)] * self._seconds)
        self._total = Counts(0, 0, 0)

    def _advance(self, now: float) -> None:
        """Drop the seconds that have left the window. Each is dropped once, so this is O(1) amortised."""
        second = math.floor(now)
        gap = second - self._second
        if gap <= 0:
            return
        self._second = second
        if gap >= self._seconds:
            self.clear()
            return
        for _ in range(int(gap)):
            calls, failed, slow = self._buckets[0]
            self._total = Counts(self._total.calls - calls, self._total.failed - failed, self._total.slow - slow)
            self._buckets.append((0, 0, 0))


class CountWindow:
    """The last `size` calls, however long ago they were."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size!r}")
        self._size = size
        self._samples: deque[tuple[bool, bool]] = deque()
        self._failed = 0
        self._slow = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call; `now` is there for the likeness to `TimeWindow` alone."""
        if len(self._samples) == self._size:
            was_failed, was_slow = self._samples.popleft()
            self._failed -= was_failed
            self._slow -= was_slow
        self._samples.append((failed, slow))
        self._failed += failed
        self._slow += slow

    def counts(self, now: float) -> Counts:
        """What the window holds; `now` is there for the likeness to `TimeWindow` alone."""
        return Counts(len(self._samples), self._failed, self._slow)

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()
        self._failed = self._slow = 0
