"""A share of calls, chosen evenly: for the ramp after an outage and for the throttle.

Drawing lots would let a ramp of ten per cent begin with three calls at once. Counting ("every third") would fall in
step with callers that alternate two kinds of request, and send all of one kind away. The multiples of the golden ratio,
taken modulo 1, do neither: any stretch of them is spread evenly over 0 to 1, and so is every n-th of them (Weyl; the
golden ratio is the number worst approximated by fractions).
"""

from __future__ import annotations

_STEP = 0.6180339887498949
"""The golden ratio's fractional part."""


class EvenSpread:
    """Decides which calls belong to a share; the share, 0 to 1, may be another at each."""

    def __init__(self) -> None:
        self._next = _STEP

    def includes(self, share: float) -> bool:
        """Whether the next call belongs to `share`. Changes nothing."""
        return self._next < share

    def advance(self) -> None:
        """The next call has passed or was refused: `includes` is about the one after it now."""
        self._next = (self._next + _STEP) % 1.0
