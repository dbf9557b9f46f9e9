"""One HTTP exchange with an upstream, with every way in which it can fail told as a FailureReason.

The only module that knows which HTTP client is used: the two small classes here are what a faster one would replace.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from health.lag import no_lag
from health.outcome import FailureReason
from proxy.upstreams.base import LARGEST_ANSWER, AttemptFailed, Limits
from proxy.upstreams.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from multidict import CIMultiDictProxy

# What the client library would add by itself; only the caller's own headers may go out.
_NO_AUTOMATIC_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


# Connections that fail for want of something of this machine's: descriptors, ports, memory.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})

_LARGE_BODY = 256 * 1024
_DRAIN_SECONDS = 0.1


def raw_url(origin: str, target: str) -> URL:
    """The URL that is asked for with exactly `target` (raw path and query) in the request line."""
    url = URL(origin + target, encoded=True)
    if url.raw_path_qs != target:
        # yarl drops a bare "?", and takes "#" for a fragment; what it puts into the request line is this cached value.
        url._cache["raw_path_qs"] = target
    return url


class Exchange:
    """A response whose headers have come. Must be closed on every path; closing it early drops the connection."""

    def __init__(self, response: aiohttp.ClientResponse, clock: asyncio.AbstractEventLoop) -> None:
        self._response = response
        self._loop = clock
        self.status = response.status
        self.reason = response.reason
        self.headers: CIMultiDictProxy[str] = response.headers
        self.content_at: float | None = None
        """When the first byte of the body came, on the event loop's clock."""

    @property
    def is_event_stream(self) -> bool:
        """Whether the body announces itself as server-sent events."""
        return self.content_type == "text/event-stream"

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return self._response.content_type

    async def chunk(self, limits: Limits) -> bytes:
        """The next bytes of the body as they came; b"" at its proper end.

        Raises AttemptFailed: as `until_content` before the first byte, then STALL, TOTAL_TIMEOUT, TRUNCATED or RESET.
        """
        if self.content_at is None:
            data = await self.until_content(limits)
            self.content_at = self._loop.time()
            limits.on_content(self.content_at)
            return data
        since = self._loop.time()
        moment = min(since + limits.idle, limits.total)
        while True:
            try:
                async with asyncio.timeout_at(moment):
                    return await self._readany()
            except TimeoutError as error:
                if moment >= limits.total:
                    raise AttemptFailed.because(FailureReason.TOTAL_TIMEOUT) from error
                now = self._loop.time()
                if (later := limits.put_off(moment, since, now)) == moment:
                    raise AttemptFailed.because(FailureReason.STALL) from error
                # Nothing is lost by asking again: a read that was given up has taken nothing from the buffer.
                moment, since = min(later, limits.total), now

    async def until_content(self, limits: Limits) -> bytes:
        """As `chunk`, for a stream whose bytes are no content yet: the first-byte limit goes on counting.

        Raises AttemptFailed: FIRST_BYTE_TIMEOUT, TRUNCATED or RESET.
        """
        return await limits.before_content(self._readany())

    async def _readany(self) -> bytes:
        try:
            return await self._response.content.readany()
        except aiohttp.ClientPayloadError as error:
            raise AttemptFailed.because(FailureReason.TRUNCATED, type(error).__name__) from error
        except (aiohttp.ClientError, OSError) as error:
            raise AttemptFailed.because(FailureReason.RESET, type(error).__name__) from error

    async def read(self, limits: Limits) -> bytes:
        """The whole body. Raises AttemptFailed as `chunk` does, and MALFORMED beyond LARGEST_ANSWER."""
        pieces = []
        size = 0
        while piece := await self.chunk(limits):
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST_ANSWER:
                raise AttemptFailed.because(FailureReason.MALFORMED, f"an answer of more than {LARGEST_ANSWER} bytes")
            if self._drips(limits):
                raise AttemptFailed.because(FailureReason.STALL, "a whole answer that drips")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _drips(self, limits: Limits) -> bool:
        """Whether a whole answer has begun too long ago: it is written when all of it is there, and comes in one go.

        Nothing of it has been sent on, so it may be given up for one that is quicker.
        """
        assert self.content_at is not None
        now, longest = self._loop.time(), 2 * limits.idle
        return (
            now > self.content_at + longest
            and now - limits.lag(self.content_at, now) > self.content_at + longest
            and now >= min(limits.patience(), limits.total - limits.idle)
        )

    async def drain(self) -> None:
        """Wait a moment for the proper end of a body that has said all, so that its connection can be used again."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self._response.content.readany():
                    pass

    def close(self) -> None:
        """Done with it: a body read to its end frees the connection for reuse, anything less closes it."""
        self._response.close()


class Transport:
    """The HTTP client of one provider: a pool of connections of its own, so that one cannot starve the other."""

    def __init__(self, *, connect_seconds: float, lag: Callable[[float, float], float] = no_lag) -> None:
        """`lag` tells for how many seconds between two moments the event loop was away. Must be made on that loop."""
        self._lag = lag
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            # The library's default of 100 connections would cap streams; the limits are kept elsewhere.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, resolver=Resolver()),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NO_AUTOMATIC_HEADERS,
            trace_configs=[tracing],
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def post(
        self, url: URL, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes], limits: Limits
    ) -> Exchange:
        """Send a body to a `raw_url` and wait for the response's headers. Raises AttemptFailed."""
        return await limits.before_content(self._exchange(url, headers, body))

    async def _exchange(self, url: URL, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes]) -> Exchange:
        began = self._loop.time()
        try:
            return await self._on_a_live_connection(url, headers, body)
        except aiohttp.ConnectionTimeoutError as error:
            # The library counts in time that passes, awake or not.
            reason = FailureReason.LAG if self._lag(began, self._loop.time()) > 0 else FailureReason.CONNECT
            raise AttemptFailed.because(reason, "timed out") from error
        except (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError) as error:
            raise AttemptFailed.because(FailureReason.TLS, _cause(error)) from error
        except aiohttp.ClientConnectorDNSError as error:
            raise AttemptFailed.because(FailureReason.DNS, _cause(error)) from error
        except aiohttp.ClientConnectorError as error:
            reason = FailureReason.LOCAL if error.os_error.errno in _OURS else FailureReason.CONNECT
            raise AttemptFailed.because(reason, _cause(error)) from error
        except aiohttp.ClientResponseError as error:
            raise AttemptFailed.because(FailureReason.MALFORMED, "not HTTP") from error
        except (aiohttp.ClientError, OSError) as error:
            raise AttemptFailed.because(FailureReason.RESET, type(error).__name__) from error

    async def _on_a_live_connection(
        self, url: URL, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes]
    ) -> Exchange:
        while True:
            reused: list[bool] = []
            try:
                return await self._post(url, headers, body, reused)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A kept connection that the server was closing just then says nothing about the server, and a
                # completion may be asked for again; a body that was streamed in may not, it is gone. Each turn uses
                # up one kept connection, so the last one is made on a new one.
                if not reused or not isinstance(body, bytes):
                    raise

    async def _post(
        self, url: URL, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes], reused: list[bool]
    ) -> Exchange:
        response = await self._session.request(
            "POST",
            url,
            headers=headers,
            # In one piece the library writes a large body at once, and warns of it.
            data=io.BytesIO(body) if isinstance(body, bytes) and len(body) > _LARGE_BODY else body,
            allow_redirects=False,
            trace_request_ctx=reused,
        )
        return Exchange(response, self._loop)


async def _note_reuse(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
    context.trace_request_ctx.append(True)


def _cause(error: BaseException) -> str:
    """What went wrong in the words of the system, without addresses or content."""
    inner = getattr(error, "os_error", None) or error.__cause__ or error
    said = getattr(inner, "strerror", None) or getattr(inner, "reason", None)
    return f"{type(inner).__name__}: {said}" if said else type(inner).__name__
