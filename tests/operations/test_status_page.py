"""The page and its feed over HTTP: what a browser without scripts, a hostile name and a slow reader make of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from proxy import events
from proxy.admin.page import feed, shared
from proxy.commands.status import show_status
from proxy.settings import load_settings
from proxy.simulator import Fault
from tests.rig import TARGET, chat, circuit_is, environment, fim, path, rig

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.rig import Rig


@pytest.mark.virtual_time
async def test_a_page_without_scripts_says_nothing() -> None:
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="5", BREAKER__CONSECUTIVE_FAILURES="2") as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) >= 2)
        code, text = await proxy.admin("/")
        assert code == 200
        for words in ("All well", "Vertex serves every model", "codestral-2", "claude-haiku-5-5", "Last 15 minutes"):
            assert words in text
        assert '<noscript><meta http-equiv="refresh"' in text
        assert "refresh" not in (await proxy.admin("/?hold"))[1].partition("</head>")[0]
        proxy.vertex.fault = Fault(status=503)
        for _ in range(2):
            await proxy.ask()
        _, text = await proxy.admin("/")
        for words in (
            "Claude serves codestral-2",
            "circuit is open: 2 failures in a row",
            "data-until",
            "Vertex to Claude",
        ):
            assert words in text


@pytest.mark.virtual_time
async def test_a_model_s_name_runs_in_the_reader_s_browser() -> None:
    async with rig() as proxy:
        for name in ("%3Cscript%3Ealert(1)%3C%2Fscript%3E", "%22onload%3D%22x", "%7B%7B7*7%7D%7D"):
            await proxy.ask(fim(), url=path(name))
        for model in ("<script>alert(1)</script>", '"onload="x', "{{7*7}}", "x" * 5_000):
            proxy.app.switchboard.watch(model)
        proxy.app.desk._take_file(None)
        _, text = await proxy.admin("/")
        assert "<script>alert" not in text
        assert '"onload="' not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "{{7*7}}" in text
        assert "x" * 61 not in text


@pytest.mark.virtual_time
async def test_the_page_may_load_or_send_what_it_should_not() -> None:
    async with rig() as proxy:
        for url, kind in (("/", "text/html"), ("/status.css", "text/css"), ("/status.js", "text/javascript"),
                          ("/icon.svg", "image/svg+xml")):  # fmt: skip
            async with proxy.session.get(proxy.app.admin_address + url) as response:
                assert response.status == 200
                assert response.content_type == kind
                policy = response.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
                assert "unsafe" not in policy
                assert "frame-ancestors 'none'" in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Cache-Control"] == "no-store"
                text = await response.text()
        _, text = await proxy.admin("/")
        for forbidden in (" style=", "<style", "onclick", "http://", "https://"):
            assert forbidden not in text.replace(proxy.app.admin_address, "")


def test_serve_waits_for_the_page_s_library() -> None:
    script = "import sys, proxy.commands.serve; print('jinja2' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"


@pytest.mark.virtual_time
async def test_every_reader_has_the_page_rendered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def all_look(proxy: Rig) -> set[str]:
        return {text for _, text in await asyncio.gather(*(proxy.admin("/") for _ in range(feed.READERS)))}

    async with rig() as proxy:
        snapshot = Mock(side_effect=proxy.app.status.snapshot)
        monkeypatch.setattr(proxy.app.status, "snapshot", snapshot)
        for _ in range(2):
            (text,) = await all_look(proxy)
            assert "Ready" in text
        assert snapshot.call_count == 1
        await asyncio.sleep(shared.SECONDS)
        await all_look(proxy)
        assert snapshot.call_count == 2
        # However much happens, and however many look at each of it.
        started = asyncio.get_running_loop().time()
        for number in range(10):
            await _set_override(proxy, f"INC-{number}")
            (text,) = await all_look(proxy)
            assert f"INC-{number} (by the admin API)" in text, "what the very next look must show"
            assert "held" in (await proxy.admin("/?hold"))[1]
        assert asyncio.get_running_loop().time() - started >= 9 * shared.SECONDS
        assert snapshot.call_count == 2 + 2 * 10


@pytest.mark.virtual_time
async def test_a_reader_that_leaves_keeps_the_page_from_the_others() -> None:
    async with rig() as proxy:
        await proxy.admin("/")
        await _set_override(proxy, "INC-1")
        looks = [asyncio.create_task(proxy.admin("/")) for _ in range(3)]
        await asyncio.sleep(shared.SECONDS / 2)
        looks[0].cancel()
        _, *others = await asyncio.gather(*looks, return_exceptions=True)
        assert all("INC-1" in text for _, text in others)  # type: ignore[misc]


@pytest.mark.virtual_time
async def test_what_an_operator_gave_in_vain_is_on_no_page(tmp_path: Path) -> None:
    file = tmp_path / "override"
    file.write_text("cluade")
    journal = tmp_path / "missing" / "journal"
    now = [datetime(2026, 11, 24, 12, tzinfo=UTC)]
    given = {"OVERRIDE_FILE": str(file), "JOURNAL_FILE": str(journal)}
    async with rig(lambda: now[0], **given) as proxy:
        proxy.app.reload_failed(("COMPLETION_PROXY_PORT: cannot change while running", "another"))
        await proxy.until(lambda: bool(proxy.seen(events.JournalFailed)))
        found = {problem["event"]: problem["problems"] for problem in (await proxy.status())["problems"]}
        assert set(found) == {"override_rejected", "config_rejected", "journal_failed"}
        assert found["config_rejected"] == ["COMPLETION_PROXY_PORT: cannot change while running", "another"]
        _, text = await proxy.admin("/")
        for words in ("&#39;cluade&#39; is no mode", "cannot change while running (and 1 more)", "cannot be written"):
            assert words in text
        said: list[str] = []
        assert await show_status(proxy.app.admin_address, said.append, said.append, as_json=False) == 0
        assert sum(line.startswith("problem ") for line in "".join(said).splitlines()) == 3
        assert "config_rejected" in "".join(said)
        # Mended, each is told no more.
        journal.parent.mkdir()
        file.write_text("auto")  # which overrides nothing, as what could not be understood
        await proxy.until(lambda: bool(proxy.seen(events.OverrideFileRead)) and journal.exists())
        await proxy.app.reload(load_settings(environ=environment(proxy.vertex.url, proxy.claude.url, **given)))
        assert [problem["event"] for problem in (await proxy.status())["problems"]] == ["journal_failed"]
        now[0] += timedelta(minutes=15)
        assert (await proxy.status())["problems"] == []


@pytest.mark.virtual_time
async def test_the_backup_of_before_a_reload_is_told_of_for_ever() -> None:
    async with rig(BREAKER__OPEN_SECONDS="60") as proxy:
        await proxy.ask()
        proxy.app.switchboard.circuit("claude", "claude-haiku-5-5").trip(asyncio.get_running_loop().time())
        assert "Claude, the backup, is not ready" in (await proxy.admin("/"))[1]
        for present in ("claude-sonnet-5", "claude-haiku-5-5"):
            changed = environment(proxy.vertex.url, proxy.claude.url, BREAKER__OPEN_SECONDS="60", CLAUDE__MODEL=present)
            await proxy.app.reload(load_settings(environ=changed))
            in_use = {one["model"]: one["in_use"] for one in (await proxy.status())["circuits"]}
            assert in_use == {"codestral-2": True, "claude-haiku-5-5": False, "claude-sonnet-5": False, present: True}
            told = "Claude, the backup, is not ready" in (await proxy.admin("/"))[1]
            assert told is (present == "claude-haiku-5-5")


@pytest.mark.virtual_time
async def test_a_stream_that_broke_off_looks_served() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(cut_after_chunks=2)
        answer = await proxy.ask(chat(stream=True))
        assert answer.broken
        assert "1 request, 0 % by Vertex, 0 % by Claude, 1 lost" in (await proxy.admin("/"))[1]


async def _set_override(proxy: Rig, reason: str) -> None:
    url = proxy.app.admin_address + "/override"
    async with proxy.session.put(url, json={"mode": "claude", "reason": reason}) as response:
        assert response.status == 200


async def _connect(proxy: Rig) -> aiohttp.ClientResponse:
    return await proxy.session.get(proxy.app.admin_address + "/events")


async def _event(response: aiohttp.ClientResponse) -> tuple[str, dict[str, object]]:
    """The next event, heartbeats and the retry time passed over."""
    name = ""
    while True:
        line = (await asyncio.wait_for(response.content.readline(), 60)).decode().strip()
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            return name, json.loads(line.removeprefix("data: "))


@pytest.mark.virtual_time
async def test_the_feed_leaves_out_what_happens() -> None:
    settings = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "30", "BREAKER__CONSECUTIVE_FAILURES": "1"}
    async with rig(**settings) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) >= 2)
        reader = await _connect(proxy)
        assert reader.content_type == "text/event-stream"
        proxy.vertex.fault = Fault(status=503)
        await proxy.ask()
        async with proxy.session.put(proxy.app.admin_address + "/override", json={"mode": "claude", "reason": "INC-1"}):
            pass
        seen = [await _event(reader) for _ in range(3)]
        assert {name for name, _ in seen} == {"circuit", "switch", "override"}
        (switch,) = [entry for name, entry in seen if name == "switch"]
        assert (switch["model"], switch["to"]) == ("codestral-2", "claude")
        while (await _event(reader))[0] != "probe":
            pass
        reader.close()


@pytest.mark.virtual_time
async def test_an_answer_to_head_has_a_body_without_end() -> None:
    async with rig() as proxy, proxy.session.head(proxy.app.admin_address + "/events") as response:
        assert response.status == 405


@pytest.mark.virtual_time
async def test_an_outage_without_an_upstream_looks_served() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = proxy.claude.fault = Fault(status=503)
        for _ in range(6):
            assert (await proxy.ask()).status == 503
        assert "6 requests, 0 % by Vertex, 0 % by Claude, 6 lost" in (await proxy.admin("/"))[1]


@pytest.mark.virtual_time
async def test_silence_looks_like_a_dead_connection() -> None:
    async with rig() as proxy:
        reader = await _connect(proxy)
        lines = [await asyncio.wait_for(reader.content.readline(), 60) for _ in range(6)]
        assert lines[0] == b"retry: 1000\n"
        assert lines[2:] == [b": still here\n", b"\n"] * 2
        reader.close()


@pytest.mark.virtual_time
async def test_readers_without_end_are_let_in_or_keep_their_places() -> None:
    async with rig() as proxy:
        readers = [await _connect(proxy) for _ in range(feed.READERS)]
        refused = await _connect(proxy)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert "32 readers" in await refused.text()
        for reader in readers:
            reader.close()
        await proxy.until(lambda: not proxy.app._feed._readers)
        again = await _connect(proxy)
        assert again.status == 200
        again.close()


@pytest.mark.virtual_time
async def test_a_reader_that_does_not_read_fills_the_memory() -> None:
    async with rig() as proxy:
        reader = await _connect(proxy)
        (queue,) = proxy.app._feed._readers
        news = events.Switch(0.0, "m" * 100_000, "vertex", "claude", events.RouteReason.PRIMARY)
        for _ in range(1_000):
            proxy.app._feed(news)
        assert not proxy.app._feed._readers
        assert queue.qsize() <= 1
        reader.close()


@pytest.mark.virtual_time
async def test_a_reader_that_stalls_holds_its_place_for_ever() -> None:
    async with rig() as proxy:
        reader = await _connect(proxy)
        news = events.Switch(0.0, "m" * 4_000_000, "vertex", "claude", events.RouteReason.PRIMARY)
        for _ in range(3):
            proxy.app._feed(news)
        await proxy.until(lambda: not proxy.app._feed._readers, seconds=30)
        reader.close()


async def test_an_open_feed_keeps_the_process_from_ending() -> None:
    loop = asyncio.get_running_loop()
    async with rig(BREAKER__CONSECUTIVE_FAILURES="1") as proxy:
        reader = await _connect(proxy)
        proxy.vertex.fault = Fault(status=503)
        await proxy.ask()
        assert circuit_is(proxy, "vertex", "open")()
        started = loop.time()
        await proxy.app.stop()
        assert loop.time() - started < 0.4, "less than what stragglers are given"
        assert b"event: switch" in await reader.read()
