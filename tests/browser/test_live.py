"""What keeps the page live, and what it says when it is not: tabs that nobody sees, refusals, silence, selections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from proxy.admin.page import feed
from proxy.simulator import Fault
from tests.browser.scene import CHROMIUM, browser, looking_at
from tests.rig import TARGET, Rig, load, rig

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

PROBED = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "1"}
CONNECTIONS = 6
"""That Chromium has to one host, for all tabs together."""


async def _override(proxy: Rig, mode: str) -> None:
    url = proxy.app.admin_address + "/override"
    async with proxy.session.put(url, json={"mode": mode, "reason": "INC-1"}) as response:
        assert response.status == 200


async def _headline(page: Page, text: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_contain_text(text, timeout=5_000)


async def _turn(page: Page, *, away: bool) -> None:
    """Headless, every tab is seen: let one believe that it is not, or is again."""
    hidden = "true" if away else "false"
    await page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {hidden} }});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


async def test_tabs_that_nobody_sees_starve_the_one_that_is_seen() -> None:
    async with (
        browser() as launched,
        rig() as proxy,
        looking_at(launched, proxy.app.admin_address) as (first, said),
    ):
        readers = proxy.app._feed._readers
        tabs = [first]
        while len(tabs) <= CONNECTIONS:
            await expect(tabs[-1].locator("#connection")).to_have_text("Live")
            await proxy.until(lambda: len(readers) == 1, seconds=5)
            await _turn(tabs[-1], away=True)
            await expect(tabs[-1].locator("#connection")).to_contain_text("As of ")
            await proxy.until(lambda: not readers, seconds=5)
            tabs.append(await first.context.new_page())
            await tabs[-1].goto(proxy.app.admin_address)
        await _override(proxy, "claude")
        await _headline(tabs[-1], "Override")
        await expect(first.get_by_role("heading", level=1)).to_contain_text("Ready")
        await _turn(first, away=False)
        await _headline(first, "Override")
        await expect(first.locator("#connection")).to_have_text("Live")
        await proxy.until(lambda: len(readers) == 2, seconds=5)
        assert said == []


async def test_a_feed_that_is_refused_once_is_never_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "READERS", 0)
    async with browser() as launched, rig() as proxy, looking_at(launched, proxy.app.admin_address) as (page, _):
        await _override(proxy, "claude")
        # Without the feed it is live all the same, a little later.
        await _headline(page, "Override")
        await expect(page.locator("#connection")).to_have_text("Live")
        assert not proxy.app._feed._readers
        monkeypatch.setattr(feed, "READERS", 1)
        await proxy.until(lambda: len(proxy.app._feed._readers) == 1, seconds=6)
        # What is no event is seen all the same.
        for requests in ("1 request", "2 requests"):
            await proxy.ask()
            await expect(page.locator("#timeline")).to_contain_text(f"{requests}, ")


async def test_a_proxy_that_hangs_looks_live() -> None:
    async with browser() as launched, rig() as proxy, looking_at(launched, proxy.app.admin_address) as (page, _):
        await expect(page.locator("#connection")).to_have_text("Live")
        await page.get_by_text("Force an upstream").click()
        await page.get_by_label("Reason").fill("INC-123")
        await page.route(proxy.app.admin_address + "/", lambda _: None)
        await expect(page.locator("#connection")).to_contain_text("Not live since", timeout=8_000)
        await page.route(proxy.app.admin_address + "/override", lambda _: None)
        await page.get_by_role("button", name="Set override").click()
        await expect(page.locator("#said")).to_contain_text("No answer came. Whether anything has", timeout=8_000)
        await page.unroute_all()
        await expect(page.locator("#connection")).to_have_text("Live")


async def test_what_is_selected_is_swapped_away_or_kept_until_it_lies() -> None:
    async with (
        browser() as launched,
        rig(**PROBED) as proxy,
        load(proxy),
        looking_at(launched, proxy.app.admin_address) as (page, said),
    ):
        await expect(page.locator("#circuits")).to_contain_text("Vertex · codestral-2")
        await page.evaluate("document.getSelection().selectAllChildren(document.querySelector('#circuits'))")
        selection = "document.getSelection().toString()"
        selected = await page.evaluate(selection)
        assert "Vertex · codestral-2" in selected
        proxy.vertex.fault = Fault(status=503)
        await _headline(page, "Claude serves codestral-2")
        await expect(page.locator("#connection")).to_have_text("Live, but for what you have selected")
        assert await page.evaluate(selection) == selected
        await expect(page.locator("#circuits")).not_to_contain_text("open")
        await page.evaluate("{ const now = Date.now; Date.now = () => now() + 10_000; }")
        await expect(page.locator("#circuits")).to_contain_text("open")
        await expect(page.locator("#connection")).to_have_text("Live")
        await page.evaluate("document.getSelection().removeAllRanges()")
        assert said == []


async def test_a_part_that_is_not_selected_any_more_stays_as_it_was() -> None:
    async with (
        browser() as launched,
        rig(**PROBED) as proxy,
        looking_at(launched, proxy.app.admin_address) as (page, _),
    ):
        await page.evaluate("document.getSelection().selectAllChildren(document.querySelector('#override'))")
        await asyncio.gather(_override(proxy, "claude"), _headline(page, "Override"))
        await expect(page.locator("#override")).to_contain_text("The circuits decide")
        await page.evaluate("document.getSelection().removeAllRanges()")
        await expect(page.locator("#override")).to_contain_text("INC-1")
        await expect(page.locator("#connection")).to_have_text("Live")
