"""Puts an answer on the wire, step by step as reply.py planned it. Decides nothing."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from .reply import Cut, End, Head, Part, Reply, Reset, Send, Step, Wait

if TYPE_CHECKING:
    from zlib import _Compress

GZIP = 16 + zlib.MAX_WBITS


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether a caller with this Accept-Encoding can read gzip."""
    for offer in (accept_encoding or "").lower().split(","):
        coding, *parameters = (each.strip() for each in offer.split(";"))
        if coding == "gzip" and not any(each.replace(" ", "") in ("q=0", "q=0.0") for each in parameters):
            return True
    return False


def gzipped(reply: Reply) -> Reply:
    """`reply`, announced as compressed; a whole body already is, a stream is compressed on its way by `Delivery`."""
    headers = {**reply.headers, "content-encoding": "gzip", "vary": "accept-encoding"}
    if reply.stream:
        return replace(reply, headers=headers)
    compressor = zlib.compressobj(wbits=GZIP)
    return replace(reply, headers=headers, parts=(Part(compressor.compress(reply.body) + compressor.flush()),))


class Delivery:
    """One answer on its way to its caller."""

    def __init__(self, request: web.BaseRequest, *, compressor: _Compress | None = None) -> None:
        self.finished = False
        """Whether the body was ended as HTTP demands it."""
        self._request = request
        self._compressor = compressor
        self._response: web.StreamResponse = web.Response()

    async def perform(self, steps: Sequence[Step]) -> web.StreamResponse:
        """Take the steps. Raises ConnectionError when the caller is gone."""
        for step in steps:
            match step:
                case Wait(seconds):
                    await _wait(seconds)
                case Head():
                    await self._head(step)
                case Send(data):
                    await self._send(data)
                case End():
                    await self._end()
                case Cut():
                    self._close()
                case Reset():
                    self._reset()
        return self._response

    async def _head(self, head: Head) -> None:
        self._response = web.StreamResponse(status=head.status, headers=head.headers)
        if head.length is not None:
            self._response.content_length = head.length
        await self._response.prepare(self._request)

    async def _send(self, data: bytes) -> None:
        if self._compressor is not None:
            data = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        await self._response.write(data)
        # A caller in the same process sees this piece before the next one is written.
        await asyncio.sleep(0)

    async def _end(self) -> None:
        await self._response.write_eof(b"" if self._compressor is None else self._compressor.flush())
        self.finished = True

    def _close(self) -> None:
        if (transport := self._request.transport) is not None:
            transport.close()

    def _reset(self) -> None:
        if (transport := self._request.transport) is not None:
            # To linger for no time at all is how a socket is told to send RST in place of FIN.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()


async def _wait(seconds: float) -> None:
    if math.isinf(seconds):
        # No timer: a test's virtual clock must find nothing to jump to.
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(seconds)
