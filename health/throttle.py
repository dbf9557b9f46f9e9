"""Client-side throttling: an upstream that refuses for capacity is asked for less, and only for so much less.

A refusal says "not so many", not "broken": opening a circuit would take all of the traffic away from an upstream that
serves most of it, and asking on would spend a first try on every call that is refused. So the share that was refused is
spilled: it goes to the other upstream at once. Source: "Handling Overload" in Google's Site Reliability Engineering,
with its formula

    spilled share = max(0, (requests - K * accepts) / (requests + 1))

and two choices. `requests` are those that were sent. The book counts what the client itself refused, too; below
K = 1 / accept ratio that feeds on itself, until an upstream that refuses three calls in ten is sent none at all, and
above it nothing is spilled. And K is 1, so that the spilled share is the refused one. Both together forget within one
window: when refusals stop, none is left in it. With every call refused, a few still pass (`requests + 1`, about the
root of the calls in a window), and they are what finds out that capacity is back.
"""

from __future__ import annotations

from health.window import TimeWindow

WINDOW_SECONDS = 10
K = 1.0


class Throttle:
    """The refusals of one upstream and model. `now` in seconds; ratios and shares 0 to 1."""

    def __init__(self, window_seconds: int = WINDOW_SECONDS) -> None:
        self._window = TimeWindow(window_seconds)

    def record(self, now: float, *, refused: bool) -> None:
        """Count one call that was sent: refused for capacity, or accepted."""
        self._window.record(now, failed=refused, slow=False)

    @property
    def active(self) -> bool:
        """Whether anything may have to be spilled; when False, `spill_share` is 0."""
        return self._window.failed > 0

    def spill_share(self, now: float) -> float:
        """The share of calls that should not be sent."""
        requests, refused, _ = self._window.counts(now)
        return max(0.0, (requests - K * (requests - refused)) / (requests + 1))

    def accept_ratio(self, now: float) -> float:
        """The share of the calls sent that were accepted; 1.0 when there were none."""
        return 1.0 - self._window.counts(now).failure_rate

    def clear(self) -> None:
        """Forget everything."""
        self._window.clear()
