"""What the circuit breaker costs a call: `python -m tests.bench.breaker`.

Each figure is the least of several repeats: what else the machine does can only add to it. The overhead of the loop and
of the virtual clock is in it.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass

from health.breaker import BreakerConfig, CircuitBreaker, CircuitOpen
from health.outcome import OK

CALL_SECONDS = 0.001
"""Between two calls, of virtual time: 1,000 a second."""
IN_FLIGHT = 100
ACQUIRE_AND_SETTLE, REFUSAL = 3_000.0, 1_500.0
"""Targets, in ns."""

Loop = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    ns: float
    target_ns: float | None

    def __str__(self) -> str:
        if self.target_ns is None:
            return f"{self.name:<48}{self.ns:>8,.0f} ns"
        verdict = "met" if self.ns < self.target_ns else "MISSED"
        return f"{self.name:<48}{self.ns:>8,.0f} ns   target < {self.target_ns:,.0f} ns: {verdict}"


def _breaker() -> CircuitBreaker:
    return CircuitBreaker("bench", BreakerConfig(), now=0.0)


def closed() -> Loop:
    breaker, now = _breaker(), 0.0

    def loop(times: int) -> None:
        nonlocal now
        for _ in range(times):
            now += CALL_SECONDS
            breaker.acquire(now).settle(OK, now)

    return loop


def closed_with_content() -> Loop:
    breaker, now = _breaker(), 0.0

    def loop(times: int) -> None:
        nonlocal now
        for _ in range(times):
            now += CALL_SECONDS
            permit = breaker.acquire(now)
            permit.content(now)
            permit.settle(OK, now)

    return loop


def _refused(breaker: CircuitBreaker, now: float) -> Loop:
    def loop(times: int) -> None:
        for _ in range(times):
            try:
                breaker.acquire(now)
            except CircuitOpen:
                continue
            raise AssertionError("a call was let pass")

    return loop


def refused_when_open() -> Loop:
    breaker = _breaker()
    breaker.trip(0.0)
    return _refused(breaker, 1.0)


def refused_on_trial() -> Loop:
    breaker = _breaker()
    breaker.trip(0.0)
    breaker.begin_trials(1.0)
    for _ in range(breaker.config.trial_calls):
        breaker.acquire(1.0)
    return _refused(breaker, 2.0)


def poll() -> Loop:
    """Half of the calls have their first content, as they would; none is slow."""
    breaker, now = _breaker(), 0.0
    for number in range(IN_FLIGHT):
        permit = breaker.acquire(now)
        if number % 2:
            permit.content(now)

    def loop(times: int) -> None:
        for _ in range(times):
            breaker.poll(1.0)

    return loop


BENCHES: tuple[tuple[str, Callable[[], Loop], float | None], ...] = (
    ("closed: acquire + settle", closed, ACQUIRE_AND_SETTLE),
    ("closed: acquire + content + settle", closed_with_content, None),
    ("open: refusal", refused_when_open, REFUSAL),
    ("half-open, trials taken: refusal", refused_on_trial, REFUSAL),
    (f"closed, {IN_FLIGHT} calls in flight: poll", poll, None),
)


def measure(*, times: int = 20_000, repeats: int = 15) -> list[Figure]:
    """ns per operation; `times` operations a repeat."""
    return [Figure(name, _least(make(), times, repeats), target) for name, make, target in BENCHES]


def _least(loop: Loop, times: int, repeats: int) -> float:
    return min(timeit.repeat(lambda: loop(times), number=1, repeat=repeats)) / times * 1e9


if __name__ == "__main__":
    for figure in measure():
        sys.stdout.write(f"{figure}\n")
