"""The data listener: one request from its first line to its last byte, readable from top to bottom.

It decides nothing about upstreams. It must not hang (the total time bounds everything), must not end an answer cleanly
that is not complete, and must not let go of an attempt without telling how it ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from health.outcome import OK, FailureReason, Outcome
from proxy import headers, paths
from proxy.callers import NotAdmitted
from proxy.errors import google_error
from proxy.events import NO_UPSTREAM, RequestEnded, RequestLost, RequestStarted
from proxy.failover import NothingServed, Served
from proxy.upstreams.base import AttemptFailed, Call, Tail
from proxy.upstreams.vertex import Vertex

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from aiohttp.web_request import BaseRequest

    from proxy.callers import Caller, Callers
    from proxy.dialects.base import Dialect
    from proxy.events import Event
    from proxy.failover import Failover, Failure
    from proxy.routing import Plan

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.05


class Refused:
    """The proxy answers by itself, with an error of its own; `retry_after` in seconds."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        failures: Sequence[Failure] = (),
    ) -> None:
        self.code = code
        self.failures = failures
        self.body = google_error(code, message, field=field)
        self.retry_after = retry_after


class RelayedResponse(web.StreamResponse):
    """A response that carries what the upstream sent, and nothing that the server library would add to it."""

    async def _prepare_headers(self) -> None:
        silent = [name for name in (hdrs.CONTENT_TYPE, hdrs.SERVER) if name not in self.headers]
        await super()._prepare_headers()
        for name in silent:
            self.headers.pop(name, None)


class DataListener:
    """Handles requests; an instance of it is the handler that `aiohttp.web.Server` calls."""

    def __init__(
        self,
        *,
        callers: Callers,
        plan: Callable[[str, bytes], Plan],
        failover: Failover,
        dialect: Dialect,
        emit: Callable[[Event], None],
        clock: Callable[[], float],
        total_seconds: float,
        largest_body: int,
    ) -> None:
        """`plan(model, caller_key)` is the route of one request; `largest_body` in bytes."""
        self._callers = callers
        self._plan = plan
        self._failover = failover
        self._dialect = dialect
        self._emit = emit
        self._clock = clock
        self._total_seconds = total_seconds
        self._largest_body = largest_body
        self.in_flight = 0
        self.draining = False

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        """Serve one request. Emits its start and its end, whatever happens in between."""
        started = self._clock()
        self.in_flight += 1
        self._emit(RequestStarted())
        upstream, code = NO_UPSTREAM, 499
        try:
            served = await self._serve(request, started)
            if isinstance(served, Refused):
                code = served.code
                return self._refuse(request, served)
            upstream, code = served.upstream, served.reply.status
            return await self._send(request, served, started)
        except Exception:  # noqa: BLE001 (the root of the request's task)
            # A bug must not show the caller another kind of server.
            _log.exception("a request failed inside the proxy")
            if upstream != NO_UPSTREAM:
                # Part of an answer may be out: then nothing may follow it.
                request.protocol.force_close()
            code = 500
            self._emit(RequestLost("", "internal"))
            return self._refuse(request, Refused(500, "the proxy failed on this request"))
        finally:
            self.in_flight -= 1
            self._emit(RequestEnded(upstream, code, self._clock() - started))

    async def _serve(self, request: BaseRequest, started: float) -> Served | Refused:
        route = paths.parse(request.raw_path) if request.method == hdrs.METH_POST else None
        if route is None:
            return Refused(404, "this proxy serves no such path")
        try:
            caller = self._callers.admit(request.headers)
        except NotAdmitted as refusal:
            return Refused(401, str(refusal))
        try:
            body, tail = await self._body(request, started)
        except TimeoutError:
            return Refused(408, "the request's body did not come in time")
        except web.RequestPayloadError:
            return Refused(400, "the request's body is not framed as HTTP demands")
        call = Call(
            route=route,
            target=request.raw_path,
            headers=request.headers,
            body=body,
            tail=tail,
            caller=caller,
            dialect=self._dialect,
            deadline=started + self._total_seconds,
            largest_body=self._largest_body,
        )
        try:
            served = await self._failover.serve(call, self._plan(route.model, caller.key))
        except NothingServed as failure:
            return self._nothing_served(call, failure)
        self._remember(caller, served)
        return served

    async def _body(self, request: BaseRequest, started: float) -> tuple[bytes, Tail | None]:
        """The whole body; of one that is too large to be held, the first part of it and the rest."""
        pieces = []
        size = 0
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # The response's own bytes are counted from here.
            request.writer.output_size = 0
        async with asyncio.timeout_at(started + self._total_seconds):
            while piece := await request.content.readany():
                pieces.append(piece)
                size += len(piece)
                if size > self._largest_body:
                    return b"".join(pieces), Tail(request.content.iter_any(), broken_by=web.RequestPayloadError)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), None

    def _remember(self, caller: Caller, served: Served) -> None:
        """Vertex has checked this caller; that it did counts for the time when it cannot be asked.

        Only an answer proves it: an error may come from a front end that checked nothing.
        """
        if served.upstream == Vertex.name and 200 <= served.reply.status < 300:
            self._callers.accepted(caller, self._clock())

    def _nothing_served(self, call: Call, failure: NothingServed) -> Served | Refused:
        model = call.route.model
        if call.tail is not None and call.tail.broken:
            return Refused(400, "the request's body is not framed as HTTP demands")
        if call.tail is not None and not call.tail.complete and call.is_over(self._clock()):
            return Refused(408, "the request's body did not come in time")
        answer = failure.answer
        # A refusal for capacity is worth another try as it stands; in an outage the caller must know what to change.
        throttled = answer is not None and answer.failed.reason is FailureReason.THROTTLED
        if (invalid := failure.invalid) is not None and not throttled:
            code = 413 if call.tail is not None else 400
            named = invalid.field in invalid.message
            message = invalid.message if named else f"{invalid.field}: {invalid.message}"
            return Refused(code, message, field=invalid.field)
        not_allowed = any(unable.failed.reason is FailureReason.NOT_ALLOWED for unable in failure.unable)
        if not_allowed and answer is None:
            return Refused(401, "the model's provider cannot be reached to check this caller's credentials")
        self._emit(RequestLost(model, failure.reason))
        if answer is not None and answer.failed.reply is not None:
            reply, reason = answer.failed.reply, answer.failed.reason
            return Served(answer.upstream, model, reason, reply, failure.failures, end=lambda _outcome: None)
        code, message = 503, "no model provider can serve this request now"
        if call.is_over(self._clock()):
            code, message = 504, "no answer within the time limit"
        return Refused(code, message, retry_after=failure.retry_after, failures=failure.failures)

    def _refuse(self, request: BaseRequest, refusal: Refused) -> web.StreamResponse:
        response = web.Response(status=refusal.code, body=refusal.body, content_type="application/json")
        if refusal.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(math.ceil(refusal.retry_after))
        if refusal.failures:
            response.headers[headers.PROXY_STATUS] = _proxy_status(refusal.failures)
        if not request.content.at_eof() or self.draining:
            response.force_close()
        return response

    async def _send(self, request: BaseRequest, served: Served, started: float) -> web.StreamResponse:
        """Send a reply; from its first byte on nothing can be repaired, only ended or broken off."""
        reply = served.reply
        response = RelayedResponse(status=reply.status, reason=reply.reason, headers=reply.headers)
        response.headers[headers.UPSTREAM] = served.upstream
        response.headers[headers.REASON] = served.reason
        if served.failures:
            response.headers[headers.PROXY_STATUS] = _proxy_status(served.failures)
        if self.draining:
            response.force_close()
        try:
            # A moment after the attempt's own limit, which knows better whose fault it is.
            async with asyncio.timeout_at(started + self._total_seconds + _GRACE_SECONDS):
                if reply.rest is None:
                    # The upstream has done its part; how fast the caller reads is not its business.
                    served.end(reply.outcome)
                    response.content_length = len(reply.body)
                    await response.prepare(request)
                    await response.write_eof(reply.body)
                else:
                    await self._pump(request, response, served, reply.rest)
        except TimeoutError:
            # It is the caller who does not read: what waits to be sent must not outlive the request.
            if request.transport is not None:
                request.transport.abort()
            self._break_off(request, served, FailureReason.TOTAL_TIMEOUT)
        except ConnectionError:
            # The caller is gone; cancellation usually says so first.
            pass
        return response

    async def _pump(
        self, request: BaseRequest, response: web.StreamResponse, served: Served, rest: AsyncGenerator[bytes]
    ) -> None:
        outcome = Outcome.failure(FailureReason.LOCAL)
        try:
            async with aclosing(rest):
                await response.prepare(request)
                if served.reply.body:
                    await response.write(served.reply.body)
                async for piece in rest:
                    await response.write(piece)
            outcome = OK
            await response.write_eof()
        except AttemptFailed as broken:
            outcome = broken.outcome
            self._break_off(request, served, broken.reason)
        except (asyncio.CancelledError, ConnectionError):
            if outcome is not OK:
                known = served.reply.known()
                outcome = known or Outcome.failure(FailureReason.CLIENT_LEFT)
                if known is not None and known.reason is not None:
                    self._emit(RequestLost(served.model, known.reason))
            raise
        finally:
            served.end(outcome)

    def _break_off(self, request: BaseRequest, served: Served, reason: FailureReason) -> None:
        """Let the caller see that its answer is not whole: close without the end of the body.

        What was written goes out first, and nothing after it: the library finds the connection closing.
        """
        self._emit(RequestLost(served.model, reason))
        request.protocol.force_close()


def _proxy_status(failures: Sequence[Failure]) -> str:
    return headers.proxy_status(
        (failure.upstream, failure.failed.reason, failure.failed.reply.status if failure.failed.reply else None)
        for failure in failures
    )
