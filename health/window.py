"""Sliding windows over the results of calls: how many, how many failed, how many were slow.

Running totals make a record and a reading O(1), and memory is bounded by the window's size: a breaker reads after every
call, and a window that costs more under load would add to the load. Semantics: resilience4j's
`SlidingTimeWindowMetrics` and `FixedSizeSlidingWindowMetrics`. Pure: `now` is an argument.
"""

from __future__ import annotations

import math
from collections import OrderedDict
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
        """Count one call at `now`. Returns its place: what more becomes known of it is told with that.

        A place from before the last `clear` must not be used.
        """

    def fail(self, place: int, now: float) -> bool:
        """Count a call that was recorded as slow as failed, too. False, and no change, if it has left the window."""

    def take_back(self, place: int, now: float) -> None:
        """Count a call that was recorded as slow no more."""

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`."""

    def clear(self) -> None:
        """Forget everything."""


class _Totals:
    """How many calls, failed ones and slow ones a window holds."""

    def __init__(self) -> None:
        self.calls = 0
        self.failed = 0
        self.slow = 0

    def clear(self) -> None:
        """Forget everything."""
        self.calls = self.failed = self.slow = 0

    def _add(self, calls: int, failed: int, slow: int) -> None:
        self.calls += calls
        self.failed += failed
        self.slow += slow


class TimeWindow(_Totals):
    """The calls of the last `seconds` seconds, in buckets of one second aligned to whole seconds.

    The present bucket is one of them, so the reach is between `seconds - 1` and `seconds`. An idle gap as long as the
    window forgets everything: the first failure after a quiet hour is not judged beside an hour-old one.
    """

    def __init__(self, seconds: int) -> None:
        if seconds < 1:
            raise ValueError(f"seconds must be at least 1, not {seconds!r}")
        super().__init__()
        self._size = seconds
        self._buckets = [[0, 0, 0] for _ in range(seconds)]
        self._second = 0  # the latest one
        self._ends = -math.inf

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        for bucket in self._buckets:
            bucket[:] = (0, 0, 0)

    def record(self, now: float, *, failed: bool, slow: bool) -> int:
        """Count one call at `now`; its place is the second."""
        if now >= self._ends:
            self._advance(now)
        self._count(self._second, 1, failed, slow)
        return self._second

    def fail(self, place: int, now: float) -> bool:
        """Count a call that was recorded as slow as failed, too. False, and no change, if it has left the window."""
        if held := self._holds(place, now):
            self._count(place, 0, 1, 0)
        return held

    def take_back(self, place: int, now: float) -> None:
        """Count a call that was recorded as slow no more."""
        if self._holds(place, now):
            self._count(place, -1, 0, -1)

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`."""
        if now >= self._ends:
            self._advance(now)
        return Counts(self.calls, self.failed, self.slow)

    def _holds(self, place: int, now: float) -> bool:
        if now >= self._ends:
            self._advance(now)
        return place > self._second - self._size

    def _count(self, second: int, calls: int, failed: int, slow: int) -> None:
        bucket = self._buckets[second % self._size]
        bucket[0] += calls
        bucket[1] += failed
        bucket[2] += slow
        self._add(calls, failed, slow)

    def _advance(self, now: float) -> None:
        """Drop the seconds that leave the window. Each is dropped once: this is O(1) amortised."""
        second = math.floor(now)
        if second - self._second >= self._size:
            self.clear()
        else:
            for passed in range(self._second + 1, second + 1):
                calls, failed, slow = self._buckets[passed % self._size]
                self._count(passed, -calls, -failed, -slow)
        self._second = second
        self._ends = second + 1


class CountWindow(_Totals):
    """The last `size` calls, however long ago they were. One that is taken back makes room for one more."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size!r}")
        super().__init__()
        self._size = size
        self._held: OrderedDict[int, tuple[bool, bool]] = OrderedDict()  # failed and slow, by place, oldest first
        self._latest = 0

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._held.clear()

    def record(self, now: float, *, failed: bool, slow: bool) -> int:
        """Count one call; `now` is unused."""
        if len(self._held) == self._size:
            _, (left_failed, left_slow) = self._held.popitem(last=False)
            self._add(-1, -left_failed, -left_slow)
        self._latest += 1
        self._held[self._latest] = (failed, slow)
        self._add(1, failed, slow)
        return self._latest

    def fail(self, place: int, now: float) -> bool:
        """Count a call that was recorded as slow as failed, too. False, and no change, if it has left the window."""
        if held := place in self._held:
            self._held[place] = (True, True)
            self._add(0, 1, 0)
        return held

    def take_back(self, place: int, now: float) -> None:
        """Count a call that was recorded as slow no more."""
        if self._held.pop(place, None):
            self._add(-1, 0, -1)

    def counts(self, now: float) -> Counts:
        """What the window holds; `now` is unused."""
        return Counts(self.calls, self.failed, self.slow)


class Tally(_Totals):
    """Every call since the last `clear`. Of trials there are only so many, and none may push another one out."""

    def record(self, now: float, *, failed: bool, slow: bool) -> int:
        """Count one call; all have one place."""
        self._add(1, failed, slow)
        return 0

    def fail(self, place: int, now: float) -> bool:
        """Count a call that was recorded as slow as failed, too."""
        self._add(0, 1, 0)
        return True

    def take_back(self, place: int, now: float) -> None:
        """Count a call that was recorded as slow no more."""
        self._add(-1, 0, -1)

    def counts(self, now: float) -> Counts:
        """What has been counted; `now` is unused."""
        return Counts(self.calls, self.failed, self.slow)
