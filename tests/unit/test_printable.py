"""Text of others on a terminal: named by what it could do there."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from proxy.admin.gate import error
from proxy.commands import override, status
from proxy.commands.client import NoAnswer, ask
from proxy.printable import printable, unprintable

ORDERS = "a\x1b[2J\nb\u202e\x00"
SHOWN = "a\\x1b[2J\\nb\\u202e\\x00"


@pytest.mark.parametrize(
    "plain", ["", "INC-123: Vertex returns empty completions", "für Ann, 50 %", "日本語 🚒", "a\\b"]
)
def test_plain_text_is_changed_or_refused(plain: str) -> None:
    assert printable(plain) == plain
    assert unprintable(plain) is None


def test_a_pasted_blank_is_refused_or_stays() -> None:
    assert unprintable("50\u00a0%\u2009") is None
    assert printable("50\u00a0%\u2009") == "50 % "


@pytest.mark.parametrize(
    ("sign", "name"),
    [("\x1b", "U+001B"), ("\n", "U+000A"), ("\t", "U+0009"), ("\x9b", "U+009B"), ("\u202e", "U+202E"),
     ("\u2066", "U+2066"), ("\u200b", "U+200B"), ("\u2028", "U+2028"), ("\ud800", "U+D800"), ("\U000e0041", "U+E0041")],
)  # fmt: skip
def test_an_order_to_the_terminal_passes(sign: str, name: str) -> None:
    assert unprintable(f"a{sign}b") == name
    shown = printable(f"a{sign}b")
    assert shown.isprintable()
    assert shown != "ab"
    shown.encode()


def _override(**fields: Any) -> dict[str, Any]:
    said = {"mode": "claude", "source": "api", "reason": ORDERS, "actor": ORDERS, "expires_at": None, "percent": 100}
    return {**said, **fields}


async def said(
    monkeypatch: pytest.MonkeyPatch, module: Any, answer: dict[str, Any], command: Any, **options: Any
) -> str:
    async def ask(*_: Any, **__: Any) -> dict[str, Any]:
        return answer

    monkeypatch.setattr(module, "ask", ask)
    lines: list[str] = []
    assert await command("", lines.append, lines.append, **options) == 0
    return "".join(lines)


async def test_an_override_gives_orders_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _override(shadowed=[_override()], instance=ORDERS, cleared=_override(), outlives_restart=True)
    text = await said(monkeypatch, override, answer, override.show_override)
    assert text.count(SHOWN) == 7
    lines = text.split("\n")
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)


async def test_the_status_gives_orders_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"upstream": "vertex", "model": ORDERS, "reason": "primary", "since": ""}
    answer = {
        "version": "1", "started_at": "", "override": _override(), "active": [one], "probes": [], "switches": [],
        "circuits": [{**one, "state": "closed", "calls": 1, "failure_rate": 0, "slow_rate": 0, "would_be": None,
                      "admitted_ratio": 1}],
    }  # fmt: skip
    text = await said(monkeypatch, status, answer, status.show_status, as_json=False)
    assert text.count(SHOWN) == 4
    assert len(text.split("\n")) == 5
    assert all(line.isprintable() for line in text.split("\n"))


async def test_a_refusal_gives_orders_to_the_terminal() -> None:
    async def refuse(_: Any) -> web.StreamResponse:
        return error(409, f"{ORDERS} is proven dead")

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    with pytest.raises(NoAnswer) as refused:
        await ask(f"http://127.0.0.1:{site.port}", "/override", method="PUT", body={})
    await runner.cleanup()
    assert str(refused.value) == f"refused: {SHOWN} is proven dead"
