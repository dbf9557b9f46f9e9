"""One rendering of the page for everybody who asks at about the same time.

Every event sends every reader here at once, and completions are served by the same event loop. Nobody gets a page from
before the last news that came before it asked: who asks too soon after a rendering waits for the next one.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SECONDS = 0.25
"""How old a rendering may be, and how far apart two are."""


class Shared:
    """One page, rendered at most once in `SECONDS`, whoever asks and whatever happens."""

    def __init__(self, prepare: Callable[[], Awaitable[Callable[[], str]]], news: Callable[[], int]) -> None:
        """`prepare()` gives what renders; `news()` counts what has happened that must be seen at once."""
        self._prepare = prepare
        self._news = news
        self._turn = asyncio.Lock()
        self._text = ""
        self._at = -math.inf
        self._seen = 0
        """The news that the rendering knows of."""

    async def text(self) -> str:
        """The page as it is now, or was less than `SECONDS` ago with the same news."""
        loop = asyncio.get_running_loop()
        wanted = self._news()
        async with self._turn:
            # Of those who wait for their turn the first one renders, for all of them.
            if self._seen < wanted or loop.time() - self._at >= SECONDS:
                render = await self._prepare()
                await asyncio.sleep(self._at + SECONDS - loop.time())
                self._seen = self._news()
                self._text = render()
                self._at = loop.time()
            return self._text
