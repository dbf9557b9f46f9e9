"""The numbers by which a circuit breaker judges. Frozen and checked once, so that no rule has to check them again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from health.transitions import TransitionReason
from health.window import CountWindow, TimeWindow, Window


class WindowType(StrEnum):
    """What the window's size counts."""

    TIME = "time"
    COUNT = "count"


class BackoffReset(StrEnum):
    """When earlier openings stop lengthening the next one."""

    ON_CLOSE = "on_close"
    """As soon as the circuit closes: resilience4j's way; a flapping upstream never backs off."""
    GRADUAL = "gradual"
    """One for each healthy interval as long as the opening that it forgets."""


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """The settings of one circuit. Times in seconds, rates and shares 0 to 1.

    Raises ValueError that names the first field whose value cannot be meant.
    """

    window_type: WindowType = WindowType.TIME
    window_size: int = 10
    """Seconds or calls, by `window_type`."""
    minimum_calls: int = 10
    """Fewer calls than this in the window are no rate."""
    failure_rate_threshold: float = 0.5
    slow_call_seconds: float = 1.5
    """A call is slow strictly above this; infinity switches the rule off."""
    slow_rate_threshold: float = 0.5
    consecutive_failures: int = 5
    """Failures in a row that trip whatever the rate, for low traffic; 0 switches the rule off."""
    open_seconds: float = 5.0
    open_multiplier: float = 2.0
    max_open_seconds: float = 60.0
    """No opening is longer, whatever the backoff or the upstream's Retry-After says."""
    trial_calls: int = 5
    trial_seconds: float = 30.0
    """A trial in flight for longer is hung, and reopens the circuit; infinity switches the rule off."""
    ramp_seconds: float = 10.0
    """After closing, the share of calls that may pass grows from none to all for so long; 0 lets all pass at once."""
    jitter: float = 0.1
    """Up to this share is taken off an opening, at random, so that replicas do not come back together. It only ever
    shortens: openings at the cap are spread too, and none exceeds it."""
    backoff_reset: BackoffReset = BackoffReset.GRADUAL
    observe_only: bool = False
    """Judge, tell of each trip, and refuse nothing: for trying thresholds on real traffic."""

    def __post_init__(self) -> None:
        share = "above 0 and at most 1"
        rules = (
            ("window_size", self.window_size >= 1, "at least 1"),
            ("minimum_calls", self.minimum_calls >= 1, "at least 1"),
            ("minimum_calls", self._window_can_fill(), "at most window_size, or no rate could ever trip"),
            ("failure_rate_threshold", 0 < self.failure_rate_threshold <= 1, share),
            ("slow_call_seconds", self.slow_call_seconds > 0, "above 0"),
            ("slow_rate_threshold", 0 < self.slow_rate_threshold <= 1, share),
            ("consecutive_failures", self.consecutive_failures >= 0, "0 or more"),
            ("open_seconds", self.open_seconds > 0, "above 0"),
            ("open_multiplier", 1 <= self.open_multiplier < math.inf, "at least 1 and finite"),
            ("max_open_seconds", self.open_seconds <= self.max_open_seconds < math.inf, "open_seconds or more, finite"),
            ("trial_calls", self.trial_calls >= 1, "at least 1"),
            ("trial_seconds", self.trial_seconds > 0, "above 0"),
            ("ramp_seconds", 0 <= self.ramp_seconds < math.inf, "0 or more, and finite"),
            ("jitter", 0 <= self.jitter < 1, "at least 0 and below 1"),
        )
        for field, holds, rule in rules:
            if not holds:
                raise ValueError(f"{field} must be {rule}, not {getattr(self, field)!r}")

    def _window_can_fill(self) -> bool:
        return self.window_type is WindowType.TIME or self.minimum_calls <= self.window_size

    @property
    def built_in(self) -> tuple[object, ...]:
        """What a circuit that was made with it cannot take another value of."""
        return self.window_type, self.window_size, self.observe_only

    def window(self) -> Window:
        """An empty window for the calls of a closed circuit."""
        return TimeWindow(self.window_size) if self.window_type is WindowType.TIME else CountWindow(self.window_size)

    def exceeded(self, window: Window) -> TransitionReason | None:
        """The rate that is too high by what the window last held, the first by the tie-break; None when none is."""
        if window.failed and window.failed / window.calls >= self.failure_rate_threshold:
            return TransitionReason.FAILURE_RATE
        if window.slow and window.slow / window.calls >= self.slow_rate_threshold:
            return TransitionReason.SLOW_RATE
        return None

    def open_length(self, attempt: int) -> float:
        """How long opening number `attempt` (1 for the first) lasts, in seconds, before jitter."""
        return min(self.open_seconds * self.open_multiplier ** (attempt - 1), self.max_open_seconds)

    def next_attempt(self, attempt: int) -> int:
        """The number of the opening after number `attempt`; it stays where openings grow no more.

        Counting on would overflow the power after a day of outage, and gradual forgetting would take as long again.
        """
        return attempt if attempt and self.open_length(attempt) == self.open_length(attempt + 1) else attempt + 1
