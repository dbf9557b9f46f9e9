"""What is known of one request, filled in on its way, for the line that the log writes of it. Never any content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.events import NO_UPSTREAM, NoAnswer, RequestEnded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.paths import Route
    from proxy.served import Failure, Served
    from proxy.trace import TraceContext


@dataclass(slots=True)
class Account:
    """Times in seconds on the event loop's clock. Until more is known, the caller has left."""

    started: float
    trace: TraceContext
    upstream: str = NO_UPSTREAM
    code: int = 499
    reason: str = NoAnswer.CLIENT_LEFT
    complete: bool = False
    content_at: float | None = None
    route: Route | None = None
    stream: bool = False
    failures: Sequence[Failure] = ()
    served: Served | None = None
    broken: str = ""

    def serve(self, served: Served, now: float) -> None:
        """An upstream's answer is about to be sent. A whole one without a time of its own has its content now."""
        reply = served.reply
        self.served = served
        self.upstream, self.code, self.reason = served.upstream, reply.status, served.reason
        self.failures = served.failures
        self.stream = reply.rest is not None
        self.content_at = reply.content_at if reply.content_at is not None else now

    def refuse(self, code: int) -> None:
        """The proxy answers by itself: for the caller to change something, or because nobody could serve."""
        self.code = code
        self.reason = NoAnswer.LOST if code >= 500 else NoAnswer.REFUSED
        self.complete = True

    def break_off(self, reason: str) -> None:
        """The answer ends in the middle."""
        self.complete, self.broken = False, self.broken or reason

    def fail(self) -> None:
        """The proxy failed on it."""
        if self.served is None:
            self.code, self.reason = 500, NoAnswer.INTERNAL
        else:
            self.break_off(NoAnswer.INTERNAL)

    def ended(self, now: float) -> RequestEnded:
        """The event that closes it."""
        route = self.route
        return RequestEnded(
            self.upstream,
            self.code,
            now - self.started,
            reason=self.reason,
            model="" if route is None else route.model,
            dialect="" if route is None else route.wire,
            stream=self.stream,
            complete=self.complete,
            broken=self.broken,
            completed_by=self.served.completed_by if self.complete and self.served is not None else "",
            first_byte_seconds=None if self.content_at is None else self.content_at - self.started,
            failed=tuple(f"{failure.upstream}:{failure.failed.reason}" for failure in self.failures),
            trace_id=self.trace.trace_id,
        )
