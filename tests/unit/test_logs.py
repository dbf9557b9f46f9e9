"""The log of events: what it must not drown in, and what it must not keep."""

from __future__ import annotations

import io
import json

import structlog

from health.outcome import FailureReason, Outcome
from proxy.events import AttemptEnded
from proxy.logs import EventLog

FORBIDDEN = Outcome.failure(FailureReason.FORBIDDEN)


class Log(EventLog):
    """A log on a clock that is turned by hand, and its lines."""

    def __init__(self) -> None:
        self.now = 0.0
        self.output = io.StringIO()
        to_json = [structlog.processors.JSONRenderer()]
        super().__init__(structlog.wrap_logger(structlog.PrintLogger(self.output), to_json), lambda: self.now)

    def fail(self, model: str, times: int = 1) -> None:
        for _ in range(times):
            self(AttemptEnded("vertex", model, FORBIDDEN, None, "403"))

    def more(self) -> list[int]:
        return [json.loads(line)["more"] for line in self.output.getvalue().splitlines()]


def test_failures_that_are_alike_drown_the_log_or_are_not_counted() -> None:
    log = Log()
    log.fail("m", 1_000)
    log.fail("n", 2)
    log.now += 1.0
    log.fail("m", 2)
    assert log.more() == [0, 0, 999]


def test_want_of_descriptors_is_not_told() -> None:
    log = Log()
    log(AttemptEnded("vertex", "m", Outcome.failure(FailureReason.LOCAL), None, "OSError: Too many open files"))
    log(AttemptEnded("vertex", "m", Outcome.failure(FailureReason.CLIENT_LEFT), None, ""))
    (line,) = log.output.getvalue().splitlines()
    assert (json.loads(line)["reason"], json.loads(line)["detail"]) == ("local", "OSError: Too many open files")


def test_invented_models_fill_the_memory() -> None:
    log = Log()
    for number in range(5_000):
        log.fail(f"model-{number}", 2)
    assert len(log._last) <= 1_001
    assert len(log._unsaid) <= 1_001
