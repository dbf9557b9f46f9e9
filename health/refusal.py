"""Why a call may not pass."""

from __future__ import annotations

import pybreaker

from health.transitions import TransitionReason


class CallRefused(pybreaker.CircuitBreakerError):
    """This call may not pass. `retry_after` is the least number of seconds until one may; 0.0 where that is unknown."""

    retry_after = 0.0


class CircuitOpen(CallRefused):
    """The circuit is open, its trials are all taken, or it has closed lately and lets only a share pass.

    `reason` is what opened it. `retry_after` is 0.0 unless it is open: any trial's end may make room.
    """

    def __init__(self, circuit: str | None, reason: TransitionReason, retry_after: float) -> None:
        super().__init__(circuit)
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        # Made when it is read, which is almost never: a refusal costs less than a call would.
        return f"circuit {self.args[0]} refuses calls ({self.reason}) for {self.retry_after:.3f} s or more"


class Throttled(CallRefused):
    """The upstream refuses calls for capacity, and this one is of the share that is not even tried."""

    def __init__(self, circuit: str | None) -> None:
        super().__init__(f"circuit {circuit} spills a share of its calls")
