"""A provider on a real socket: records what arrives, lets a fault strike, and answers.

What is answered is the providers' own business (vertex.py, claude.py). Time is the event loop's alone, so that tests
may run on a virtual clock.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from types import TracebackType
from typing import ClassVar, Self

from aiohttp import web

from . import control
from .delivery import GZIP, Delivery, accepts_gzip, gzipped
from .faults import COMMON, Draw, Fault, FaultError
from .model import Author
from .record import RecordedRequest
from .reply import HEALTHY, ProviderError, Rejected, Reply, compact, plan, whole

REMEMBERED = 10_000
GARBAGE = b"<!doctype html><html><head><title>Welcome</title></head><body><p>It works!</p></body></html>\n"


class SimulatedProvider(ABC):
    """A provider that listens on loopback. Use it as `async with`, or `start` and `stop` it.

    `fault` may be set at any time and strikes the calls that arrive from then on.
    """

    name: ClassVar[str]
    errors: ClassVar[Mapping[str, ProviderError]]
    """The provider's own errors; each is a preset too."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=REMEMBERED)
        """The calls whose bodies have arrived, oldest first, without those to the control endpoints."""
        self.calls = 0
        """How many calls have arrived; not bounded as `requests` is."""
        self.in_flight = 0
        self.max_in_flight = 0
        self.compress = False
        """Compress answers for callers that accept gzip."""
        self.response_headers: dict[str, str] = {}
        """Sent with every answer."""
        self.latency = 0.0
        """Seconds until the model has something to say when it is well."""
        self.completes: Callable[[str, str], str] | None = None
        """From prefix and suffix, what the model puts between them; None for `model.complete`."""
        self.chats: Callable[[str], str] | None = None
        """From the last text of the user, what the model answers; None for `model.chat`."""
        self._ssl_context = ssl_context
        self._draw: Draw | None = None
        self._address = ("127.0.0.1", 0)
        self._web: web.Server | None = None
        self._listener: asyncio.AbstractServer | None = None
        self._held: socket.socket | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._busy: set[object] = set()
        self._arrival = asyncio.Event()
        self._opened = asyncio.Event()
        self._stopping = False

    @abstractmethod
    def answer(self, request: RecordedRequest) -> Reply:
        """What a well provider answers. Raises Rejected for a request that it would refuse."""

    @abstractmethod
    def render(self, error: ProviderError, request: RecordedRequest) -> Reply:
        """An error in the provider's own shape."""

    @abstractmethod
    def error_with_status(self, status: int) -> ProviderError:
        """The provider's own error for a status."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 picks one. Raises OSError if the port is taken."""
        self._stopping = False
        self._held = _bound(host, port)
        self._address = (host, self._held.getsockname()[1])
        # The body is recorded as it was sent; compression is the record's matter.
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None, auto_decompress=False)
        await self._listen()

    async def stop(self) -> None:
        """Stop listening and break every connection."""
        self._stopping = True
        self._forget_reopening()
        self._close_listener()
        if self._held is not None:
            self._held.close()
            self._held = None
        if self._web is not None:
            for connection in self._web.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._web.shutdown(timeout=1.0)
            self._web = None

    @property
    def author(self) -> Author:
        """Who writes this provider's answers at present."""
        return Author(provider=self.name, completes=self.completes, chats=self.chats)

    @property
    def port(self) -> int:
        """The port it listens on, or would listen on again."""
        return self._address[1]

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at the end."""
        host = f"[{self._address[0]}]" if ":" in self._address[0] else self._address[0]
        return f"{'http' if self._ssl_context is None else 'https'}://{host}:{self.port}"

    @property
    def fault(self) -> Fault | None:
        """What is wrong at present; None again once a fault with `times` is used up."""
        return None if self._draw is None or self._draw.used_up else self._draw.fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        if fault is not None and fault.error is not None and fault.error not in self.errors:
            raise FaultError(f"error {fault.error!r} is none of {self.name}'s: {', '.join(sorted(self.errors))}")
        self._draw = None if fault is None else Draw(fault)

    @property
    def presets(self) -> dict[str, Fault]:
        """The faults that have a name: those of every provider, and one for each error of this one."""
        return {**COMMON, **{name: Fault(error=name) for name in self.errors}}

    def preset(self, name: str) -> Fault:
        """The fault of that name. Raises FaultError."""
        return Fault.from_json({"preset": name}, self.presets)

    @property
    def refusing(self) -> bool:
        """Whether connections are refused."""
        return self._listener is None

    async def refuse(self, *, seconds: float | None = None) -> None:
        """Refuse connections, for so many seconds or until `accept`.

        Idle connections are closed at once, busy ones after their answer.
        """
        self._forget_reopening()
        if self._close_listener():
            # The port stays bound, not listening: nobody else can take it, and a connection to it is refused.
            self._held = await _bound_again(*self._address)
        for connection in [] if self._web is None else self._web.connections:
            if connection in self._busy:
                connection.close()
            else:
                connection.force_close()
        if seconds is not None:
            self._reopening = asyncio.create_task(self._listen_after(seconds))

    async def accept(self) -> None:
        """Accept connections again, on the same port."""
        self._forget_reopening()
        await self._listen()

    async def accepting(self) -> None:
        """Wait until connections are accepted (again)."""
        await self._opened.wait()

    async def received(self, count: int) -> None:
        """Wait until `count` calls have arrived since the start."""
        while self.calls < count:
            await self._arrival.wait()

    async def _listen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._reopening = None
        await self._listen()

    async def _listen(self) -> None:
        if self._held is None or self._web is None:
            return
        held, self._held = self._held, None
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, sock=held, ssl=self._ssl_context, backlog=1024)
        self._opened.set()

    def _close_listener(self) -> bool:
        if self._listener is None:
            return False
        self._listener.close()
        self._listener = None
        self._opened.clear()
        return True

    def _forget_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._busy.add(request.protocol)
        try:
            if request.raw_path.startswith(control.PREFIX):
                return await control.respond(self, request)
            return await self._call(request)
        finally:
            self._busy.discard(request.protocol)

    async def _call(self, request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        record = RecordedRequest.of(request, loop.time())
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            record.body = await request.content.read()
            self._remember(record)
            return await self._respond(request, record)
        except ConnectionError:
            self._note_abort(record, loop.time())
            # Nobody is there to read it; aiohttp wants to be given something.
            return web.Response()
        except asyncio.CancelledError:
            self._note_abort(record, loop.time())
            raise
        finally:
            self.in_flight -= 1
            record.ended.set()

    def _remember(self, record: RecordedRequest) -> None:
        self.requests.append(record)
        self.calls += 1
        self._arrival.set()
        self._arrival = asyncio.Event()

    def _note_abort(self, record: RecordedRequest, now: float) -> None:
        # Stopping breaks connections too, and that is not the caller's doing.
        if not self._stopping:
            record.aborted_at = now

    async def _respond(self, request: web.BaseRequest, record: RecordedRequest) -> web.StreamResponse:
        if self._draw is not None and self._draw.strikes():
            record.fault = self._draw.fault
        fault = HEALTHY if record.fault is None else record.fault
        reply = self._reply(record, fault)
        reply = replace(reply, headers=_merged(reply.headers, self.response_headers, fault.headers))
        compressor = None
        if self.compress and accepts_gzip(record.header("accept-encoding")):
            reply = gzipped(reply)
            compressor = zlib.compressobj(wbits=GZIP) if reply.stream else None
        if not fault.reset_before_headers:
            record.status = reply.status
        delivery = Delivery(request, compressor=compressor)
        response = await delivery.perform(plan(reply, fault, self.latency if reply.status == HTTPStatus.OK else 0.0))
        record.finished = delivery.finished
        return response

    def _reply(self, record: RecordedRequest, fault: Fault) -> Reply:
        """The answer as the fault has it; how it is sent is another matter."""
        if fault.redirect is not None:
            return whole(fault.status or HTTPStatus.TEMPORARY_REDIRECT, b"", "text/html", {"location": fault.redirect})
        if fault.garbage_body:
            return whole(HTTPStatus.OK, GARBAGE, "text/html; charset=utf-8")
        if fault.error_in_body:
            return self._error_in_body(record)
        if fault.body is not None:
            return _given(fault.status or HTTPStatus.OK, fault.body)
        if fault.error is not None:
            error = self.errors[fault.error]
            return self.render(error if fault.status is None else replace(error, status=fault.status), record)
        if fault.status is not None and fault.status != HTTPStatus.OK:
            if fault.status < HTTPStatus.BAD_REQUEST:
                return whole(fault.status, b"", "text/plain")
            return self.render(self.error_with_status(fault.status), record)
        try:
            reply = self.answer(record)
        except Rejected as rejection:
            return self.render(rejection.error, record)
        if fault.error_after_chunks is not None and not reply.stream:
            return self._error_in_body(record)
        return reply

    def _error_in_body(self, record: RecordedRequest) -> Reply:
        error = self.error_with_status(HTTPStatus.INTERNAL_SERVER_ERROR)
        return replace(self.render(error, record), status=HTTPStatus.OK)


def _merged(*headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for each in headers for name, value in each.items()}


def _given(status: int, body: bytes | str | dict[str, object] | list[object]) -> Reply:
    if isinstance(body, bytes):
        return whole(status, body, "application/octet-stream")
    if isinstance(body, str):
        return whole(status, body.encode(), "text/plain; charset=utf-8")
    return whole(status, compact(body), "application/json")


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


async def _bound_again(host: str, port: int) -> socket.socket:
    # uvloop closes a listening socket in the loop's next round, asyncio at once.
    for _ in range(10):
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            await asyncio.sleep(0)
    return _bound(host, port)
