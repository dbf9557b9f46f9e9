"""The page as an engineer on call has it: in a real browser, against a live proxy, in real time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from proxy.simulator import Fault
from tests.browser.scene import ARTEFACTS, CHROMIUM, browser, looking_at, remember
from tests.rig import TARGET, Rig, load, rig

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

TOKEN = "the-admin-token"
SETTINGS = {
    "ADMIN_TOKEN": TOKEN,
    "PROBES__TARGETS": TARGET,
    "PROBES__INTERVAL_SECONDS": "1",
    "BREAKER__OPEN_SECONDS": "1",
    "BREAKER__MAX_OPEN_SECONDS": "2",
    "BREAKER__RAMP_SECONDS": "0",
}
SLOW_TO_RETURN = {**SETTINGS, "BREAKER__OPEN_SECONDS": "60", "BREAKER__MAX_OPEN_SECONDS": "60"}


async def _headline(page: Page, text: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_contain_text(text, timeout=5_000)


async def _open_form(page: Page, token: str = TOKEN) -> None:
    await page.get_by_text("Force an upstream").click()
    await page.get_by_label("Admin token").fill(token)
    await page.get_by_role("button", name="Log in").click()


async def test_an_outage_needs_a_reload_to_be_seen() -> None:
    async with (
        browser() as launched,
        rig(**SETTINGS) as proxy,
        load(proxy),
        looking_at(launched, proxy.app.admin_address) as (page, said),
    ):
        await _headline(page, "All well")
        await page.evaluate("window.same = true")
        proxy.vertex.fault = Fault(status=503)
        await _headline(page, "Claude serves codestral-2")
        await expect(page.get_by_role("status").filter(has_text="Claude serves")).to_have_count(1)
        await expect(page.locator("#circuits .countdown")).to_contain_text("retries in")
        await expect(page.locator("#switches")).to_contain_text("Vertex to Claude: ")
        await expect(page.locator("#probes")).to_contain_text("503 UNAVAILABLE")
        proxy.vertex.fault = None
        await _headline(page, "All well")
        await expect(page.locator("#probes")).to_contain_text("last failure")
        await expect(page.locator("#switches")).to_contain_text("Claude to Vertex: ")
        assert await page.evaluate("window.same") is True
        assert await page.title() == "All well · completion-proxy"
        assert said == []


async def test_an_override_set_in_the_form_moves_nothing_or_never_ends() -> None:
    async with (
        browser() as launched,
        rig(**SETTINGS) as proxy,
        looking_at(launched, proxy.app.admin_address) as (page, said),
    ):
        await proxy.ask()
        await _open_form(page)
        await page.get_by_label("Reason").fill("INC-123: a drill")
        await page.get_by_label("Ends after").fill("3s")
        await page.get_by_role("textbox", name="Who").fill("ann")
        await page.get_by_role("button", name="Set override").click()
        await expect(page.locator("#said")).to_have_text(
            "The override is set. A restart ends it: it is in no journal file."
        )
        assert (await proxy.ask()).served_by == ("claude", "override")
        await _headline(page, "Override: everything to Claude until")
        await expect(page.locator("#override")).to_contain_text("ann, by the admin API: INC-123: a drill")
        await expect(page.locator("#override [data-until]")).to_contain_text("in ")
        await _headline(page, "All well")
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        # What was filled in is still there for the next time.
        await expect(page.get_by_label("Reason")).to_have_value("INC-123: a drill")
        await page.get_by_label("Ends after").fill("1h")
        await page.get_by_role("button", name="Set override").click()
        await _headline(page, "Override")
        await page.get_by_role("button", name="Release").click()
        await expect(page.locator("#said")).to_have_text("The override is released.")
        await _headline(page, "All well")
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        assert said == []


async def test_a_wrong_token_changes_something_or_the_right_one_is_kept() -> None:
    async with (
        browser() as launched,
        rig(**SETTINGS) as proxy,
        looking_at(launched, proxy.app.admin_address) as (page, _),
    ):
        await _open_form(page, "wrong")
        await expect(page.locator("#said")).to_have_text("the admin token is not known")
        await expect(page.get_by_role("button", name="Set override")).to_be_hidden()
        await page.get_by_label("Admin token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Reason")).to_be_focused()
        kept = await page.evaluate(
            "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
            " + document.documentElement.outerHTML + [...document.querySelectorAll('input')].map((one) => one.value)"
        )
        assert TOKEN not in kept
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("button", name="Set override")).to_be_hidden()
        assert (await proxy.status())["override"]["mode"] == "auto"
        await page.reload()
        await page.get_by_text("Force an upstream").click()
        await expect(page.get_by_label("Admin token")).to_be_visible()


async def test_a_dead_upstream_is_forced_by_a_slip_or_cannot_be_forced_at_all() -> None:
    async with browser() as launched, rig(**SLOW_TO_RETURN) as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(6):
            await proxy.ask()
        async with looking_at(launched, proxy.app.admin_address) as (page, _):
            await _open_form(page)
            await page.get_by_role("radio", name="Vertex").check()
            await page.get_by_label("Reason").fill("I know better")
            await expect(page.get_by_label("even so")).to_be_hidden()
            await page.get_by_role("button", name="Set override").click()
            await expect(page.locator("#said")).to_contain_text("vertex is proven dead")
            assert (await proxy.status())["override"]["mode"] == "auto"
            await page.get_by_label("even so").check()
            await page.get_by_role("button", name="Set override").click()
            await _headline(page, "Override: everything to Vertex")


async def test_the_keyboard_alone_is_not_enough() -> None:
    async with (
        browser() as launched,
        rig(**SETTINGS) as proxy,
        looking_at(launched, proxy.app.admin_address) as (page, _),
    ):
        press, typed = page.keyboard.press, page.keyboard.type
        await press("Tab")
        await press("Enter")
        await press("Tab")
        await typed(TOKEN)
        await press("Enter")
        await expect(page.get_by_label("Reason")).to_be_focused()
        await typed("by keys alone")
        await press("Enter")
        await _headline(page, "Override: everything to Claude")
        await press("Escape")
        release = page.get_by_role("button", name="Release")
        await page.evaluate("document.activeElement.blur()")
        for _ in range(15):
            await press("Tab")
            if await release.evaluate("(one) => one === document.activeElement"):
                break
        await press("Enter")
        await _headline(page, "All well")


async def test_a_page_that_is_not_live_looks_live() -> None:
    async with browser() as launched:
        async with rig(**SETTINGS) as proxy:
            address = proxy.app.admin_address
            context = looking_at(launched, address)
            page, _ = await context.__aenter__()
            connection = page.locator("#connection")
            await expect(connection).to_have_text("Live")
        await expect(connection).to_contain_text("Not live since")
        port = address.rpartition(":")[2]
        async with rig(**{**SETTINGS, "ADMIN_PORT": port}):
            await expect(connection).to_have_text("Live")
        await context.__aexit__(None, None, None)


async def test_without_scripts_nothing_can_be_set() -> None:
    async with browser() as launched, rig(**SETTINGS) as proxy:
        await proxy.ask()
        async with looking_at(launched, proxy.app.admin_address + "/?hold", scripts=False) as (page, _):
            await _headline(page, "All well")
            await page.get_by_text("Force an upstream").click()
            form = page.locator("form#set")
            await form.get_by_label("Reason").fill("no scripts")
            await form.get_by_label("Admin token").fill("wrong")
            await form.get_by_role("button", name="Set override").click()
            await expect(page.get_by_role("heading")).to_have_text("Nothing was changed")
            assert (await proxy.status())["override"]["mode"] == "auto"
            await page.go_back()
            await page.get_by_text("Force an upstream").click()
            await form.get_by_label("Reason").fill("no scripts")
            await form.get_by_label("Admin token").fill(TOKEN)
            await form.get_by_role("button", name="Set override").click()
            await _headline(page, "Override: everything to Claude")


async def _violations(page: Page) -> list[Any]:
    found = await Axe().run(page)
    return [(one["id"], [node["target"] for node in one["nodes"]]) for one in found.response["violations"]]


async def _outage(proxy: Rig) -> None:
    proxy.vertex.fault = Fault(status=503)
    for _ in range(8):
        await proxy.ask()
    # The probe's word is on the page, too.
    await proxy.until(lambda: any(probe["up"] is False for probe in proxy.app.status.snapshot()["probes"]), seconds=10)


async def _nobody_left(proxy: Rig) -> None:
    """The worst that a reader may see: a dead backup, too, under an override, and settings that were not taken."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    wish = {"mode": "claude", "reason": "INC-123: empty answers from Vertex", "actor": "ann", "percent": 50}
    async with proxy.session.put(proxy.app.admin_address + "/override", json=wish, headers=headers) as response:
        assert response.status == 200
    await proxy.claude.refuse()
    await asyncio.gather(*(proxy.ask() for _ in range(8)))
    await proxy.until(lambda: not any(probe["up"] for probe in proxy.app.status.snapshot()["probes"]), seconds=10)
    proxy.app.reload_failed(("COMPLETION_PROXY_PORT: cannot change while running; restart, or take the change back",))


async def test_axe_finds_something_or_the_page_is_wider_than_its_window() -> None:
    """Every look of the page, which is kept as a picture, too."""
    ARTEFACTS.mkdir(exist_ok=True)
    async with browser() as launched, rig(**SLOW_TO_RETURN) as proxy:
        remember(proxy.app.timeline, time.time())
        await asyncio.gather(*(proxy.ask() for _ in range(20)))
        for scene in ("healthy", "outage", "nobody"):
            if scene == "outage":
                await _outage(proxy)
            elif scene == "nobody":
                await _nobody_left(proxy)
            await asyncio.gather(
                *(_look(launched, proxy, scene, width, scheme) for width in (1280, 390) for scheme in ("light", "dark"))
            )


async def _look(launched: Any, proxy: Rig, scene: str, width: int, scheme: str) -> None:
    async with looking_at(launched, proxy.app.admin_address, width=width, scheme=scheme) as (page, said):
        await expect(page.locator("#connection")).to_have_text("Live")
        await page.screenshot(path=ARTEFACTS / f"{scene}-{width}-{scheme}.png", full_page=True)
        assert await _violations(page) == []
        overflow = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0
        if width == 1280:
            assert await page.evaluate("document.documentElement.scrollHeight") <= 800, "one screen"
        await _open_form(page)
        await expect(page.get_by_label("Reason")).to_be_focused()
        assert await _violations(page) == []
        assert said == []
