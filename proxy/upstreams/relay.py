"""A stream that is passed on as it comes, from the upstream that speaks the caller's own dialect.

Held until it shows content, so that whatever goes wrong before that is repaired unseen; from then on whole events go
out as they arrive, and what is wrong with the rest is an AttemptFailed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import zlib
from typing import TYPE_CHECKING

from health.outcome import OK, FailureReason, Outcome
from proxy.upstreams.base import LARGEST_ANSWER, AttemptFailed, Limits, Reply, as_cut
from proxy.upstreams.codings import Decoder, UnknownCoding

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from multidict import CIMultiDict

    from proxy.dialects.base import Usage
    from proxy.dialects.stream import StreamMonitor
    from proxy.upstreams.base import Progress
    from proxy.upstreams.transport import Exchange


async def relay(
    exchange: Exchange,
    monitor: StreamMonitor,
    limits: Limits,
    headers: CIMultiDict[str],
    progress: Progress | None,
    *,
    shows_errors: bool,
) -> Reply:
    """The reply that passes the stream on. Raises AttemptFailed for whatever goes wrong before its first content.

    With `shows_errors` the caller may see how the upstream itself words an error within the stream.
    """
    watch = _Watch(exchange, monitor, limits.idle, shows_errors=shows_errors)
    held = b""
    while not watch.started:
        piece = await exchange.until_content(limits)
        held += watch.pass_on(piece)
        if watch.failure is not None:
            raise AttemptFailed.because(watch.failure)
        if not piece:
            raise AttemptFailed.because(FailureReason.CUT, "a stream without content")
        if len(held) > LARGEST_ANSWER:
            raise AttemptFailed.because(FailureReason.MALFORMED, f"{LARGEST_ANSWER} bytes without content")
    exchange.content_at = asyncio.get_running_loop().time()
    if not watch.is_coded:
        # What goes out need not be as long as what comes in.
        headers.popall("Content-Length", None)
    reply = Reply(
        status=exchange.status,
        reason=exchange.reason,
        headers=headers,
        body=held,
        content_at=exchange.content_at,
        progress=None if watch.is_coded else progress,
    )
    reply.rest = _rest(reply, exchange, watch, limits)
    reply.known = watch.known
    reply.close = exchange.close
    return reply


async def _rest(reply: Reply, exchange: Exchange, watch: _Watch, limits: Limits) -> AsyncGenerator[bytes]:
    try:
        while piece := await _next(exchange, watch, limits):
            if passed := watch.pass_on(piece):
                yield passed
            if watch.failure is not None:
                break
        if last := watch.end():
            yield last
    finally:
        reply.usage = watch.usage
    if watch.failure is not None:
        raise AttemptFailed(Outcome.failure(watch.failure), error_event=watch.error_event)
    if not watch.finished:
        raise AttemptFailed.because(FailureReason.CUT)


async def _next(exchange: Exchange, watch: _Watch, limits: Limits) -> bytes:
    limits.idle = watch.idle()
    try:
        return await exchange.chunk(limits)
    except AttemptFailed as failure:
        # What has said that it is finished, or why it is not, has said all, however its connection ends.
        if watch.known() is not None:
            return b""
        raise as_cut(failure) from failure


class _Watch:
    """A stream's monitor behind its decoder; where the coding is unknown, the bytes alone have to do."""

    def __init__(self, exchange: Exchange, monitor: StreamMonitor, idle: float, *, shows_errors: bool) -> None:
        self._shows_errors = shows_errors
        self._idle = idle
        coding = exchange.headers.get("Content-Encoding", "")
        self._monitor = monitor
        self._broken = False
        self._decoder: Decoder | None = None
        with contextlib.suppress(UnknownCoding):
            self._decoder = Decoder(coding, limit=LARGEST_ANSWER)
        self._opaque = self._decoder is None
        self.is_coded = coding.strip().lower() not in ("", "identity")
        """What is compressed passes as it is: no event can be left out of it, nor anything be added."""

    def pass_on(self, piece: bytes) -> bytes:
        """What may be sent on now."""
        if not self.is_coded:
            return self._monitor.feed(piece)
        if self._decoder is not None and not self._broken:
            try:
                self._monitor.feed(self._decoder.feed(piece))
            except zlib.error:
                self._broken = True
        return piece

    def end(self) -> bytes:
        """What is to be sent at the end of the body, the terminator included where the upstream has left it out."""
        if self.is_coded:
            return b""
        rest = self._monitor.end()
        return rest + self._monitor.missing_end() if self._monitor.finished else rest

    @property
    def started(self) -> bool:
        return self._opaque or self._monitor.started

    @property
    def finished(self) -> bool:
        return self._opaque or self._monitor.finished

    @property
    def failure(self) -> FailureReason | None:
        return FailureReason.MALFORMED if self._broken else self._monitor.failure

    @property
    def error_event(self) -> bytes:
        # Of a coded stream the event has gone out with the rest.
        return b"" if self.is_coded or not self._shows_errors else self._monitor.error_event

    @property
    def usage(self) -> Usage | None:
        return self._monitor.usage

    def idle(self) -> float:
        """The longest silence from here on, in seconds."""
        if self.known() is OK:
            return min(self._idle, self._monitor.after_finish_seconds)
        return math.inf if self._monitor.pausing else self._idle

    def known(self) -> Outcome | None:
        if self.failure is not None:
            return Outcome.failure(self.failure)
        return OK if self.finished and not self._opaque else None
