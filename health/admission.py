"""Which of its calls a closed circuit lets pass: all of them, but for the ramp after an outage and for the throttle."""

from __future__ import annotations

import math

from health.spread import EvenSpread
from health.throttle import Throttle


class Admission:
    """The share of one closed circuit. `now` in seconds, shares 0 to 1.

    The ramp is linear from nothing: an upstream that has just come back is at its weakest.
    """

    def __init__(self, ramp_seconds: float) -> None:
        self.throttle = Throttle()
        self.ramp_seconds = ramp_seconds
        """The length of the ramps that begin from now on."""
        self._ramp_length = ramp_seconds
        self._ramp_ends = -math.inf
        self._spread = EvenSpread()

    def clear(self) -> None:
        """The circuit has opened: what was known of the time before, a ramp under way included, is over."""
        self.throttle.clear()
        self._ramp_ends = -math.inf

    def begin_ramp(self, now: float) -> None:
        """The circuit has closed."""
        self._ramp_length = self.ramp_seconds
        self._ramp_ends = now + self._ramp_length

    def is_whole(self, now: float) -> bool:
        """Whether every call may pass, at the cost of two comparisons; False may still be a share of 1."""
        return now >= self._ramp_ends and not self.throttle.active

    def share(self, now: float) -> float:
        """The share of calls that may pass."""
        return min(self._ramp_share(now), 1.0 - self.throttle.spill_share(now))

    def admits(self, now: float) -> bool:
        """Whether the next call may pass. Changes nothing."""
        return self._spread.includes(self.share(now))

    def ramp_admits(self, now: float) -> bool:
        """Whether it is not the ramp that refuses the next call. Changes nothing."""
        return self._spread.includes(self._ramp_share(now))

    def advance(self) -> None:
        """The next call was let pass or refused: the next question is about the one after it."""
        self._spread.advance()

    def _ramp_share(self, now: float) -> float:
        return 1.0 if now >= self._ramp_ends else 1.0 - (self._ramp_ends - now) / self._ramp_length
