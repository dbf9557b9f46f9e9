"""A proxy with a past, and a browser to look at it."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright

from health.outcome import OK
from proxy import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from playwright.async_api import Browser, Page

    from proxy.history.timeline import Timeline

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARTEFACTS = Path(__file__).parent.parent.parent / ".artefacts"
"""Where the screenshots go; not a part of the repository."""


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    # Chromium's sandbox cannot be had by root, as whom containers run tests.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield launched
        finally:
            await launched.close()


@asynccontextmanager
async def looking_at(
    launched: Browser, url: str, *, width: int = 1280, scheme: str = "light", scripts: bool = True
) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page at `url`, and everything that its console says."""
    context = await launched.new_context(
        viewport={"width": width, "height": 800 if width > 500 else 844},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
    )
    page = await context.new_page()
    page.set_default_timeout(10_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        await page.goto(url)
        yield page, said
    finally:
        await context.close()


def remember(timeline: Timeline, now: float) -> None:
    """Give a timeline that is empty a past: a quarter of an hour with an outage of three minutes in it."""
    draw = random.Random(11)
    real: Callable[[], float] = timeline._wall_clock
    for back in range(179, 0, -1):
        at = now - 5 * back
        timeline._wall_clock = lambda at=at: at  # type: ignore[misc]
        away = 60 < back < 95
        for _ in range(draw.randint(20, 30)):
            upstream = "claude" if away and (back < 93 or draw.random() < 0.5) else "vertex"
            usual = 0.2 if upstream == "vertex" else 0.33
            slow = 4 if 93 <= back < 95 else 1
            timeline(events.RequestEnded(upstream, 200, 0.3))
            timeline(events.AttemptEnded(upstream, "codestral-2", OK, usual * slow * draw.lognormvariate(0, 0.35)))
        if back in (94, 60):
            here, there = ("vertex", "claude") if back == 94 else ("claude", "vertex")
            timeline(events.Switch(at, "codestral-2", here, there, events.RouteReason.CIRCUIT_OPEN))
    timeline._wall_clock = real
