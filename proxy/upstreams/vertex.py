"""Vertex AI: the caller's bytes go there and its bytes come back, unchanged.

Only what judgement needs is read: whether a whole answer is well-formed, whether a stream began and was finished.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import TYPE_CHECKING, cast

from health.outcome import NEUTRAL, FailureReason, Outcome
from proxy import headers
from proxy.dialects.base import Framing
from proxy.dialects.resumed import ResumedReader
from proxy.errors import google_status
from proxy.upstreams.base import LARGEST_ANSWER, AttemptFailed, Call, Limits, Progress, Reply, as_cut
from proxy.upstreams.codings import Decoder, UnknownCoding
from proxy.upstreams.credentials import CredentialsUnavailable
from proxy.upstreams.relay import relay
from proxy.upstreams.translation import translate
from proxy.upstreams.transport import raw_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.dialects.base import ResumableDialect, StreamedDialect
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

_SEVERAL = re.compile(rb'"(?:n|candidate_?[cC]ount)"\s*:\s*"?[2-9]')

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
        body = _body(call)
        # A compressed stream could not be taken up by another upstream where it breaks off.
        sent = headers.to_vertex(call.headers, authorization, plain=call.may_stream, trace=call.trace)
        if call.resumption is not None:
            sent.popall("Content-Encoding", None)
        if call.tail is not None and (length := call.headers.get("Content-Length")):
            sent["Content-Length"] = length
        exchange = await self._transport.post(raw_url(self._host(call.route.location), call.target), sent, body, limits)
        try:
            reply = await self._judge(call, exchange, limits)
        except BaseException as failure:
            exchange.close()
            if isinstance(failure, AttemptFailed) and _is_stream(call, exchange):
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
            if _is_stream(call, exchange):
                return await self._stream(call, exchange, limits)
            if call.resumption is not None:
                raise AttemptFailed.because(FailureReason.MALFORMED, "no stream where one was to go on")
            return await self._whole(call, exchange, limits)
        reply = await _read(exchange, limits)
        reason = self._blame(exchange.status, reply.body)
        if reason is None and call.resumption is not None:
            # Nothing but more of the stream can be sent on, and this body is the proxy's own.
            reason = FailureReason.REJECTED
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
        monitor = call.dialect.monitor()
        if _SEVERAL.search(call.body) is not None:
            # The next choice may begin when this one has ended.
            monitor.after_finish_seconds = limits.idle
        if call.resumption is not None:
            reader = ResumedReader(monitor, call.completion)
            return await translate(
                exchange,
                reader,
                call.resumption.writer,
                limits,
                content_type=call.dialect.framing,
                already=call.resumption.text,
            )
        progress = Progress(
            lambda: "".join(monitor.texts),
            lambda: cast("StreamedDialect", call.dialect).stream_writer(call.completion, after=monitor),
        )
        return await relay(exchange, monitor, limits, headers.to_caller(exchange.headers), progress, shows_errors=True)


def _is_stream(call: Call, exchange: Exchange) -> bool:
    """An event stream says what it is; an array looks like any other JSON, and is what a streaming method gives."""
    if call.dialect.framing is Framing.EVENTS:
        return exchange.is_event_stream
    return call.route.streaming_method and exchange.content_type == call.dialect.framing


def _body(call: Call) -> bytes | AsyncIterator[bytes]:
    if call.resumption is not None:
        return cast("ResumableDialect", call.dialect).resume(call.plain_body, call.resumption.text)
    return call.body if call.tail is None else _chained(call.body, call.tail)


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
