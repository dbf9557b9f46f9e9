"""Replays traces recorded from resilience4j: `python -m tests.replay_vectors FILE.txt.gz`.

A trace is a configuration and then steps of virtual time, each with what resilience4j answered. The counters are those
of the state that it answered with: the window's when closed, the trials' when half-open. Open it still shows what was
counted before, which is shown to nobody here, so they are not compared then.

Exit code 0 when nothing differs, 1 when something does, 2 when the file cannot be replayed.
"""

from __future__ import annotations

import gzip
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from health.breaker import BackoffReset, BreakerConfig, CircuitBreaker, CircuitOpen, CircuitState, Permit, WindowType
from health.outcome import NEUTRAL, OK, FailureReason, Outcome
from health.window import Counts

SHOWN = 5
OUTCOMES = {"success": OK, "error": Outcome.failure(FailureReason.CONNECT), "ignore": NEUTRAL}
RESULTS = {"acquire": ("ok", "rejected")} | dict.fromkeys(OUTCOMES, ("done", "stale"))
USAGE = "usage: python -m tests.replay_vectors FILE.txt.gz\n"


class MalformedError(ValueError):
    """The file is no recording. The message names the line."""


class Answer(NamedTuple):
    """What a breaker says after one step; no counters where they are not compared."""

    result: str
    state: CircuitState
    counts: Counts | None

    def __str__(self) -> str:
        return " ".join([self.result, self.state.name, *map(str, self.counts or ())])


@dataclass(frozen=True, slots=True)
class Step:
    line: int
    at: float
    action: str
    call: str
    latency: float | None
    expected: Answer

    def __str__(self) -> str:
        latency = [] if self.latency is None else [f"{self.latency * 1000:.0f}"]
        return " ".join([f"{self.at * 1000:.0f}", self.action, self.call, *latency])


@dataclass(frozen=True, slots=True)
class Trace:
    number: int
    config: BreakerConfig
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Difference:
    trace: int
    step: Step
    got: Answer

    def __str__(self) -> str:
        return f"trace {self.trace} line {self.step.line}: {self.step} -> expected {self.step.expected}, got {self.got}"


@dataclass(slots=True)
class Report:
    traces: int = 0
    steps: int = 0
    differences: list[Difference] = field(default_factory=list)

    def __str__(self) -> str:
        return f"traces {self.traces} steps {self.steps} differences {len(self.differences)}"


Make = Callable[[BreakerConfig], CircuitBreaker]


def make_breaker(config: BreakerConfig) -> CircuitBreaker:
    return CircuitBreaker("replayed", config, now=0.0)


def replay(path: Path, make: Make = make_breaker) -> Report:
    """Drive the breakers that `make` gives through every trace. Raises MalformedError and OSError."""
    report = Report()
    for trace in read(path):
        report.traces += 1
        report.steps += len(trace.steps)
        report.differences += _replay(trace, make(trace.config))
    if not report.traces:
        raise MalformedError("no trace in it: line 1 must begin one with CFG")
    return report


def _replay(trace: Trace, breaker: CircuitBreaker) -> Iterator[Difference]:
    permits: dict[str, Permit] = {}
    for step in trace.steps:
        result = _acquire(step, breaker, permits) if step.action == "acquire" else _settle(step, breaker, permits)
        counts = None if step.expected.counts is None else breaker.counts(step.at)
        got = Answer(result, breaker.circuit_state, counts)
        if got != step.expected:
            yield Difference(trace.number, step, got)


def _acquire(step: Step, breaker: CircuitBreaker, permits: dict[str, Permit]) -> str:
    admits = breaker.admits(step.at)
    try:
        permits[step.call] = breaker.acquire(step.at)
    except CircuitOpen:
        return "rejected" if not admits else "rejected (and admits() said yes)"
    return "ok" if admits else "ok (and admits() said no)"


def _settle(step: Step, breaker: CircuitBreaker, permits: dict[str, Permit]) -> str:
    permit = permits.pop(step.call, None)
    if permit is None:
        return "never-admitted"
    stale = breaker.stale_results
    if not breaker.settle(permit, OUTCOMES[step.action], step.at, step.latency):
        return "settled-before"
    return "done" if breaker.stale_results == stale else "stale"


# Reading


def read(path: Path) -> Iterator[Trace]:
    """The traces of a recording, one at a time. Raises MalformedError and OSError."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="ascii", errors="replace") as lines:
            trace, in_flight = None, set[str]()
            for number, line in enumerate(lines, 1):
                if line.startswith("CFG "):
                    if trace is not None:
                        yield trace
                    trace, in_flight = Trace(1 if trace is None else trace.number + 1, _config(line)), set()
                else:
                    _begun(trace).steps.append(_step(number, line, in_flight))
            if trace is not None:
                yield trace
    except gzip.BadGzipFile as error:
        raise MalformedError(f"line {number + 1}: {error}") from error
    except (EOFError, zlib.error) as error:
        raise MalformedError(f"line {number + 1}: the compressed data breaks off or is damaged: {error}") from error
    except (ValueError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise MalformedError(f"line {number}: {reason}") from error


def _begun(trace: Trace | None) -> Trace:
    if trace is None:
        raise ValueError("a step before any CFG")
    return trace


def _config(line: str) -> BreakerConfig:
    values = dict(part.partition("=")[::2] for part in line.split()[1:])
    return BreakerConfig(
        window_type=WindowType(values["type"].lower()),
        window_size=int(values["window"]),
        minimum_calls=int(values["min"]),
        failure_rate_threshold=int(values["fail"]) / 100,
        slow_rate_threshold=int(values["slow"]) / 100,
        slow_call_seconds=int(values["slowms"]) / 1000,
        open_seconds=int(values["open"]) / 1000,
        open_multiplier=float(values["mult"]),
        max_open_seconds=int(values["max"]) / 1000,
        trial_calls=int(values["trials"]),
        # What resilience4j does not do.
        consecutive_failures=0,
        trial_seconds=math.inf,
        ramp_seconds=0.0,
        jitter=0.0,
        backoff_reset=BackoffReset.ON_CLOSE,
    )


def _step(number: int, line: str, in_flight: set[str]) -> Step:
    left, arrow, right = line.partition("->")
    given, answer = left.split(), right.split()
    if not arrow or not 3 <= len(given) <= 4 or len(answer) != 5:
        raise ValueError(f"no step: {line.strip()!r}")
    at, action, call = given[:3]
    if action not in RESULTS or answer[0] not in RESULTS[action] or answer[1] not in CircuitState.__members__:
        raise ValueError(f"unknown action, result or state: {line.strip()!r}")
    if action == "acquire" and answer[0] == "ok":
        in_flight.add(call)
    elif action != "acquire":
        if call not in in_flight:
            raise ValueError(f"call {call} is not in flight: {line.strip()!r}")
        in_flight.remove(call)
    state = CircuitState[answer[1]]
    counts = Counts(*map(int, answer[2:]))
    latency = int(given[3]) / 1000 if len(given) == 4 else None
    expected = Answer(answer[0], state, None if state is CircuitState.OPEN else counts)
    return Step(number, int(at) / 1000, action, call, latency, expected)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write(USAGE)
        return 2
    try:
        report = replay(Path(arguments[0]))
    except (MalformedError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        sys.stderr.write(f"{arguments[0]}: {reason}\n")
        return 2
    for difference in report.differences[:SHOWN]:
        sys.stdout.write(f"{difference}\n")
    if len(report.differences) > SHOWN:
        sys.stdout.write("...\n")
    sys.stdout.write(f"{report}\n")
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
