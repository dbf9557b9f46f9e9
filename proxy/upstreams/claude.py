"""Claude through Anthropic's Messages API: the caller's request translated, the answer in the caller's own dialect.

Nothing of the caller's headers is sent, and nothing of Anthropic's answers but the text reaches the caller.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NoReturn

from multidict import CIMultiDict

from health.outcome import OK, FailureReason
from proxy.dialects import messages
from proxy.dialects.base import InvalidRequest
from proxy.upstreams.base import AttemptFailed, Call, Limits, Reply, as_cut
from proxy.upstreams.transport import raw_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from proxy.dialects.base import Completion, StreamWriter, Usage
    from proxy.upstreams.transport import Exchange, Transport

_JSON = "application/json"
_EVENT_STREAM = "text/event-stream"


class Claude:
    """The backup upstream."""

    name = "claude"

    def __init__(self, transport: Transport, *, base_url: str, api_key: str, model: str, max_concurrency: int) -> None:
        """`base_url` without a trailing slash; at most `max_concurrency` calls at a time."""
        self._transport = transport
        self._url = raw_url(base_url, "/v1/messages")
        self._headers = {
            "x-api-key": api_key,
            "anthropic-version": "2023-06-01",
            "content-type": _JSON,
            "user-agent": "completion-proxy",
        }
        self._model = model
        self._places = asyncio.Semaphore(max_concurrency)
        self._loop = asyncio.get_running_loop()

    def circuit_model(self, model: str) -> str:
        """One model answers for all of Vertex's."""
        return self._model

    def unable(self, call: Call) -> AttemptFailed | None:
        """A caller who may not spend the key, and a request that cannot be translated, are never sent."""
        if not call.caller.may_use_claude:
            return AttemptFailed.because(FailureReason.NOT_ALLOWED)
        try:
            _ = call.completion
        except InvalidRequest as problem:
            failure = AttemptFailed.because(FailureReason.NOT_EXPRESSIBLE, problem.field)
            failure.__cause__ = problem
            return failure
        return None

    async def enter(self, deadline: float) -> None:
        """Take one of the places; in a failover everyone comes at once."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError as error:
            raise AttemptFailed.because(FailureReason.CONCURRENCY) from error

    def leave(self) -> None:
        """Give the place to the next in line."""
        self._places.release()

    async def attempt(self, call: Call, limits: Limits) -> Reply:
        """Ask Claude; the reply is in the caller's dialect."""
        completion = call.completion
        body = json.dumps(messages.write_request(completion, model=self._model, stream=completion.stream)).encode()
        exchange = await self._transport.post(self._url, self._headers, body, limits)
        try:
            if exchange.status != 200:
                await self._refuse(exchange, limits)
            if completion.stream:
                return await self._stream(call, exchange, limits)
            reply = await self._whole(call, exchange, limits)
        except BaseException:
            exchange.close()
            raise
        exchange.close()
        return reply

    async def _refuse(self, exchange: Exchange, limits: Limits) -> NoReturn:
        body = await exchange.read(limits)
        outcome = messages.read_error(exchange.status, exchange.headers, body)
        raise AttemptFailed(outcome, detail=f"{exchange.status} {messages.error_type(body) or ''}".rstrip())

    async def _whole(self, call: Call, exchange: Exchange, limits: Limits) -> Reply:
        body = await exchange.read(limits)
        try:
            answer = messages.read_answer(body, call.completion)
        except messages.UnusableAnswer as problem:
            raise AttemptFailed.because(problem.reason) from problem
        return Reply(
            status=200,
            headers=CIMultiDict({"Content-Type": _JSON}),
            body=call.dialect.write(answer, call.completion),
            content_at=exchange.content_at,
            usage=answer.usage,
        )

    async def _stream(self, call: Call, exchange: Exchange, limits: Limits) -> Reply:
        """Wait for the first text that may be sent on, or for a proper end without any."""
        translation = _Translation(call.completion, call.dialect.stream_writer(call.completion))
        first = b""
        while not first and not translation.finished:
            first = translation.feed(await exchange.until_content(limits))
        if translation.finished:
            first += translation.finish()
        reply = Reply(
            status=200,
            headers=CIMultiDict({"Content-Type": _EVENT_STREAM}),
            body=first,
            content_at=self._loop.time(),
            usage=translation.usage,
        )
        exchange.content_at = reply.content_at
        reply.rest = self._rest(reply, exchange, translation, limits)
        reply.known = lambda: OK if translation.finished else None
        # A stop string of the caller's ends the answer early; closing is what ends it upstream, too.
        reply.close = exchange.close
        return reply

    async def _rest(
        self, reply: Reply, exchange: Exchange, translation: _Translation, limits: Limits
    ) -> AsyncGenerator[bytes]:
        held_back = not translation.finished
        try:
            while not translation.finished:
                if piece := translation.feed(await _chunk(exchange, limits)):
                    yield piece
            if held_back:
                yield translation.finish()
        finally:
            reply.usage = translation.usage
        if translation.complete:
            await exchange.drain()


async def _chunk(exchange: Exchange, limits: Limits) -> bytes:
    try:
        return await exchange.chunk(limits)
    except AttemptFailed as failure:
        raise as_cut(failure) from failure


class _Translation:
    """One stream on its way from Anthropic's events to the caller's."""

    def __init__(self, completion: Completion, writer: StreamWriter) -> None:
        self._reader = messages.AnswerReader(completion)
        self._writer = writer

    @property
    def finished(self) -> bool:
        return self._reader.finished

    @property
    def complete(self) -> bool:
        """Whether the upstream said all it had, rather than being stopped at what the caller asked for."""
        return self._reader.complete

    @property
    def usage(self) -> Usage:
        return self._reader.usage

    def feed(self, piece: bytes) -> bytes:
        """The caller's bytes for the next of Anthropic's. An end (b"") where more should have come is a cut."""
        if not piece:
            raise AttemptFailed.because(FailureReason.CUT)
        text = self._reader.feed(piece)
        if self._reader.failure is not None:
            raise AttemptFailed.because(self._reader.failure)
        return self._writer.delta(text) if text else b""

    def finish(self) -> bytes:
        """The held-back rest and the end of the caller's stream."""
        text = self._reader.finish()
        head = self._writer.delta(text) if text else b""
        assert self._reader.finish_reason is not None
        return head + self._writer.finish(self._reader.finish_reason, self._reader.usage)
