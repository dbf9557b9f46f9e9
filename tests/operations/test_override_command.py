"""`completion-proxy override`, as the engineer on call types it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from proxy.simulator import Fault
from tests.operations.test_commands import _command
from tests.rig import rig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig import Rig

TOKEN = "the-admin-token"
HERE = platform.node()


async def said(proxy: Rig, *arguments: str, **environ: str) -> tuple[int, str]:
    command, *options = arguments
    process = await _command("override", command, "--url", proxy.app.admin_address, *options, **environ)
    printed, complained = await process.communicate()
    return process.returncode or 0, (printed + complained).decode()


KNOWN = {"COMPLETION_PROXY_ADMIN_TOKEN": TOKEN}


async def test_an_override_cannot_be_set_shown_or_cleared_by_a_command() -> None:
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        assert await said(proxy, "show") == (0, f"override   none: the circuits decide\ninstance   {HERE}\n")
        code, text = await said(
            proxy, "set", "claude", "--reason", "INC-1: empty", "--for", "1h30m", "--percent", "25", "--actor", "ann",
            **KNOWN,
        )  # fmt: skip
        assert code == 0, text
        assert text.startswith("override   claude for 25% of the callers, from api, by ann: INC-1: empty; until 20")
        assert "(in 1 h 29 min)" in text or "(in 1 h 30 min)" in text
        assert (await said(proxy, "show"))[1].startswith("override   claude for 25%")
        assert (await proxy.status())["override"]["mode"] == "claude"
        process = await _command("status", "--url", proxy.app.admin_address)
        assert b"override   claude for 25%" in (await process.communicate())[0]
        assert (await said(proxy, "clear", **KNOWN))[0] == 0
        assert (await proxy.status())["override"]["mode"] == "auto"


async def test_the_token_is_found_nowhere_but_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "admin_token").write_text(TOKEN + "\n")
    async with rig(ADMIN_TOKEN=TOKEN) as proxy:
        wish = ("set", "claude", "--reason", "a drill")
        code, text = await said(proxy, *wish)
        assert code == 1
        assert "COMPLETION_PROXY_ADMIN_TOKEN" in text
        assert (await said(proxy, *wish, COMPLETION_PROXY_ADMIN_TOKEN="wrong"))[0] == 1
        assert (await proxy.status())["override"]["mode"] == "auto"
        assert (await said(proxy, *wish, COMPLETION_PROXY_SECRETS_DIR=str(tmp_path)))[0] == 0
        assert (await said(proxy, "clear", "--token-file", str(tmp_path / "admin_token")))[0] == 0
        code, text = await said(proxy, "clear", "--token-file", str(tmp_path / "none"))
        assert (code, "cannot be read" in text) == (2, True)
        (tmp_path / "two").write_text(f"{TOKEN}\nanother-line\n")
        code, text = await said(proxy, "clear", "--token-file", str(tmp_path / "two"))
        assert (code, text) == (2, f"completion-proxy: {tmp_path / 'two'}: the token file must hold one line\n")
        code, text = await said(proxy, "clear", COMPLETION_PROXY_ADMIN_TOKEN=f"{TOKEN}\nx")
        assert (code, "COMPLETION_PROXY_ADMIN_TOKEN must be one line" in text, TOKEN in text) == (2, True, False)


async def test_who_set_an_override_is_not_known() -> None:
    async with rig() as proxy:
        assert (await said(proxy, "set", "claude", "--reason", "a drill"))[0] == 0
        assert "@" in (await proxy.status())["override"]["actor"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("set", "claude"), "--reason"),
        (("set", "gemini", "--reason", "x"), "invalid choice"),
        (("set", "claude", "--reason", "x", "--for", "soon"), "--for: 'soon' is no length of time"),
        (("set", "claude", "--reason", "x", "--for", "8d"), "--for: '8d' is not above 0 and at most 7d"),
        (("set", "claude", "--reason", "x", "--for", "0s"), "--for: '0s' is not above 0"),
        (("set", "claude", "--reason", "x", "--percent", "many"), "--percent"),
    ],
)
async def test_a_slip_on_the_command_line_is_sent(options: tuple[str, ...], named: str) -> None:
    async with rig() as proxy:
        code, text = await said(proxy, *options)
        assert code == 2
        assert named in text


async def test_a_refusal_does_not_say_why() -> None:
    async with rig(BREAKER__CONSECUTIVE_FAILURES="1") as proxy:
        proxy.vertex.fault = Fault(status=503)
        await proxy.ask()
        code, text = await said(proxy, "set", "vertex", "--reason", "x")
        assert code == 1
        assert "proven dead" in text
        assert "vertex/codestral-2 is open" in text
        assert (await said(proxy, "set", "vertex", "--reason", "x", "--force"))[0] == 0
        code, text = await said(proxy, "set", "claude", "--reason", "x", "--percent", "200")
        assert (code, "percent" in text) == (1, True)
    code, text = await said(proxy, "show")
    assert (code, "no proxy answers" in text) == (1, True)


async def test_an_override_under_a_stronger_one_is_neither_shown_nor_cleared(tmp_path: Path) -> None:
    file = tmp_path / "override"
    async with rig(OVERRIDE_FILE=str(file), JOURNAL_FILE=str(tmp_path / "journal")) as proxy:
        assert (await said(proxy, "set", "claude", "--reason", "INC-1", "--actor", "ann"))[0] == 0
        file.write_text('mode = "vertex"\nreason = "a drill"')
        await proxy.until(lambda: proxy.metric("override_mode", mode="vertex") == 1, seconds=3)
        effect, below, where = (await said(proxy, "show"))[1].splitlines()
        assert effect.startswith("override   vertex, from file: a drill")
        assert below.startswith("below it   claude, from api, by ann: INC-1; until ")
        assert where == f"instance   {HERE}"
        code, text = await said(proxy, "clear")
        assert code == 0
        effect, cleared, where = text.splitlines()
        assert effect.startswith("override   vertex, from file: a drill")
        assert cleared.startswith("cleared    claude, from api, by ann: INC-1; until ")
        assert cleared.endswith("; the one above is stronger and stays in force")
        code, text = await said(proxy, "clear")
        assert (code, "is stronger, and says vertex" in text) == (1, True)


async def test_a_restart_undoes_what_was_cleared_and_nobody_says_so(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with rig(JOURNAL_FILE=str(journal)) as proxy:
        assert "restart" not in (await said(proxy, "set", "claude", "--reason", "x"))[1]
        journal.unlink()
        journal.mkdir()
        assert "a restart may bring back what was cleared" in (await said(proxy, "clear"))[1]
    async with rig() as proxy:
        assert "this process only" in (await said(proxy, "set", "claude", "--reason", "x"))[1]
