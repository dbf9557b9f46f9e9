"""A stream that is written anew: text from an upstream, in the dialect and under the id of the caller's own stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from multidict import CIMultiDict

from health.outcome import OK, FailureReason
from proxy.upstreams.base import AttemptFailed, Limits, Progress, Reply, as_cut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from proxy.dialects.base import FinishReason, StreamWriter, Usage
    from proxy.upstreams.transport import Exchange


class TextReader(Protocol):
    """Reads the text of one streamed answer: `feed` until `finished` or `failure`, then `finish`."""

    @property
    def finished(self) -> bool:
        """Nothing more is needed."""

    @property
    def complete(self) -> bool:
        """The upstream said all it had, rather than being stopped at what the caller asked for."""

    @property
    def failure(self) -> FailureReason | None:
        """Why there is no answer."""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended; None until it has."""

    @property
    def usage(self) -> Usage:
        """What was counted so far."""

    def feed(self, data: bytes) -> str:
        """The text that may be sent on now, often ""."""

    def finish(self) -> str:
        """The held-back rest of the text."""


async def translate(
    exchange: Exchange, reader: TextReader, writer: StreamWriter, limits: Limits, *, content_type: str, already: str
) -> Reply:
    """The reply that writes the stream; waits for the first text that may be sent on, or for a proper end without any.

    `already` is what the caller has got before. Raises AttemptFailed.
    """
    translation = _Translation(reader, writer, already)
    first = b""
    while not first and not reader.finished:
        first = translation.feed(await exchange.until_content(limits))
    if reader.finished:
        first += translation.finish()
    reply = Reply(
        status=200,
        headers=CIMultiDict({"Content-Type": content_type}),
        body=first,
        content_at=asyncio.get_running_loop().time(),
        usage=reader.usage,
        progress=Progress(translation.text, lambda: writer),
    )
    exchange.content_at = reply.content_at
    reply.rest = _rest(reply, exchange, translation, limits)
    reply.known = lambda: OK if reader.finished else None
    # A stop string of the caller's ends the answer early; closing is what ends it upstream, too.
    reply.close = exchange.close
    return reply


async def _rest(reply: Reply, exchange: Exchange, translation: _Translation, limits: Limits) -> AsyncGenerator[bytes]:
    reader = translation.reader
    held_back = not reader.finished
    try:
        while not reader.finished:
            if piece := translation.feed(await _chunk(exchange, limits)):
                yield piece
        if held_back:
            yield translation.finish()
    finally:
        reply.usage = reader.usage
    if reader.complete:
        await exchange.drain()


async def _chunk(exchange: Exchange, limits: Limits) -> bytes:
    try:
        return await exchange.chunk(limits)
    except AttemptFailed as failure:
        raise as_cut(failure) from failure


class _Translation:
    """One stream on its way from the upstream's events to the caller's."""

    def __init__(self, reader: TextReader, writer: StreamWriter, already: str) -> None:
        self.reader = reader
        self._writer = writer
        self._sent = [already]

    def text(self) -> str:
        return "".join(self._sent)

    def feed(self, piece: bytes) -> bytes:
        """The caller's bytes for the next of the upstream's. An end (b"") where more should have come is a cut."""
        if not piece:
            raise AttemptFailed.because(FailureReason.CUT)
        text = self.reader.feed(piece)
        if self.reader.failure is not None:
            # The text before the failure is not sent: whoever goes on from here begins where the caller's text ends.
            raise AttemptFailed.because(self.reader.failure)
        return self._delta(text)

    def finish(self) -> bytes:
        """The held-back rest and the end of the caller's stream."""
        head = self._delta(self.reader.finish())
        assert self.reader.finish_reason is not None
        return head + self._writer.finish(self.reader.finish_reason, self.reader.usage)

    def _delta(self, text: str) -> bytes:
        if not text:
            return b""
        self._sent.append(text)
        return self._writer.delta(text)
