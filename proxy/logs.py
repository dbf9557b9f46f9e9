"""Log lines: JSON on stderr, one event a line, made from the hub's events; never a prompt, answer or credential."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from health.outcome import FailureReason, OutcomeKind
from health.transitions import CircuitState
from proxy import events
from proxy.history.evidence import evidence
from proxy.log_writer import LogWriter
from proxy.override import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger, Processor

    from health.pace import NextProbe

_QUIET_SECONDS = 1.0
"""Of failures that are alike, one line in so many seconds: an outage must not drown its own switch."""

_LONGEST_NAME = 100
"""A model's name comes from a caller."""

_NOTHING: Mapping[str, object] = {}


def configure(stream: TextIO | None = None) -> None:
    """Send every log line of the process, the libraries' too, to `stream` (stderr) as JSON; nobody waits for it."""
    writer = LogWriter(stream if stream is not None else sys.stderr)
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", writer)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(cast("TextIO", writer))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(_tells_no_content)


def _tells_no_content(record: logging.LogRecord) -> bool:
    """The library quotes a request that it cannot read, credentials and prompts included. The caller gets its 400."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


class EventLog:
    """The hub's listener that writes."""

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float], *, log_requests: bool = True) -> None:
        self._log = log
        self._log_requests = log_requests
        self._clock = clock
        self._last: dict[tuple[str, ...], float] = {}
        self._unsaid: dict[tuple[str, ...], int] = {}
        self._held_back: set[tuple[str, str]] = set()

    def __call__(self, event: events.Event) -> None:
        """Write what an operator would want to read of `event`, if anything."""
        match event:
            # What every request brings comes first.
            case events.RequestEnded():
                if self._log_requests:
                    self._request_ended(event)
            case events.AttemptEnded():
                self._attempt_ended(event)
            case events.Switch():
                self._log.warning(
                    "switch",
                    model=event.model,
                    from_upstream=event.from_upstream,
                    to_upstream=event.to_upstream,
                    reason=event.reason,
                )
            case events.CircuitMoved():
                self._circuit_moved(event)
            case events.WouldTrip(transition=trip):
                self._log.warning(
                    "would_trip", upstream=event.upstream, model=event.model, reason=trip.reason, **evidence(trip)
                )
            case events.ThrottleChanged():
                self._log.warning(
                    "throttle",
                    upstream=event.upstream,
                    model=event.model,
                    throttled=event.throttled,
                    spill_ratio=round(event.spill_ratio, 4),
                    accept_ratio=round(event.accept_ratio, 4),
                )
            case events.Probed(result=result):
                self._probed(event)
                self._budget(result.upstream, result.model, result.next_probe)
            case events.ProbeSkipped():
                self._budget(event.upstream, event.model, event.next_probe)
            case events.RequestLost():
                traced = {"trace_id": event.trace_id}
                self._seldom(self._log.error, "request_lost", beside=traced, model=event.model, reason=event.reason)
            case events.LoopLagged(seconds=seconds):
                self._seldom(self._log.warning, "event_loop_lagged", beside={"seconds": round(seconds, 3)})
            case _:
                self._operation(event)

    def _operation(self, event: events.Event) -> None:
        """What an operator did, or could not do."""
        match event:
            case events.OverrideChanged(override=override, before=before):
                left = {"before_mode": before.mode, "before_source": before.source}
                self._log.warning("override", change=event.change, **entry(override), **left, cleared_by=event.actor)
            case events.OverrideExpiring(override=override):
                self._log.warning("override_expiring", **entry(override))
            case events.ChangeRefused():
                self._seldom(self._log.warning, "change_refused", code=str(event.code), why=event.why)
            case events.ConfigReloaded(problems=()):
                self._log.info("config_reloaded")
            case events.ConfigReloaded(problems=problems):
                self._log.error("config_rejected", problems=problems)
            case events.JournalFailed(problem=problem):
                self._seldom(self._log.error, "journal_failed", problem=problem)
            case events.FlagFailed():
                self._seldom(self._log.warning, "flag_failed", reason=event.reason, detail=event.detail)
            case events.OverrideRejected(problem=problem):
                self._log.error("override_rejected", problem=problem)

    def _request_ended(self, event: events.RequestEnded) -> None:
        first = event.first_byte_seconds
        self._log.info(
            "request",
            upstream=event.upstream,
            reason=event.reason,
            code=event.code,
            complete=event.complete,
            broken=event.broken,
            completed_by=event.completed_by,
            model=event.model[:_LONGEST_NAME],
            dialect=event.dialect,
            stream=event.stream,
            seconds=round(event.seconds, 4),
            first_byte_seconds=None if first is None else round(first, 4),
            failed=event.failed,
            trace_id=event.trace_id,
        )

    def _circuit_moved(self, event: events.CircuitMoved) -> None:
        moved = event.transition
        write = self._log.warning if moved.to_state is CircuitState.OPEN else self._log.info
        write(
            "circuit",
            upstream=event.upstream,
            model=event.model,
            from_state=moved.from_state,
            to_state=moved.to_state,
            reason=moved.reason,
            **evidence(moved),
            open_seconds=round(moved.open_until - moved.at, 3) if moved.open_until is not None else None,
            attempt=moved.attempt,
        )

    def _probed(self, event: events.Probed) -> None:
        result = event.result
        if result.verdict is None and result.outcome.kind is OutcomeKind.OK:
            return
        write = self._log.info if result.outcome.kind is OutcomeKind.OK else self._log.warning
        write(
            "probe",
            upstream=result.upstream,
            model=result.model,
            result=result.outcome.kind,
            reason=result.outcome.reason,
            detail=event.detail,
            verdict=result.verdict,
            seconds=round(result.duration, 4),
        )

    def _budget(self, upstream: str, model: str, next_probe: NextProbe) -> None:
        """Say once that the probes come more slowly now, until they no longer do."""
        probe = (upstream, model)
        if not next_probe.held_back:
            self._held_back.discard(probe)
        elif probe not in self._held_back:
            self._held_back.add(probe)
            self._log.warning(
                "probe_budget",
                upstream=upstream,
                model=model,
                remaining=next_probe.budget_remaining,
                seconds=round(next_probe.seconds, 1),
            )

    def _attempt_ended(self, event: events.AttemptEnded) -> None:
        kind, reason = event.outcome.kind, event.outcome.reason
        if reason is None or (kind is OutcomeKind.NEUTRAL and reason is not FailureReason.LOCAL):
            return
        self._seldom(
            self._log.error if kind is OutcomeKind.MISCONFIGURED else self._log.warning,
            "attempt_failed",
            upstream=event.upstream,
            model=event.model,
            reason=reason,
            detail=event.detail,
        )

    def _seldom(
        self, write: Callable[..., Any], name: str, *, beside: Mapping[str, object] = _NOTHING, **fields: str
    ) -> None:
        """Write at most once in a while for the same `fields`, with how many were left out since the last.

        What stands `beside` them differs from line to line and makes none of them another.
        """
        key = (name, *fields.values())
        now = self._clock()
        if now - self._last.get(key, -_QUIET_SECONDS) < _QUIET_SECONDS:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        if len(self._last) > 1_000:
            self._last.clear()
            self._unsaid.clear()
        self._last[key] = now
        write(name, **fields, **beside, more=self._unsaid.pop(key, 0))
