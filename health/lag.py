"""How long the event loop was away: a busy process must not take its own slowness for an upstream's.

Pure arithmetic on injected time. A loop that means to run at an interval says when it does; how much later that is than
it meant to is time in which nobody could have seen an answer. Moments and spans are in seconds on one clock.
"""

from __future__ import annotations

from collections import deque

_STALLS_KEPT = 512
"""More than can lie within one call: two stalls are at least an interval and a tolerance apart."""


def no_lag(_start: float, _end: float) -> float:
    """For where nothing is measured: as `LagMeter.between`, of a loop that is never late."""
    return 0.0


class LagMeter:
    """Knows when the loop was away. A stall begins when a tick was due, for until then the loop was not to run."""

    def __init__(self, interval: float, tolerance: float = 0.05) -> None:
        """In seconds: `interval` is meant to lie between two ticks; up to `tolerance` late is no lag."""
        self._interval = interval
        self._tolerance = tolerance
        self._due: float | None = None
        self._stalls: deque[tuple[float, float]] = deque(maxlen=_STALLS_KEPT)

    def tick(self, now: float) -> float:
        """The loop runs, and will be back in an interval. Returns the lag that this tick found, in seconds."""
        due, self._due = self._due, now + self._interval
        if due is None or now - due <= self._tolerance:
            return 0.0
        self._stalls.append((due, now))
        return now - due

    def between(self, start: float, end: float) -> float:
        """The lag in a span up to the present, in seconds; a stall that no tick has told of yet counts already.

        That matters: what a stalled loop does first is to fire its timers and read its sockets, and the ticking task
        comes after them.
        """
        lag = 0.0
        if self._due is not None and end - self._due > self._tolerance:
            lag = max(0.0, end - max(start, self._due))
        for began, over in reversed(self._stalls):
            if over <= start:
                break
            lag += max(0.0, min(over, end) - max(began, start))
        return lag

    def stop(self) -> None:
        """No tick will come any more: that none does is no lag."""
        self._due = None
