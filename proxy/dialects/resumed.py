"""The rest of a stream that another upstream began, read from Vertex. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.dialects.base import FinishReason, Usage
from proxy.stops import Stops

if TYPE_CHECKING:
    from health.outcome import FailureReason
    from proxy.dialects.base import Completion
    from proxy.dialects.stream import StreamMonitor


class ResumedReader:
    """Reads the text that Vertex adds. A stop string may begin in what was sent and end in what is new."""

    def __init__(self, monitor: StreamMonitor, completion: Completion) -> None:
        """`completion` is the resumed one."""
        self._monitor = monitor
        self._stops = Stops(completion.stops, completion.max_tokens, already=completion.already)
        self._read = 0

    def feed(self, data: bytes) -> str:
        """The text that may be sent on now."""
        self._monitor.feed(data)
        texts = self._monitor.texts
        text = "".join(texts[self._read :])
        self._read = len(texts)
        return self._stops.feed(text)

    def finish(self) -> str:
        """The held-back rest."""
        return self._stops.finish()

    @property
    def finished(self) -> bool:
        """The stream ended, or a stop or limit of the caller's was reached before it did."""
        return self._monitor.finished or self._stops.stopped

    @property
    def complete(self) -> bool:
        """The stream itself ended."""
        return self._monitor.finished

    @property
    def failure(self) -> FailureReason | None:
        """What the monitor found."""
        return self._monitor.failure

    @property
    def finish_reason(self) -> FinishReason | None:
        """The caller's own ends go before the model's."""
        if self._stops.capped:
            return FinishReason.LENGTH
        return FinishReason.STOP if self._stops.stopped else self._monitor.finish_reason or FinishReason.STOP

    @property
    def usage(self) -> Usage:
        """What Vertex counted."""
        return self._monitor.usage or Usage()
