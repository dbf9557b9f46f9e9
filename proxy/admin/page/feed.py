"""`GET /events`: what happens, as server-sent events, while it happens. A listener of the hub.

Whoever reads too slowly is cut off: memory is bounded by the number of readers and by what each may leave unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from proxy.admin.gate import error
from proxy.history.entries import entry_of

if TYPE_CHECKING:
    from proxy.events import Event

READERS = 32
_UNREAD = 200
_HEARTBEAT_SECONDS = 10.0
_RETRY_MILLISECONDS = 1_000


class Feed:
    """The readers of one process."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[bytes | None]] = set()
        self._closed = False
        self.news = 0
        """How many events there have been that readers are told of."""

    def __call__(self, event: Event) -> None:
        """Hand an event on to every reader."""
        if (entry := entry_of(event)) is None:
            return
        self.news += 1
        piece = f"event: {entry['event']}\ndata: {json.dumps(entry)}\n\n".encode()
        for reader in list(self._readers):
            try:
                reader.put_nowait(piece)
            except asyncio.QueueFull:
                self._end(reader)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One reader, until it goes, falls behind, or the process ends."""
        if self._closed or len(self._readers) >= READERS:
            why = "the proxy is ending" if self._closed else f"{READERS} readers are connected, which is the limit"
            refusal = error(503, why)
            refusal.headers[hdrs.RETRY_AFTER] = "5"
            return refusal
        reader: asyncio.Queue[bytes | None] = asyncio.Queue(_UNREAD)
        self._readers.add(reader)
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store", "X-Accel-Buffering": "no"}
        )
        try:
            await response.prepare(request)
            await response.write(f"retry: {_RETRY_MILLISECONDS}\n\n".encode())
            while (piece := await self._next(reader)) is not None:
                async with asyncio.timeout(_HEARTBEAT_SECONDS):
                    await response.write(piece)
        except (ConnectionError, TimeoutError):
            # Gone, or it does not read: what waits to be sent must not wait for it.
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._readers.discard(reader)
        return response

    async def close(self, _: web.Application) -> None:
        """End every reader: the process is about to."""
        self._closed = True
        for reader in list(self._readers):
            self._end(reader)

    async def _next(self, reader: asyncio.Queue[bytes | None]) -> bytes | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT_SECONDS):
                return await reader.get()
        return b": still here\n\n"

    def _end(self, reader: asyncio.Queue[bytes | None]) -> None:
        self._readers.discard(reader)
        while not reader.empty():
            reader.get_nowait()
        reader.put_nowait(None)
