"""What is read of a change, and of whom, before anything is; and an override that a stronger one shadows."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy import events
from tests.operations.test_override_api import SIGNED, TOKEN, WISH, change
from tests.rig import rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.virtual_time
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP", "gzip, gzip", "unheard-of"])
@pytest.mark.parametrize("body", [b"neither", gzip.compress(json.dumps(WISH).encode())[:-9], b"\x1f\x8b" * 50_000])
async def test_a_body_in_broken_wrapping_is_the_proxy_s_fault(
    method: str, coding: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        headers = {**SIGNED, **FORM, "Content-Encoding": coding}
        status, _ = await change(proxy, method, data=body, headers=headers, compress=False)
        assert status == 415
        assert not proxy.seen(events.OverrideChanged)
        assert not caplog.records
        assert (await change(proxy, "PUT", WISH))[0] == 200, "on the same connection, too"


class Endless:
    """A body that does not end."""

    def __init__(self) -> None:
        self.sent = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            self.sent += 1
            yield b"mode=claude&" * 1_000
            await asyncio.sleep(0.01)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("foreign", "code"),
    [({"Origin": "http://evil.example"}, 403), ({"Host": "rebound.example"}, 403),
     ({"Sec-Fetch-Site": "same-site"}, 403), ({"Content-Type": "multipart/form-data; boundary=x"}, 415)],
)  # fmt: skip
async def test_the_form_of_a_stranger_is_read(foreign: dict[str, str], code: int) -> None:
    """Answered before the body has come: what is not read cannot fill the memory."""
    async with rig() as proxy:
        body = Endless()
        async with asyncio.timeout(5):
            status, page = await change(proxy, "POST", data=body.pieces(), headers={**FORM, **foreign})
        assert status == code
        assert "Nothing was changed" in page


@pytest.mark.virtual_time
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_a_body_without_end_is_read_to_its_end(method: str) -> None:
    async with rig() as proxy:
        body = Endless()
        async with asyncio.timeout(5):
            status, answer = await change(proxy, method, data=body.pieces(), headers=FORM)
        assert status == 400
        assert "too large" in str(answer)


@pytest.mark.virtual_time
async def test_a_form_says_something_else_than_it_shows() -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        form = {"token": TOKEN, "mode": "claude", "reason": "INC-2"}
        for wrong, named in (
            ({"reason": "a\x1b[2J"}, "reason must be one line"),
            ({"actor": "\u202eann"}, "actor must be one line"),
            ({"ttl": "8d"}, "for how long: &#x27;8d&#x27; is not above 0 and at most 7d"),
            ({"percent": "0.001"}, "percent must be a number from 0.01 to 100"),
        ):
            status, page = await change(proxy, "POST", data={**form, **wrong}, headers={})
            assert (status, named in page) == (400, True), page
        many: Any = [("token", TOKEN), *((f"field{number}", "x") for number in range(60))]
        assert "too many fields" in (await change(proxy, "POST", data=many, headers={}))[1]
        assert not proxy.seen(events.OverrideChanged)
        status, _ = await change(proxy, "POST", data={**form, "reason": "für\u00a0Ann, 50 % & mehr"}, headers={})
        assert status == 303
        assert (await proxy.status())["override"]["reason"] == "für Ann, 50 % & mehr"


@pytest.mark.parametrize("stronger", ["file", "environment"])
async def test_an_override_under_a_stronger_one_cannot_be_seen_or_cleared(tmp_path: Path, stronger: str) -> None:
    journal, file = str(tmp_path / "journal"), tmp_path / "override.txt"
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal) as proxy:
        assert (await change(proxy, "PUT", WISH))[0] == 200
    file.write_text("vertex")
    pinned = {"OVERRIDE": "vertex"} if stronger == "environment" else {}
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal, OVERRIDE_FILE=str(file), **pinned) as proxy:
        _, shown = await change(proxy, "GET")
        assert (shown["mode"], shown["source"]) == ("vertex", stronger)
        assert [one["source"] for one in shown["shadowed"]] == ["file", "api"][stronger == "file" :]
        assert (shown["shadowed"][-1]["mode"], shown["shadowed"][-1]["reason"]) == ("claude", WISH["reason"])
        count = len(proxy.seen(events.OverrideChanged))
        status, answer = await change(proxy, "DELETE", {"actor": "bob"})
        assert (status, answer["mode"], answer["source"]) == (200, "vertex", stronger)
        assert (answer["cleared"]["mode"], answer["cleared"]["actor"]) == ("claude", "ann")
        assert answer["outlives_restart"] is True
        assert "api" not in [one["source"] for one in answer["shadowed"]]
        (told,) = proxy.seen(events.OverrideChanged)[count:]
        assert (told.change, told.before.source, told.actor, told.override.source) == (
            "cleared",
            "api",
            "bob",
            stronger,
        )
        assert proxy.metric("override_changes_total", source="api", change="cleared") == 1
        assert (await proxy.ask()).served_by == ("vertex", "override")
        assert (await change(proxy, "DELETE"))[0] == 409, "there is nothing of the API's any more"
    async with rig(ADMIN_TOKEN=TOKEN, JOURNAL_FILE=journal) as proxy:
        assert (await proxy.status())["override"]["mode"] == "auto"
        assert not proxy.seen(events.OverrideChanged)
