"""The override through the admin listener, live: named by what an operator or an intruder would see go wrong."""

from __future__ import annotations

import asyncio
import json
import platform
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from proxy import events
from proxy.override import WARNING_BEFORE
from proxy.simulator import Fault
from tests.rig import TARGET, circuit_is, expected, path, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.rig import Rig

TOKEN = "the-admin-token"
SIGNED = {"Authorization": f"Bearer {TOKEN}"}
WISH = {"mode": "claude", "reason": "INC-1: empty answers", "actor": "ann"}


async def change(proxy: Rig, method: str, body: Any = None, **options: Any) -> tuple[int, Any]:
    options.setdefault("headers", SIGNED)
    options.setdefault("allow_redirects", False)
    data = {"json": body} if body is not None else {}
    async with proxy.session.request(method, proxy.app.admin_address + "/override", **data, **options) as response:
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else text


@pytest.mark.virtual_time
async def test_an_override_needs_a_restart_or_stays_when_it_is_cleared() -> None:
    async with rig(ADMIN_TOKEN=TOKEN, PROBES__TARGETS=TARGET) as proxy:
        status, override = await change(proxy, "PUT", WISH)
        assert status == 200
        assert (override["mode"], override["source"], override["reason"], override["actor"], override["percent"]) == (
            "claude", "api", "INC-1: empty answers", "ann", 100.0,
        )  # fmt: skip
        in_two_hours = datetime.now(UTC) + timedelta(hours=2)
        assert abs(datetime.fromisoformat(override["expires_at"]) - in_two_hours) < timedelta(seconds=30)
        answer = await proxy.ask()
        assert (answer.text, answer.served_by) == (expected("claude"), ("claude", "override"))
        assert override.pop("outlives_restart") is False
        assert (await change(proxy, "GET"))[1] == override
        assert (override.pop("instance"), override.pop("shadowed")) == (platform.node(), [])
        assert override == (await proxy.status())["override"]
        assert proxy.metric("override_mode", mode="claude") == 1
        assert proxy.metric("override_percent") == 100
        assert proxy.metric("override_changes_total", source="api", change="set") == 1
        status, override = await change(proxy, "DELETE", {"actor": "bob"})
        assert (status, override["mode"], override["cleared"]["mode"]) == (200, "auto", "claude")
        assert override["outlives_restart"] is True, "nothing is kept, so nothing comes back"
        assert proxy.metric("override_changes_total", source="api", change="cleared") == 1
        assert (await change(proxy, "DELETE"))[1]["cleared"] is None
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        assert proxy.metric("override_changes_total", source="api", change="cleared") == 1
        assert proxy.metric("override_percent") == 0
        told = proxy.seen(events.OverrideChanged)
        assert [(one.change, one.override.mode, one.actor) for one in told] == [
            ("set", "claude", None), ("cleared", "auto", "bob"),
        ]  # fmt: skip
        assert [entry["change"] for entry in proxy.app.journal.entries if entry["event"] == "override"] == [
            "set", "cleared",
        ]  # fmt: skip


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic " + TOKEN}, {"x-token": TOKEN}]
)
async def test_a_change_without_the_token_is_taken(headers: dict[str, str]) -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        await change(proxy, "PUT", WISH)
        before = await proxy.status()
        for method, body in (("PUT", {**WISH, "mode": "vertex"}), ("DELETE", None)):
            status, answer = await change(proxy, method, body, headers=headers)
            assert (status, answer["error"]["status"]) == (401, "UNAUTHENTICATED")
        form = {"token": "wrong", "mode": "auto"}
        status, page = await change(proxy, "POST", data=form, headers=headers)
        assert status == 401
        assert "Nothing was changed" in page
        assert (await proxy.status())["override"] == before["override"]
        assert len(proxy.seen(events.OverrideChanged)) == 1
        assert TOKEN not in json.dumps(await proxy.status())


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "foreign",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
@pytest.mark.parametrize("token", [TOKEN, ""])
async def test_a_page_of_another_site_changes_something(foreign: dict[str, str], token: str) -> None:
    async with rig(ADMIN_TOKEN=token) as proxy:
        for method, body in (("PUT", WISH), ("DELETE", None)):
            status, _ = await change(proxy, method, body, headers={**SIGNED, **foreign})
            assert status == 403
        form = {"token": TOKEN, **WISH}
        assert (await change(proxy, "POST", data=form, headers=foreign))[0] == 403
        async with proxy.session.post(proxy.app.admin_address + "/login", headers={**SIGNED, **foreign}) as response:
            assert response.status == 403
        assert not proxy.seen(events.OverrideChanged)


@pytest.mark.virtual_time
async def test_a_name_that_was_made_to_point_here_changes_something_where_no_token_is_set() -> None:
    async with rig() as proxy:
        assert (await change(proxy, "PUT", WISH, headers={"Host": "rebound.example"}))[0] == 403
        assert (await change(proxy, "PUT", WISH, headers={}))[0] == 200


@pytest.mark.virtual_time
@pytest.mark.parametrize("path", ["/override?mode=claude&reason=x", "/login", "/override/claude"])
async def test_a_link_changes_something(path: str) -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        await proxy.admin(path, headers=SIGNED)
        assert not proxy.seen(events.OverrideChanged)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mode": "auto"}, "mode"),
        ({"mode": "gemini"}, "mode"),
        ({"mode": None}, "mode"),
        ({"reason": None}, "reason"),
        ({"reason": "  \n "}, "reason"),
        ({"reason": 5}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"actor": ["ann"]}, "actor"),
        ({"reason": "a\ud800b"}, "reason"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"ttl_seconds": "2h"}, "ttl_seconds"),
        ({"ttl_seconds": 8 * 86_400}, "ttl_seconds"),
        ({"ttl_seconds": float("nan")}, "ttl_seconds"),
        ({"ttl_seconds": True}, "ttl_seconds"),
        ({"percent": 0}, "percent"),
        ({"percent": 101}, "percent"),
        ({"percent": 0.009}, "percent must be a number from 0.01 to 100"),
        ({"reason": "a\x1b[2Jb"}, "reason must be one line of text that shows; U+001B does not"),
        ({"reason": "a\nb"}, "U+000A"),
        ({"actor": "ann\u202e"}, "actor must be one line of text that shows; U+202E does not"),
        ({"actor": "a\u2028b"}, "U+2028"),
        ({"force": "yes"}, "force"),
        ({"percentage": 10}, "percentage"),
    ],
)
async def test_a_wish_that_cannot_be_meant_is_taken(wrong: dict[str, Any], named: str) -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        status, answer = await change(proxy, "PUT", {**WISH, **wrong})
        assert status == 400
        assert named in answer["error"]["message"]
        assert not proxy.seen(events.OverrideChanged)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "body", [b"", b"claude", b"[]", b'"claude"', b"\xff", b"{" + b" " * 70_000 + b"}", b"[" * 50_000]
)
async def test_a_body_that_is_none_is_taken_or_is_the_proxy_s_fault(body: bytes) -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        assert (await change(proxy, "PUT", data=body))[0] == 400


@pytest.mark.virtual_time
async def test_an_override_to_an_upstream_that_is_proven_dead_is_set_by_a_slip() -> None:
    async with rig(ADMIN_TOKEN=TOKEN, BREAKER__CONSECUTIVE_FAILURES="2") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(2):
            await proxy.ask()
        assert circuit_is(proxy, "vertex", "open")()
        wish = {"mode": "vertex", "reason": "a drill"}
        status, answer = await change(proxy, "PUT", wish)
        assert (status, answer["error"]["status"]) == (409, "ABORTED")
        for word in ("vertex/codestral-2", "open", "consecutive_failures", "--force"):
            assert word in answer["error"]["message"]
        assert not proxy.seen(events.OverrideChanged)
        assert (await change(proxy, "PUT", {**wish, "mode": "claude"}))[0] == 200
        assert (await change(proxy, "PUT", {**wish, "force": True}))[1]["mode"] == "vertex"
        # Forced is not lost: the other one is still behind it.
        assert (await proxy.ask()).served_by == ("claude", "server_error")


@pytest.mark.virtual_time
async def test_an_idle_upstream_is_dead_though_its_probes_say_up_or_well_though_they_say_down() -> None:
    settings = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "5", "BREAKER__CONSECUTIVE_FAILURES": "2"}
    async with rig(ADMIN_TOKEN=TOKEN, **settings) as proxy:
        await proxy.claude.refuse()
        half_open = circuit_is(proxy, "claude", "half_open", model="claude-haiku-5-5")
        await proxy.until(circuit_is(proxy, "claude", "open", model="claude-haiku-5-5"))
        assert (await change(proxy, "PUT", WISH))[0] == 409, "before any request, too"
        await proxy.until(half_open)
        assert (await change(proxy, "PUT", WISH))[0] == 409
        await proxy.claude.accept()
        await proxy.until(lambda: {probe["up"] for probe in proxy.app.status.snapshot()["probes"]} == {True})
        assert half_open(), "without traffic it closes never"
        assert (await change(proxy, "PUT", WISH))[0] == 200


@pytest.mark.virtual_time
async def test_a_model_that_nobody_asks_for_any_more_keeps_vertex_from_being_forced() -> None:
    async with rig(ADMIN_TOKEN=TOKEN, BREAKER__CONSECUTIVE_FAILURES="1") as proxy:
        proxy.vertex.fault = Fault(status=404)
        await proxy.ask(url=path("codestarl-2"))
        proxy.vertex.fault = None
        await proxy.until(circuit_is(proxy, "vertex", "half_open", model="codestarl-2"))
        assert (await change(proxy, "PUT", {**WISH, "mode": "vertex"}))[0] == 200


@pytest.mark.virtual_time
async def test_a_forgotten_override_stays_or_ends_without_a_warning() -> None:
    now = datetime(2026, 11, 24, 3, tzinfo=UTC)
    async with rig(lambda: now, ADMIN_TOKEN=TOKEN) as proxy:
        await change(proxy, "PUT", {**WISH, "ttl_seconds": 3_600})
        now += timedelta(minutes=54)
        await asyncio.sleep(1)
        assert not proxy.seen(events.OverrideExpiring)
        now += timedelta(minutes=1)
        await asyncio.sleep(1)
        (warning,) = proxy.seen(events.OverrideExpiring)
        assert warning.override.expires_at - now == WARNING_BEFORE
        assert (await proxy.ask()).served_by == ("claude", "override")
        now += timedelta(minutes=5)
        assert (await proxy.ask()).served_by == ("vertex", "primary"), "it ends for requests at once"
        await asyncio.sleep(1)
        assert [told.change for told in proxy.seen(events.OverrideChanged)] == ["set", "expired"]
        assert proxy.metric("override_mode", mode="auto") == 1
        assert proxy.metric("override_changes_total", source="api", change="expired") == 1
        assert len(proxy.seen(events.OverrideExpiring)) == 1
        await change(proxy, "PUT", {**WISH, "ttl_seconds": 200})
        await asyncio.sleep(1)
        assert len(proxy.seen(events.OverrideExpiring)) == 1, "who sets one for minutes knows that it ends soon"


@pytest.mark.virtual_time
async def test_a_share_moves_other_callers_each_time_or_another_share() -> None:
    async with rig(ADMIN_TOKEN=TOKEN, CLIENT_TOKENS="one,two") as proxy:
        await change(proxy, "PUT", {**WISH, "percent": 10})
        rounds = []
        for _ in range(2):
            answers = await asyncio.gather(
                *(
                    proxy.ask(headers={"x-completion-proxy-actor": f"user-{number}", "Authorization": "Bearer one"})
                    for number in range(300)
                )
            )
            rounds.append([answer.served_by[0] for answer in answers])
        assert rounds[0] == rounds[1]
        assert 15 <= rounds[0].count("claude") <= 50
        for token in ("one", "two"):
            same = {(await proxy.ask(headers={"Authorization": f"Bearer {token}"})).served_by for _ in range(8)}
            assert len(same) == 1, "without an actor the client token is the caller"


@pytest.mark.parametrize(
    ("stronger", "named"), [("environment", "COMPLETION_PROXY_OVERRIDE"), ("file", "override.txt")]
)
async def test_the_api_beats_what_is_stronger_or_seems_to(tmp_path: Path, stronger: str, named: str) -> None:
    file = tmp_path / "override.txt"
    file.write_text("vertex" if stronger == "file" else "auto")
    pinned = {"OVERRIDE": "vertex"} if stronger == "environment" else {}
    async with rig(ADMIN_TOKEN=TOKEN, OVERRIDE_FILE=str(file), **pinned) as proxy:
        for method, body in (("PUT", {**WISH, "force": True}), ("DELETE", None)):
            status, answer = await change(proxy, method, body)
            assert status == 409
            assert named in answer["error"]["message"]
        assert (await proxy.ask()).served_by == ("vertex", "override")


async def _changed(proxy: Rig, count: int) -> None:
    await proxy.until(lambda: len(proxy.seen(events.OverrideChanged)) > count, seconds=3)


async def test_a_file_that_comes_later_does_not_beat_the_api_or_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "override.txt"
    async with rig(ADMIN_TOKEN=TOKEN, OVERRIDE_FILE=str(file)) as proxy:
        await change(proxy, "PUT", WISH)
        for write, source, mode in (
            (lambda: file.write_text("vertex"), "file", "vertex"),
            (file.unlink, "api", "claude"),
        ):
            count = len(proxy.seen(events.OverrideChanged))
            write()
            await _changed(proxy, count)
            override = (await proxy.status())["override"]
            assert (override["source"], override["mode"]) == (source, mode)
            assert (await proxy.ask()).served_by == (mode, "override")


@pytest.mark.virtual_time
async def test_a_browser_without_scripts_cannot_override() -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        form = {"token": TOKEN, "mode": "claude", "reason": "INC-2", "actor": "", "ttl": "30m", "percent": "25"}
        assert (await change(proxy, "POST", data=form, headers={}))[0] == 303
        override = (await proxy.status())["override"]
        assert (override["mode"], override["percent"], override["actor"]) == ("claude", 25.0, None)
        for wrong, named in (({"ttl": "soon"}, "how long"), ({"percent": "all"}, "percent"), ({"reason": ""}, "reason"),
                             ({"mode": ""}, "mode")):  # fmt: skip
            status, page = await change(proxy, "POST", data={**form, **wrong}, headers={})
            assert status == 400
            assert named in page
        assert (await change(proxy, "POST", data={"token": TOKEN, "mode": "auto"}, headers={}))[0] == 303
        assert (await proxy.status())["override"]["mode"] == "auto"


async def test_a_change_that_a_restart_would_undo_is_told_as_kept(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=str(folder)) as proxy:
        assert (await change(proxy, "PUT", WISH))[1]["outlives_restart"] is True
        folder.unlink()
        folder.mkdir()
        assert (await change(proxy, "DELETE"))[1]["outlives_restart"] is False


@pytest.mark.virtual_time
async def test_a_body_that_comes_in_pieces_is_cut_short() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        whole = json.dumps(WISH).encode()
        yield whole[:20]
        await asyncio.sleep(0.2)
        yield whole[20:]

    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        assert (await change(proxy, "PUT", data=pieces()))[0] == 200


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("kind", "code"),
    [("multipart/form-data", 415), ("application/json", 415), ("", 415), ("text/plain", 415),
     ("application/x-www-form-urlencoded; charset=nope", 401)],
)  # fmt: skip
async def test_a_form_that_cannot_be_read_is_the_proxy_s_fault(kind: str, code: int) -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        assert (await change(proxy, "POST", data=b"mode=\xff", headers={"Content-Type": kind}))[0] == code


@pytest.mark.virtual_time
@pytest.mark.parametrize(("token", "code"), [(TOKEN, 204), ("wrong", 401), ("", 401)])
async def test_a_login_says_yes_to_a_wrong_token(token: str, code: int) -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        headers = {"Authorization": f"Bearer {token}"}
        async with proxy.session.post(proxy.app.admin_address + "/login", headers=headers) as response:
            assert response.status == code


async def test_an_override_is_lost_with_the_process_that_had_a_journal(tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal) as proxy:
        _, override = await change(proxy, "PUT", {**WISH, "percent": 40})
        for more in ("outlives_restart", "shadowed", "instance"):
            assert override.pop(more) in (True, [], platform.node())
    file = tmp_path / "override.txt"
    file.write_text("vertex")
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal, OVERRIDE_FILE=str(file)) as proxy:
        assert (await proxy.status())["override"]["source"] == "file"
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal) as proxy:
        assert (await proxy.status())["override"] == override
        assert len(proxy.seen(events.OverrideChanged)) == 1
        await change(proxy, "DELETE")
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal) as proxy:
        assert (await proxy.status())["override"]["mode"] == "auto"
        await change(proxy, "PUT", WISH)
    async with rig(lambda: datetime.now(UTC) + timedelta(hours=3), ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal) as proxy:
        assert (await proxy.status())["override"]["mode"] == "auto"
