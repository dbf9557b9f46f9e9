"""What the dialects share that never stream. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.dialects.base import Framing
from proxy.dialects.stream import StreamMonitor
from proxy.errors import google_error
from proxy.sse import SSEReader

if TYPE_CHECKING:
    from proxy.sse import Event


class Unstreamed:
    """The part of a dialect; see `Dialect` for the methods."""

    framing = Framing.EVENTS
    """An array is not told from a whole answer by its type; events are, and are none in these dialects."""

    def monitor(self) -> StreamMonitor:
        """A monitor that takes every stream for what it is here: MALFORMED."""
        return _NoStream()

    def error(self, code: int, message: str, *, field: str | None = None) -> bytes:
        """Google's."""
        return google_error(code, message, field=field)

    def stream_error(self, code: int, message: str) -> bytes:
        """There is no stream to say it in."""
        return b""


class _NoStream(StreamMonitor):
    def __init__(self) -> None:
        super().__init__(SSEReader(), begins_with=b"")

    def _see(self, event: Event) -> bool:
        return False
