"""How often an upstream is probed, and how many probes a day may cost.

Fast where a verdict is in the making, slow where it is made and bad, and within a budget all the while: a prober that
is fast for good reason may be so for days, and nobody is to pay for that without end. But a budget that simply ran out
would leave its circuit without eyes until midnight, so the last part of it is rationed instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DAY = 86_400.0
"""Seconds that a budget is for. They begin when it does: replicas do not all come into new money at midnight."""

LEAST_DAILY = 1_440
"""Probes a day, below which it could not be one a minute to the end."""

_EARLY_SECONDS = 0.001
"""By how much a timer may be early, and then some: what is put off to the next day must not come in this one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait between probes. `interval` and `fast` in seconds, `slow` a factor, `jitter` a share.

    The jitter keeps replicas from probing in step. Raises ValueError.
    """

    interval: float
    fast: float = 1.0
    """The longest wait while in doubt: an outage is settled in seconds, not in `fall` whole intervals."""
    slow: float = 2.0
    """On the interval while the upstream is surely down: it has enough to do."""
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not self.interval > 0:
            raise ValueError(f"interval must be above 0, not {self.interval!r}")
        if not self.slow >= 1:
            raise ValueError(f"slow must be at least 1, not {self.slow!r}")

    def delay(self, *, doubt: bool, down: bool, random: Callable[[], float]) -> float:
        """Seconds until the next probe; `random` gives 0 to 1."""
        wait = min(self.fast, self.interval) if doubt else self.interval * (self.slow if down else 1)
        return wait * (1 + self.jitter * (2 * random() - 1))


class ProbeBudget:
    """At most `daily` probes a day. All times are seconds on one monotonic clock; the first day begins at `now`.

    What comes before the reserve is spent freely. The reserve, a tenth but at least one probe a minute of a day, is
    spread evenly over what is left of the day: it lasts until the end, and no wait for it is longer than a minute.
    Raises ValueError for a budget that could not keep that promise.
    """

    def __init__(self, daily: int, *, now: float) -> None:
        if daily < LEAST_DAILY:
            raise ValueError(f"a daily budget must be at least {LEAST_DAILY} probes, one a minute, not {daily!r}")
        self.daily = daily
        self._reserve = max(daily // 10, LEAST_DAILY)
        self._day_began = now
        self._spent = 0

    def spend(self, now: float) -> None:
        """Count the probe that begins at `now`."""
        self._pass_days(now)
        self._spent += 1

    def remaining(self, now: float) -> int:
        """Probes left of this day."""
        self._pass_days(now)
        return max(self.daily - self._spent, 0)

    def least_delay(self, now: float) -> float:
        """Seconds that the next probe must wait for at least; 0.0 before the reserve is begun."""
        left = self.remaining(now)
        if left > self._reserve:
            return 0.0
        # The first of the next day ends the last of the waits, hence one more of them than there are probes.
        return (self._day_began + DAY - now) / (left + 1) + _EARLY_SECONDS

    def _pass_days(self, now: float) -> None:
        if now >= self._day_began + DAY:
            self._day_began += (now - self._day_began) // DAY * DAY
            self._spent = 0


@dataclass(frozen=True, slots=True)
class NextProbe:
    """What was decided about the next probe when the last one was over, or was not needed."""

    seconds: float
    """The wait until then."""
    budget_remaining: int
    """Probes left of this day."""
    held_back: bool
    """Whether the budget has begun to lengthen the waits; stays so until the next day."""
