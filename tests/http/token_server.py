"""A token server on loopback, virtual time, and real google-auth credentials between them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from aiohttp import web

from proxy.upstreams.credentials import SCOPE, AdcCredentials, GoogleCredentials

LIFE = 3600
"""Of a token, in seconds."""


class TokenServer:
    """Hands out token-1, token-2 …; can refuse, and can hang until told otherwise."""

    def __init__(self) -> None:
        self.requests = 0
        self.life = LIFE
        self.error: dict[str, str] | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()

    async def request(self) -> None:
        """Wait for the next one."""
        async with asyncio.timeout(10):
            await self.arrived.wait()
        self.arrived.clear()

    async def handle(self, request: web.Request) -> web.Response:
        self.requests += 1
        number = self.requests
        form = await request.post()
        assert "assertion" in form
        self.arrived.set()
        await self.open.wait()
        if self.error is not None:
            return web.json_response(self.error, status=400)
        return web.json_response({"access_token": f"token-{number}", "expires_in": self.life, "token_type": "Bearer"})


class Time:
    """A monotonic clock and a sleep that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asleep = asyncio.Event()
        self.seconds = 0.0
        self._wake = asyncio.Event()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.seconds = seconds
        self.asleep.set()
        self._wake.clear()
        await self._wake.wait()

    async def settled(self) -> float:
        """Wait until an attempt is over and the next one is due; in how many seconds."""
        async with asyncio.timeout(10):
            await self.asleep.wait()
        return self.seconds

    async def pass_by(self, seconds: float) -> float:
        """Let the pause end that many seconds later, and the attempt after it; when the next one is due."""
        await self.let_pass(seconds)
        return await self.settled()

    async def let_pass(self, seconds: float) -> None:
        """Let the pause end that many seconds later."""
        await self.settled()
        self.now += seconds
        self.asleep.clear()
        self._wake.set()


class Bench:
    """Credentials, their token server, their time, and what they reported."""

    def __init__(self, info: dict[str, str], server: TokenServer) -> None:
        self.info = info
        self.server = server
        self.time = Time()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.loads = 0
        self.credentials = self.make()

    def make(self, **options: Any) -> AdcCredentials:
        return AdcCredentials(
            **{
                "loader": self.load,
                "clock": self.time.clock,
                "sleep": self.time.sleep,
                "on_event": lambda name, **fields: self.events.append((name, fields)),
                **options,
            }
        )

    def load(self) -> GoogleCredentials:
        from google.oauth2 import service_account

        self.loads += 1
        assert threading.current_thread() is not threading.main_thread()
        google: GoogleCredentials = service_account.Credentials.from_service_account_info(self.info, scopes=[SCOPE])
        return google

    async def token(self) -> str | None:
        async with asyncio.timeout(10):
            return await self.credentials.authorization("Bearer of the caller's")
