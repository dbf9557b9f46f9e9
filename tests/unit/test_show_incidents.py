"""The draft of a post-mortem: named by what its readers would be told wrong."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.commands import incidents
from proxy.commands.incidents import _draft, _line, show_incidents

AT = "2026-11-24T03:00:{:06.3f}Z"


def incident(**fields: Any) -> dict[str, Any]:
    return {
        "id": AT.format(10), "began_at": AT.format(10), "ended_at": AT.format(30), "ended_by": "return",
        "models": ["codestral-2"], "from": "vertex", "to": "claude",
        "trigger": {"reason": "circuit_open", "evidence": {"calls": 6}, "override": None},
        "first_bad_answer_at": AT.format(9), "seconds_to_detect": 1.0, "seconds_away": 20.0, "seconds_to_return": 2.0,
        "switches": 2, "requests_repaired": 5, "requests_lost": 0, "requests_served_by_backup": 14,
        "tokens": {"input": 1, "output": 2}, **fields,
    }  # fmt: skip


def said(change: str, *, mode: str = "claude", before: str = "auto", cleared_by: str | None = None) -> dict[str, Any]:
    def one(name: str) -> dict[str, Any]:
        return {"mode": name, "source": "api", "reason": "INC-1", "actor": "ann", "expires_at": None, "percent": 40}

    entry = {"event": "override", "change": change, "override": one(mode), "before": one(before)}
    return {"at": AT.format(20), "cleared_by": cleared_by, **entry}


def draft(*entries: dict[str, Any], **fields: Any) -> str:
    return "\n".join(_draft(incident(**fields), entries))


def timeline(*entries: dict[str, Any], **fields: Any) -> list[str]:
    lines = draft(*entries, **fields).partition("## Timeline (UTC)\n")[2].partition("##")[0].splitlines()
    return [line for line in lines if line]


def test_what_happened_stands_out_of_its_turn() -> None:
    early = {"at": AT.format(1), "event": "started", "version": "1"}
    assert timeline(said("set"), early) == [
        "- 03:00:01.000 started",
        "- 03:00:09.000 first bad answer of vertex",
        "- 03:00:20.000 override to claude for 40 % of the callers set by ann: INC-1",
    ]


def test_what_happened_long_before_or_after_is_told() -> None:
    entries = [{"at": f"2026-11-24T0{hour}:00:00.000Z", "event": "started", "version": "1"} for hour in (1, 2, 4)]
    assert timeline(*entries) == ["- 03:00:09.000 first bad answer of vertex"]
    assert len(timeline(*entries, ended_at=None, ended_by=None)) == 2, "one that is not over has no end"


def test_an_override_that_was_taken_away_is_told_as_the_one_that_came() -> None:
    (_, told) = timeline(said("cleared", mode="auto", before="claude", cleared_by="bob"))
    assert told.endswith("override to claude for 40 % of the callers cleared by bob")
    (_, told) = timeline(said("expired", mode="auto", before="vertex"))
    assert told.endswith("override to vertex for 40 % of the callers expired")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Claude answered in its place. No request was lost. Traffic returned after 20 s."),
        ({"requests_lost": 1}, "1 request was lost."),
        ({"requests_lost": 3, "to": None}, "Vertex failed for codestral-2. 3 requests were lost."),
        ({"ended_at": None, "ended_by": None}, "It is not over."),
        ({"ended_by": "restart"}, "The process was restarted after 20 s, while it was still on."),
        ({"trigger": {"reason": "override", "evidence": None, "override": said("set")["override"]}},
         "codestral-2 was moved by an override."),
        ({"first_bad_answer_at": None, "seconds_to_detect": None}, "to the switch | not known |"),
    ],
)  # fmt: skip
def test_a_summary_tells_another_story(fields: dict[str, Any], words: str) -> None:
    assert words in draft(**fields)


def test_a_name_of_a_caller_writes_into_the_draft() -> None:
    text = draft(models=["x\n## Cause\nyou", "[a](http://b)", "<b>|"])
    assert "\n## Cause\nyou" not in text
    assert "[a](http://b)" not in text
    assert "<b>" not in text


def test_the_list_does_not_say_who_took_over_and_how_long_it_took() -> None:
    assert _line(incident()).startswith(
        f"{AT.format(10)}  20 s  vertex to claude (circuit_open), codestral-2: 5 repaired"
    )
    assert "still on  vertex to nobody" in _line(incident(ended_at=None, to=None))


@pytest.mark.parametrize(
    ("problems", "words"),
    [
        ([], "settings read anew and in force"),
        (["PORT: must be_a number"], "settings read anew and refused: PORT: must be\\_a number"),
    ],
)
def test_settings_that_were_refused_read_as_those_that_were_taken(problems: list[str], words: str) -> None:
    (_, told) = timeline({"at": AT.format(20), "event": "config", "problems": problems})
    assert told == f"- 03:00:20.000 {words}"


@pytest.mark.parametrize(
    "event", ["switch", "circuit", "would_trip", "probe", "override", "override_expiring", "config"]
)
@pytest.mark.parametrize("field", [{}, {"override": 5, "evidence": 5, "model": 5, "problems": 5, "change": "set"}])
def test_one_line_of_the_journal_that_was_edited_costs_the_draft(event: str, field: dict[str, Any]) -> None:
    (_, told) = timeline({"at": AT.format(20), "event": event, **field})
    assert told.startswith(f"- 03:00:20.000 {event}".replace("_", "\\_"))


def test_an_end_that_a_later_version_knows_costs_the_draft() -> None:
    assert "It ended after 20 s." in draft(ended_by="another way")


async def shown(monkeypatch: pytest.MonkeyPatch, *, markdown: bool, **fields: Any) -> str:
    async def answer(_url: str, path: str) -> dict[str, Any]:
        return {"incidents": [incident(**fields)]} if path == "/incidents" else {"entries": []}

    monkeypatch.setattr(incidents, "ask", answer)
    said: list[str] = []
    assert await show_incidents("", said.append, said.append, markdown=markdown, chosen=None) == 0
    return "".join(said)


async def test_the_list_is_full_of_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    models = ["code_gecko*"]
    assert ", ".join(models) in await shown(monkeypatch, markdown=False, models=models)
    assert "code\\_gecko\\*" in await shown(monkeypatch, markdown=True, models=models)


@pytest.mark.parametrize("markdown", [False, True])
async def test_a_name_gives_orders_to_the_terminal(monkeypatch: pytest.MonkeyPatch, markdown: bool) -> None:
    text = await shown(monkeypatch, markdown=markdown, models=["a\x1b[2Jb\u202e"], to="x\ny")
    assert "\\x1b" in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.splitlines()) == 1 or markdown
