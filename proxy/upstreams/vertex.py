"""Vertex AI: the caller's bytes go there and its bytes come back, unchanged.

Only what judgement needs is read: whether a whole answer is well-formed, whether a stream began and was finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from typing import TYPE_CHECKING

from health.outcome import NEUTRAL, OK, FailureReason, Outcome
from proxy import headers
from proxy.errors import google_status
from proxy.upstreams.base import AttemptFailed, Call, Limits, Reply, as_cut
from proxy.upstreams.codings import Decoder, UnknownCoding
from proxy.upstreams.credentials import CredentialsUnavailable
from proxy.upstreams.transport import LARGEST_ANSWER, raw_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from proxy.dialects.base import StreamMonitor, Usage
    from proxy.upstreams.base import Tail
    from proxy.upstreams.credentials import Credentials
    from proxy.upstreams.transport import Exchange, Transport

# Whose fault a status is where it is not the caller's: the table of Vertex's errors. Any other 4xx is the caller's.
_OPERATORS = {
    401: FailureReason.UNAUTHORIZED,
    403: FailureReason.FORBIDDEN,
    404: FailureReason.NOT_FOUND,
}
_PROVIDERS = {408: FailureReason.SERVER_ERROR, 429: FailureReason.THROTTLED, 499: FailureReason.CANCELLED}

# What only an upstream that is well finds wrong with a request; any other 4xx may come from a front end before it.
_FOUND_AT_FAULT = frozenset({400, 413, 422})


class Vertex:
    """The primary upstream."""

    name = "vertex"

    def __init__(self, transport: Transport, credentials: Credentials, *, base_url: str | None) -> None:
        """`base_url` without a trailing slash; None makes it from the location in each path."""
        self._transport = transport
        self._credentials = credentials
        self._base_url = base_url
        self._loop = asyncio.get_running_loop()

    def circuit_model(self, model: str) -> str:
        """Each Vertex model has a circuit of its own: a retired one says nothing of the others."""
        return model

    def unable(self, call: Call) -> AttemptFailed | None:
        """Everything may be asked of Vertex; what it makes of it is its own affair."""
        return None

    async def enter(self, deadline: float) -> None:
        """Vertex's own quotas are the only limit."""

    def leave(self) -> None:
        """Nothing was taken."""

    def _host(self, location: str) -> str:
        if self._base_url is not None:
            return self._base_url
        if location == "global":
            return "https://aiplatform.googleapis.com"
        return f"https://{location}-aiplatform.googleapis.com"

    async def attempt(self, call: Call, limits: Limits) -> Reply:
        """Send the call as it came and judge what comes back."""
        authorization = await self._authorization(call, limits)
        body = call.body if call.tail is None else _chained(call.body, call.tail)
        sent = headers.to_vertex(call.headers, authorization)
        if call.tail is not None and (length := call.headers.get("Content-Length")):
            sent["Content-Length"] = length
        exchange = await self._transport.post(raw_url(self._host(call.route.location), call.target), sent, body, limits)
        try:
            reply = await self._judge(call, exchange, limits)
        except BaseException as failure:
            exchange.close()
            if isinstance(failure, AttemptFailed) and exchange.is_event_stream:
                raise as_cut(failure) from failure
            raise
        if reply.rest is None:
            exchange.close()
        return reply

    async def _authorization(self, call: Call, limits: Limits) -> str | None:
        since, moment = limits.since, min(limits.first_byte, limits.total)
        while True:
            try:
                async with asyncio.timeout_at(moment):
                    return await self._credentials.authorization(call.headers.get("Authorization"))
            except CredentialsUnavailable as error:
                raise AttemptFailed.because(FailureReason.CREDENTIALS, str(error)) from error
            except TimeoutError as error:
                now = self._loop.time()
                later = limits.put_off(moment, since, now)
                if later == moment or moment >= limits.total:
                    reason = FailureReason.LAG if later > limits.total else FailureReason.CREDENTIALS
                    raise AttemptFailed.because(reason, "no token came in time") from error
                moment, since = min(later, limits.total), now

    async def _judge(self, call: Call, exchange: Exchange, limits: Limits) -> Reply:
        if 200 <= exchange.status < 300:
            if exchange.is_event_stream:
                return await self._stream(call, exchange, limits)
            return await self._whole(call, exchange, limits)
        reply = await _read(exchange, limits)
        reason = self._blame(exchange.status, reply.body)
        if reason is None:
            if exchange.status not in _FOUND_AT_FAULT:
                reply.outcome = NEUTRAL
            return reply
        if reason is FailureReason.UNAUTHORIZED:
            self._credentials.rejected()
        raise AttemptFailed(
            Outcome.failure(reason, headers.retry_after(exchange.headers.get("Retry-After"))),
            reply=reply,
            detail=f"{exchange.status} {google_status(reply.body) or ''}".rstrip(),
        )

    def _blame(self, status: int, body: bytes) -> FailureReason | None:
        """Why this answer is not the caller's to have; None where it is the caller's own fault."""
        if status in _PROVIDERS:
            return _PROVIDERS[status]
        if status >= 500:
            return FailureReason.SERVER_ERROR
        if status < 400:
            return FailureReason.MALFORMED
        if self._credentials.own:
            if status == 400 and google_status(body) == "FAILED_PRECONDITION":
                return FailureReason.FAILED_PRECONDITION
            return _OPERATORS.get(status)
        return None

    async def _whole(self, call: Call, exchange: Exchange, limits: Limits) -> Reply:
        reply = await _read(exchange, limits)
        try:
            decoder = _decoder(exchange)
        except UnknownCoding:
            return reply
        try:
            plain = decoder.feed(reply.body)
        except zlib.error as error:
            raise AttemptFailed.because(FailureReason.MALFORMED, "broken compression") from error
        if not decoder.complete:
            raise AttemptFailed.because(FailureReason.TRUNCATED)
        checked = call.dialect.check(plain)
        if isinstance(checked, FailureReason):
            raise AttemptFailed.because(checked)
        reply.usage = checked
        return reply

    async def _stream(self, call: Call, exchange: Exchange, limits: Limits) -> Reply:
        """Hold a stream until it shows content, so that whatever goes wrong before that can be repaired unseen."""
        watch = _Watch(exchange, call.dialect.monitor())
        held = b""
        while not watch.started:
            if not (piece := await exchange.until_content(limits)):
                raise AttemptFailed.because(FailureReason.CUT, "a stream without content")
            watch.see(piece)
            if watch.failure is not None:
                raise AttemptFailed.because(watch.failure)
            held += piece
            if len(held) > LARGEST_ANSWER:
                raise AttemptFailed.because(FailureReason.MALFORMED, f"{LARGEST_ANSWER} bytes without content")
        exchange.content_at = self._loop.time()
        reply = Reply(
            status=exchange.status,
            reason=exchange.reason,
            headers=headers.to_caller(exchange.headers),
            body=held,
            content_at=exchange.content_at,
        )
        reply.rest = self._rest(reply, exchange, watch, limits)
        reply.known = watch.known
        reply.close = exchange.close
        return reply

    async def _rest(self, reply: Reply, exchange: Exchange, watch: _Watch, limits: Limits) -> AsyncGenerator[bytes]:
        try:
            while piece := await self._next(exchange, watch, limits):
                watch.see(piece)
                yield piece
        finally:
            reply.usage = watch.usage
        if watch.failure is not None:
            raise AttemptFailed.because(watch.failure)
        if not watch.finished:
            raise AttemptFailed.because(FailureReason.CUT)

    async def _next(self, exchange: Exchange, watch: _Watch, limits: Limits) -> bytes:
        try:
            return await exchange.chunk(limits)
        except AttemptFailed as failure:
            # What has said that it is finished, or why it is not, has said all, however its connection ends.
            if watch.known() is not None:
                return b""
            raise as_cut(failure) from failure


class _Watch:
    """A stream's monitor behind its decoder; where the coding is unknown, the bytes alone have to do."""

    def __init__(self, exchange: Exchange, monitor: StreamMonitor) -> None:
        self._monitor = monitor
        self._broken = False
        self._decoder: Decoder | None = None
        with contextlib.suppress(UnknownCoding):
            self._decoder = _decoder(exchange)
        self._opaque = self._decoder is None

    def see(self, piece: bytes) -> None:
        if self._decoder is None or self._broken:
            return
        try:
            self._monitor.feed(self._decoder.feed(piece))
        except zlib.error:
            self._broken = True

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
    def usage(self) -> Usage | None:
        return self._monitor.usage

    def known(self) -> Outcome | None:
        if self.failure is not None:
            return Outcome.failure(self.failure)
        return OK if self.finished and not self._opaque else None


def _decoder(exchange: Exchange) -> Decoder:
    return Decoder(exchange.headers.get("Content-Encoding", ""), limit=LARGEST_ANSWER)


async def _read(exchange: Exchange, limits: Limits) -> Reply:
    body = await exchange.read(limits)
    return Reply(
        status=exchange.status,
        reason=exchange.reason,
        headers=headers.to_caller(exchange.headers),
        body=body,
        content_at=exchange.content_at,
    )


async def _chained(head: bytes, tail: Tail) -> AsyncIterator[bytes]:
    yield head
    async for piece in tail:
        yield piece
