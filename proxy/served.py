"""What came of walking a plan: an answer that is fit to be sent, or the attempts that failed. Values alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.dialects.base import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from health.outcome import FailureReason, Outcome
    from proxy.dialects.base import Dialect
    from proxy.upstreams.base import AttemptFailed, Reply


@dataclass(slots=True)
class Served:
    """A reply that is fit to be sent, and why this upstream gives it. `end` must be called when it is sent."""

    upstream: str
    dialect: Dialect
    """The caller's."""
    model: str
    """The model that the caller asked for."""
    reason: str
    reply: Reply
    failures: list[Failure]
    on_end: Callable[[Outcome], None]
    completed_by: str = ""
    """Who finished the stream, where that was another attempt."""
    ended: bool = False

    def end(self, outcome: Outcome) -> None:
        """It is sent, or given up: once, and not counted again where somebody makes sure of it."""
        if not self.ended:
            self.ended = True
            self.on_end(outcome)


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that did not serve."""

    upstream: str
    failed: AttemptFailed


class NothingServed(Exception):
    """No upstream could serve. `failures` are the attempts in their order; `unable` those that could not be asked.

    `retry_after` is in seconds.
    """

    def __init__(self, failures: list[Failure], unable: list[Failure], retry_after: float) -> None:
        super().__init__(f"{len(failures)} attempts failed")
        self.failures = failures
        self.unable = unable
        self.retry_after = retry_after

    @property
    def reason(self) -> FailureReason:
        """Why the last attempt failed, or could not be made."""
        return (self.failures or self.unable)[-1].failed.reason

    @property
    def answer(self) -> Failure | None:
        """The last answer that an upstream gave and that may be shown."""
        return next((failure for failure in reversed(self.failures) if failure.failed.reply is not None), None)

    @property
    def invalid(self) -> InvalidRequest | None:
        """What is wrong with the request, where only that kept an upstream from being asked."""
        causes = (failure.failed.__cause__ for failure in self.unable)
        return next((cause for cause in causes if isinstance(cause, InvalidRequest)), None)
