"""Sliding windows over the results of calls: how many, how many failed, how many were slow.

Running totals beside a ring of buckets make a record and a reading O(1), and memory is fixed when a window is made: a
breaker reads after every call, and a window that costs more under load would add to the load. Semantics: resilience4j's
`SlidingTimeWindowMetrics` and `FixedSizeSlidingWindowMetrics`. Pure: `now` is an argument.
"""

from __future__ import annotations

import math
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

    calls: int
    failed: int
    slow: int
    """What the window held when it was last recorded to or read: `counts` without its cost."""

    def record(self, now: float, *, failed: bool, slow: bool) -> int:
        """Count one call at `now`. Returns its place, for `amend`."""

    def amend(self, place: int, now: float, *, calls: int = 0, failed: int = 0, slow: int = 0) -> bool:
        """Add to what is counted at a place, where more has become known of a call. False if it has left the window.

        A place from before the last `clear` must not be amended.
        """

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`."""

    def clear(self) -> None:
        """Forget everything."""


class _Ring:
    """The last `size` places, each with how many calls, failed ones and slow ones; and the totals."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._buckets = [[0, 0, 0] for _ in range(size)]
        self._place = 0  # the latest one
        self.calls = 0
        self.failed = 0
        self.slow = 0

    def clear(self) -> None:
        """Forget everything."""
        for bucket in self._buckets:
            bucket[:] = (0, 0, 0)
        self.calls = self.failed = self.slow = 0

    def _add(self, calls: int, failed: int, slow: int, place: int) -> None:
        bucket = self._buckets[place % self._size]
        bucket[0] += calls
        bucket[1] += failed
        bucket[2] += slow
        self.calls += calls
        self.failed += failed
        self.slow += slow

    def _advance(self, place: int) -> None:
        """Make `place` the latest one and drop those that leave. Each is dropped once: this is O(1) amortised."""
        if place - self._place >= self._size:
            self.clear()
        else:
            for passed in range(self._place + 1, place + 1):
                calls, failed, slow = self._buckets[passed % self._size]
                self._add(-calls, -failed, -slow, passed)
        self._place = place

    def _holds(self, place: int) -> bool:
        return self._place - self._size < place <= self._place


class TimeWindow(_Ring):
    """The calls of the last `seconds` seconds, in buckets of one second aligned to whole seconds.

    The present bucket is one of them, so the reach is between `seconds - 1` and `seconds`. An idle gap as long as the
    window forgets everything: the first failure after a quiet hour is not judged beside an hour-old one.
    """

    def __init__(self, seconds: int) -> None:
        if seconds < 1:
            raise ValueError(f"seconds must be at least 1, not {seconds!r}")
        super().__init__(seconds)
        self._bucket_ends = -math.inf

    def record(self, now: float, *, failed: bool, slow: bool) -> int:
        """Count one call at `now`; its place is the second."""
        if now >= self._bucket_ends:
            self._advance_to(now)
        self._add(1, failed, slow, self._place)
        return self._place

    def amend(self, place: int, now: float, *, calls: int = 0, failed: int = 0, slow: int = 0) -> bool:
        """Add to what is counted in a second. False if it has left the window."""
        self._advance_to(now)
        if held := self._holds(place):
            self._add(calls, failed, slow, place)
        return held

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`."""
        self._advance_to(now)
        return Counts(self.calls, self.failed, self.slow)

    def _advance_to(self, now: float) -> None:
        if now >= self._bucket_ends:
            self._advance(math.floor(now))
            self._bucket_ends = self._place + 1


class CountWindow(_Ring):
    """The last `size` calls, however long ago they were; a call that is taken back leaves its place empty."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size!r}")
        super().__init__(size)

    def record(self, now: float, *, failed: bool, slow: bool) -> int:
        """Count one call; `now` is there for the likeness to `TimeWindow` alone."""
        self._advance(self._place + 1)
        self._add(1, failed, slow, self._place)
        return self._place

    def amend(self, place: int, now: float, *, calls: int = 0, failed: int = 0, slow: int = 0) -> bool:
        """Add to what is counted of one call. False if it has left the window."""
        if held := self._holds(place):
            self._add(calls, failed, slow, place)
        return held

    def counts(self, now: float) -> Counts:
        """What the window holds; `now` is there for the likeness to `TimeWindow` alone."""
        return Counts(self.calls, self.failed, self.slow)


class Tally(CountWindow):
    """Every call since the last `clear`. Of trials there are only so many, and none may push another one out."""

    def __init__(self) -> None:
        super().__init__(1)

    def record(self, now: float, *, failed: bool, slow: bool) -> int:
        """Count one call; all have one place."""
        self._add(1, failed, slow, self._place)
        return self._place
