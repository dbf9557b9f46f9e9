"""The data listener: one request from its first line to its last byte, readable from top to bottom.

It decides nothing about upstreams. It must not hang (the total time bounds everything), must not end an answer cleanly
that is not complete, and must not let go of an attempt without telling how it ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from health.outcome import OK, FailureReason, Outcome
from proxy import headers
from proxy.account import Account
from proxy.dialects.opaque import Opaque
from proxy.events import RequestLost, RequestStarted
from proxy.front import MistralApi
from proxy.intake import Refused, named
from proxy.served import NothingServed, Served
from proxy.trace import trace_context
from proxy.upstreams.base import AttemptFailed
from proxy.upstreams.vertex import Vertex

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from aiohttp.web_request import BaseRequest

    from proxy.callers import Callers
    from proxy.dialects.base import Dialect
    from proxy.events import Event
    from proxy.failover import Failover
    from proxy.flags import Flags
    from proxy.intake import Intake
    from proxy.routing import Plan
    from proxy.served import Failure
    from proxy.upstreams.base import Call

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.05


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
        intake: Intake,
        callers: Callers,
        plan: Callable[[str, bytes], Plan],
        flags: Flags | None,
        failover: Failover,
        emit: Callable[[Event], None],
        clock: Callable[[], float],
        total_seconds: float,
    ) -> None:
        """`plan(model, caller_key)` is the plan of one request; `flags` are asked where no override holds for it."""
        self._intake = intake
        self._callers = callers
        self._plan = plan
        self._flags = flags
        self._failover = failover
        self._emit = emit
        self._clock = clock
        self._total_seconds = total_seconds
        self.in_flight = 0
        self.draining = False

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        """Serve one request. Emits its start and its end, whatever happens in between."""
        account = Account(self._clock(), trace_context(request.headers))
        self.in_flight += 1
        self._emit(RequestStarted())
        try:
            served = await self._serve(request, account)
            if isinstance(served, Refused):
                account.refuse(served.code)
                return self._refuse(request, served)
            try:
                account.serve(served, self._clock())
                return await self._send(request, served, account)
            finally:
                # Nothing, where all went well: an attempt that is not told how it ended keeps its place for ever.
                served.end(Outcome.failure(FailureReason.LOCAL))
        except Exception:  # noqa: BLE001 (the root of the request's task)
            # A bug must not show the caller another kind of server.
            _log.exception("a request failed inside the proxy")
            if account.served is not None:
                # Part of an answer may be out: then nothing may follow it.
                request.protocol.force_close()
            account.fail()
            self._emit(self._lost(account, "internal"))
            return self._refuse(request, Refused(500, "the proxy failed on this request"))
        finally:
            self.in_flight -= 1
            self._emit(account.ended(self._clock()))

    def _lost(self, account: Account, reason: str) -> RequestLost:
        model = "" if account.route is None else account.route.model
        return RequestLost(model, reason, account.trace.trace_id)

    async def _serve(self, request: BaseRequest, account: Account) -> Served | Refused:
        call = await self._intake.call(request, account)
        if isinstance(call, Refused):
            return call
        plan = self._plan(call.route.model, call.caller.key)
        if self._flags is not None and not plan.pinned:
            plan = await self._flags.plan(call, plan)
        try:
            served = await self._failover.serve(call, plan)
        except NothingServed as failure:
            account.failures = failure.failures
            return self._nothing_served(call, failure, account)
        self._remember(call, served)
        return served

    def _remember(self, call: Call, served: Served) -> None:
        """Vertex has checked this caller; that it did counts for the time when it cannot be asked.

        Only an answer proves it: an error may come from a front end that checked nothing.
        """
        if served.upstream == Vertex.name and 200 <= served.reply.status < 300:
            self._callers.accepted(call.caller, self._clock())
            if call.caller.credential is not None:
                # For the rest of this request, too: its stream may have to be finished by another.
                call.caller = replace(call.caller, may_use_claude=True)

    def _nothing_served(self, call: Call, failure: NothingServed, account: Account) -> Served | Refused:
        refused = partial(Refused, dialect=call.dialect)
        if call.tail is not None and call.tail.broken:
            return refused(400, "the request's body is not framed as HTTP demands")
        if call.tail is not None and not call.tail.complete and call.is_over(self._clock()):
            return refused(408, "the request's body did not come in time")
        answer = failure.answer
        # A refusal for capacity is worth another try as it stands; in an outage the caller must know what to change.
        throttled = answer is not None and answer.failed.reason is FailureReason.THROTTLED
        if (invalid := failure.invalid) is not None and not throttled and not isinstance(call.dialect, Opaque):
            code = 413 if call.tail is not None else 400
            return refused(code, named(invalid), field=invalid.field)
        not_allowed = any(unable.failed.reason is FailureReason.NOT_ALLOWED for unable in failure.unable)
        if not_allowed and answer is None:
            return refused(401, "the model's provider cannot be reached to check this caller's credentials")
        self._emit(self._lost(account, failure.reason))
        if answer is not None and answer.failed.reply is not None:
            reply, reason = answer.failed.reply, answer.failed.reason
            model = call.route.model
            return Served(answer.upstream, call.dialect, model, reason, reply, failure.failures, lambda _outcome: None)
        code, message = 503, "no model provider can serve this request now"
        if isinstance(call.dialect, Opaque):
            message = "Vertex AI cannot serve this request now, and no other provider can answer this method"
        if call.is_over(self._clock()):
            code, message = 504, "no answer within the time limit"
        return refused(code, message, retry_after=failure.retry_after, failures=failure.failures)

    def _refuse(self, request: BaseRequest, refusal: Refused) -> web.StreamResponse:
        response = web.Response(status=refusal.code, body=refusal.body, content_type="application/json")
        if refusal.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(math.ceil(refusal.retry_after))
        if refusal.failures:
            response.headers[headers.PROXY_STATUS] = _proxy_status(refusal.failures)
        if not request.content.at_eof() or self.draining:
            response.force_close()
        return response

    async def _send(self, request: BaseRequest, served: Served, account: Account) -> web.StreamResponse:
        """Send a reply; from its first byte on nothing can be repaired, only ended or broken off."""
        reply = served.reply
        if (
            reply.status >= 400
            and isinstance(served.dialect, MistralApi)
            and hdrs.CONTENT_ENCODING not in reply.headers
        ):
            reply.body = served.dialect.own_error(reply.status, reply.body)
        response = RelayedResponse(status=reply.status, reason=reply.reason, headers=reply.headers)
        response.headers[headers.UPSTREAM] = served.upstream
        response.headers[headers.REASON] = served.reason
        if served.failures:
            response.headers[headers.PROXY_STATUS] = _proxy_status(served.failures)
        if self.draining:
            response.force_close()
        try:
            # A moment after the attempt's own limit, which knows better whose fault it is.
            async with asyncio.timeout_at(account.started + self._total_seconds + _GRACE_SECONDS):
                if reply.rest is None:
                    # The upstream has done its part; how fast the caller reads is not its business.
                    served.end(reply.outcome)
                    response.content_length = len(reply.body)
                    await response.prepare(request)
                    await response.write_eof(reply.body)
                    account.complete = True
                else:
                    account.complete = await self._pump(request, response, served, reply.rest, account)
        except TimeoutError:
            # It is the caller who does not read: what waits to be sent must not outlive the request.
            if request.transport is not None:
                request.transport.abort()
            self._break_off(request, account, FailureReason.TOTAL_TIMEOUT)
        except ConnectionError:
            # The caller is gone; cancellation usually says so first.
            account.break_off(FailureReason.CLIENT_LEFT)
        except asyncio.CancelledError:
            account.break_off(FailureReason.CLIENT_LEFT)
            raise
        return response

    async def _pump(
        self,
        request: BaseRequest,
        response: web.StreamResponse,
        served: Served,
        rest: AsyncGenerator[bytes],
        account: Account,
    ) -> bool:
        """Send a stream as it comes; whether it went out whole."""
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
            # Whoever reads the error is told, whoever takes a clean end for success sees none.
            last = broken.error_event or _stream_error(served.dialect, broken.reason)
            if last and hdrs.CONTENT_ENCODING not in served.reply.headers:
                await response.write(last)
            self._break_off(request, account, broken.reason)
            return False
        except (asyncio.CancelledError, ConnectionError):
            if outcome is not OK:
                known = served.reply.known()
                outcome = known or Outcome.failure(FailureReason.CLIENT_LEFT)
                if known is not None and known.reason is not None:
                    self._emit(self._lost(account, known.reason))
            raise
        finally:
            served.end(outcome)
        return True

    def _break_off(self, request: BaseRequest, account: Account, reason: FailureReason) -> None:
        """Let the caller see that its answer is not whole: close without the end of the body.

        What was written goes out first, and nothing after it: the library finds the connection closing.
        """
        self._emit(self._lost(account, reason))
        account.break_off(reason)
        request.protocol.force_close()


def _stream_error(dialect: Dialect, reason: FailureReason) -> bytes:
    if reason is FailureReason.TOTAL_TIMEOUT:
        return dialect.stream_error(504, "no complete answer within the time limit")
    return dialect.stream_error(503, "the answer broke off and no model provider can complete it now")


def _proxy_status(failures: Sequence[Failure]) -> str:
    return headers.proxy_status(
        (failure.upstream, failure.failed.reason, failure.failed.reply.status if failure.failed.reply else None)
        for failure in failures
    )
