"""From a request on the wire to a call: who asks, what for, in which dialect. Or a refusal, in the caller's own shape.

It decides nothing about upstreams, and reads no more of a body than it must.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDict

from proxy import front, headers, paths
from proxy.callers import NotAdmitted
from proxy.dialects.base import InvalidRequest
from proxy.dialects.catalog import dialect_of, model_in
from proxy.errors import google_error
from proxy.front import FRONT_DIALECT
from proxy.settings_types import StreamMode, variable
from proxy.upstreams.base import Call, Tail
from proxy.upstreams.codings import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.web_request import BaseRequest
    from multidict import CIMultiDictProxy

    from proxy.account import Account
    from proxy.callers import Caller, Callers
    from proxy.dialects.base import Dialect
    from proxy.front import MistralFront
    from proxy.paths import Route
    from proxy.served import Failure


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
        dialect: Dialect | None = None,
    ) -> None:
        """`dialect` is that of the request, as far as it is known."""
        self.code = code
        self.failures = failures
        write = google_error if dialect is None else dialect.error
        self.body = write(code, message, field=field)
        self.retry_after = retry_after


def named(invalid: InvalidRequest) -> str:
    """The message, with the field that is to be changed."""
    return invalid.message if invalid.field in invalid.message else f"{invalid.field}: {invalid.message}"


class Intake:
    """Makes calls of requests."""

    def __init__(
        self,
        callers: Callers,
        front: MistralFront | None,
        *,
        stream_mode: StreamMode,
        largest_body: int,
        total_seconds: float,
    ) -> None:
        """`front` serves Mistral's own paths; `stream_mode` holds for requests that choose none.

        `largest_body` is in bytes.
        """
        self._callers = callers
        self._front = front
        self._stream_mode = stream_mode
        self._largest_body = largest_body
        self._total_seconds = total_seconds

    async def call(self, request: BaseRequest, account: Account) -> Call | Refused:
        """The call that a request asks for. What is known of it stands in its account, even where it is refused."""
        started = account.started
        route = self._route(request)
        if isinstance(route, Refused):
            return route
        account.route = route
        dialect = FRONT_DIALECT if front.is_front(request.raw_path) else dialect_of(route)
        try:
            caller = self._callers.admit(request.headers)
            # To a caller of HTTP/1.0 a stream's end is the connection's: one that broke off would look whole.
            atomic = self._is_atomic(request) or request.version < HttpVersion11
            body, tail = await self._body(request, started)
            if tail is not None and front.is_front(request.raw_path):
                limit = f"{self._largest_body} bytes ({variable('max_body_bytes')})"
                return Refused(413, f"the body is larger than {limit}", field="body", dialect=dialect)
            call = self._call(request, route, body, tail, caller, deadline=started + self._total_seconds)
        except NotAdmitted as refusal:
            return Refused(401, str(refusal), dialect=dialect)
        except InvalidRequest as invalid:
            return Refused(400, named(invalid), field=invalid.field, dialect=dialect)
        except TimeoutError:
            return Refused(408, "the request's body did not come in time", dialect=dialect)
        except web.RequestPayloadError:
            return Refused(400, "the request's body is not framed as HTTP demands", dialect=dialect)
        account.route = call.route
        call.atomic = atomic
        call.trace = account.trace
        return call

    def _route(self, request: BaseRequest) -> Route | Refused:
        if request.method == hdrs.METH_POST:
            if (route := paths.parse(request.raw_path)) is not None:
                return route
            if front.is_front(request.raw_path):
                if self._front is not None:
                    return self._front.route
                wanted = ", ".join(variable(f"vertex.{part}") for part in ("project", "location", "model"))
                return Refused(404, f"for this path {wanted} must be set", dialect=FRONT_DIALECT)
        return Refused(404, "this proxy serves no such path")

    def _is_atomic(self, request: BaseRequest) -> bool:
        if (chosen := request.headers.get(headers.STREAM_MODE)) is None:
            return self._stream_mode is StreamMode.ATOMIC
        try:
            return StreamMode(chosen.strip().lower()) is StreamMode.ATOMIC
        except ValueError as error:
            raise InvalidRequest(headers.STREAM_MODE, f"must be one of {', '.join(StreamMode)}") from error

    def _call(
        self,
        request: BaseRequest,
        route: Route,
        body: bytes,
        tail: Tail | None,
        caller: Caller,
        *,
        deadline: float,
    ) -> Call:
        """The call for Vertex. Raises InvalidRequest where Mistral's own path was asked for what is no request."""
        target = request.raw_path
        sent: CIMultiDict[str] | CIMultiDictProxy[str] = request.headers
        plain = body
        if coding := sent.get(hdrs.CONTENT_ENCODING, ""):
            with contextlib.suppress(InvalidRequest):
                plain = decode(body, coding, limit=self._largest_body)
        dialect = dialect_of(route, plain)
        if self._front is not None and front.is_front(target):
            target, body = self._front.rewrite(plain)
            sent = CIMultiDict((name, value) for name, value in sent.items() if name.lower() != "content-encoding")
            route = paths.parse(target) or route
            dialect = FRONT_DIALECT
        elif not route.model:
            route = replace(route, model=model_in(plain))
        return Call(
            route=route,
            target=target,
            headers=sent,
            body=body,
            tail=tail,
            caller=caller,
            dialect=dialect,
            deadline=deadline,
            largest_body=self._largest_body,
        )

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
