"""What the page says, in words and shapes: named by what a reader would take it for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy import events
from proxy.admin.page.chart import chart
from proxy.admin.page.headline import Level, findings
from proxy.admin.page.view import Page, view
from proxy.admin.page.words import age, name_of, percent
from proxy.history.timeline import Point, Timeline

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
THRESHOLDS = {"failure_rate": 0.5, "slow_rate": 0.5, "slow_call_seconds": 1.5}


def circuit(upstream: str = "vertex", model: str = "m", **fields: Any) -> dict[str, Any]:
    return {
        "upstream": upstream, "model": model, "in_use": True, "state": "closed", "reason": None,
        "since": "2026-11-24T11:59:00.000Z", "calls": 50, "failure_rate": 0.0, "slow_rate": 0.0,
        "admitted_ratio": 1.0, "spill_ratio": 0.0, "would_be": None, "tripped_on": None, "open_until": None, **fields,
    }  # fmt: skip


def active(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {
        "model": model, "upstream": "vertex", "reason": "primary", "since": "2026-11-24T11:00:00.000Z", "available": 2,
        **fields,
    }  # fmt: skip


NO_OVERRIDE = {"mode": "auto", "source": "none", "reason": None, "actor": None, "expires_at": None, "percent": 100}
MOVED: dict[str, Any] = {
    "upstream": "claude", "reason": "circuit_open", "available": 1, "since": "2026-11-24T11:58:00.000Z",
}  # fmt: skip
OPEN: dict[str, Any] = {"state": "open", "reason": "consecutive_failures", "open_until": "2026-11-24T12:00:05.000Z"}


def status(**fields: Any) -> dict[str, Any]:
    return {
        "version": "1", "started_at": "2026-11-24T09:00:00.000Z", "thresholds": THRESHOLDS, "override": NO_OVERRIDE,
        "problems": [], "circuits": [], "probes": [], "active": [active()], "switches": [], **fields,
    }  # fmt: skip


def told(lost: int = 0, lately: int = 0, **fields: Any) -> list[tuple[Level, str]]:
    return [
        (one.level, f"{one.text}. {one.detail}") for one in findings(status(**fields), "vertex", "claude", lost, lately)
    ]


def page(**fields: Any) -> Page:
    return view(status(**fields), Timeline(("vertex", "claude"), NOW.timestamp), NOW)


def test_all_well_reads_as_trouble() -> None:
    assert told() == [(Level.OK, "All well. Vertex serves every model.")]
    assert told(active=[]) == [(Level.OK, "Ready. No request has come in yet.")]


@pytest.mark.parametrize(
    ("trip", "words"),
    [
        ({"reason": "failure_rate", "failure_rate": 0.8, "calls": 50}, "80 % of 50 calls failed"),
        ({"reason": "slow_rate", "slow_rate": 0.6, "calls": 10}, "60 % of 10 calls took over 1.5 s"),
        ({"reason": "consecutive_failures", "consecutive_failures": 5}, "5 failures in a row"),
        ({"reason": "probe", "failed_probes": 3}, "3 probes in a row failed"),
        ({"reason": "trials_failed", "calls": 5, "failed": 3, "slow": 1}, "of 5 trial calls 3 failed and 1 was slow"),
        ({"reason": "trials_timed_out"}, "(trials timed out)"),
    ],
)
def test_an_outage_is_told_without_its_cause(trip: dict[str, Any], words: str) -> None:
    on = {"failed_probes": 0, **trip, "thresholds": THRESHOLDS}
    one = circuit(state="open", reason=trip["reason"], tripped_on=on)
    ((level, text),) = told(active=[active(**MOVED)], circuits=[one])
    assert level is Level.WARNING
    assert text.startswith("Claude serves m since 11:58:00 UTC. Vertex's circuit is open")
    assert words in text
    (_, backup) = told(active=[active(**MOVED)], circuits=[one, {**one, "upstream": "claude", "model": "haiku"}])
    assert backup[1].startswith("Claude, the backup, is not ready. The circuit of haiku is open")
    assert words in backup[1]


def test_nobody_left_is_told_second() -> None:
    both = [circuit(**OPEN), circuit("claude", "haiku", **OPEN)]
    found = told(3, 1, active=[active("n"), active(**{**MOVED, "available": 0})], circuits=both)
    assert [level for level, _ in found] == [Level.CRITICAL, Level.CRITICAL, Level.WARNING]
    assert "No upstream is available for m" in found[0][1]
    assert found[1][1] == "3 requests were lost in the last 15 minutes. 1 of them in the last minute."
    assert "Claude, the backup, is not ready" in found[2][1]
    assert not any("Claude serves" in text for _, text in found)


def test_what_was_lost_long_ago_hides_what_is_wrong_now() -> None:
    found = told(3, active=[active(**MOVED)], circuits=[circuit(**OPEN)])
    assert found[0][1].startswith("Claude serves m")
    assert found[1] == (
        Level.WARNING, "3 requests were lost in the last 15 minutes. None in the last minute.",
    )  # fmt: skip


def test_an_override_is_told_without_who_why_and_until_when() -> None:
    override = {
        "mode": "claude", "source": "api", "reason": "INC-1", "actor": "ann", "percent": 10,
        "expires_at": "2026-11-24T14:00:00.000Z",
    }  # fmt: skip
    ((level, text),) = told(override=override)
    assert level is Level.WARNING
    assert text == "Override: 10 % of the callers to Claude until 14:00:00 UTC. ann: INC-1 (by the admin API)"


def test_an_order_to_a_dead_upstream_reads_as_if_it_served() -> None:
    override = {
        "mode": "vertex", "source": "api", "reason": "INC-1", "actor": None, "percent": 100, "expires_at": None,
    }  # fmt: skip
    ((level, text),) = told(override=override, circuits=[circuit(**OPEN), circuit("claude", "haiku")])
    assert level is Level.WARNING
    assert text.startswith(
        "Override: everything to Vertex, whose circuit of m is not closed. INC-1 (by the admin API). Each"
    )
    assert "not closed" not in told(override=override, circuits=[circuit()])[0][1]


def test_a_backup_that_is_down_or_a_busy_upstream_reads_as_all_well() -> None:
    probe = {"upstream": "claude", "model": "haiku", "up": False, "last_result": "connect"}
    assert told(probes=[probe])[0] == (Level.WARNING, "Claude, the backup, is not ready. Probes say connect.")
    assert told(circuits=[circuit(spill_ratio=0.2)])[0][1].startswith("Vertex refuses calls of m for capacity. 20 %")


def test_a_backup_of_before_a_reload_is_not_ready() -> None:
    old = circuit("claude", "haiku", **OPEN, in_use=False, spill_ratio=0.2)
    assert told(circuits=[old, circuit("claude", "sonnet")]) == [(Level.OK, "All well. Vertex serves every model.")]
    present, earlier = page(circuits=[old, circuit("claude", "sonnet")]).circuits.shown
    assert (present.row.name, earlier.row.name) == ("Claude · sonnet", "Claude · haiku")
    assert earlier.row.extra.startswith("not used any more")
    assert "haiku" in told(circuits=[{**old, "in_use": True}])[0][1]


@pytest.mark.parametrize(
    ("event", "words", "to_do"),
    [
        ("override_rejected", "The override file is not obeyed", "Mend it, or delete it."),
        ("config_rejected", "The settings read last are not in force", "mend what is named, and reload"),
        ("journal_failed", "The journal's file fails", "Make room"),
    ],
)
def test_what_an_operator_gave_in_vain_reads_as_all_well(event: str, words: str, to_do: str) -> None:
    problem = {"event": event, "at": "2026-11-24T11:59:00.000Z", "problems": ["it is " + "wrong " * 100, "so is that"]}
    ((level, text),) = told(problems=[problem])
    assert level is Level.WARNING
    assert text.startswith(f"{words}. 11:59:00 UTC: it is wrong")
    assert "… (and 1 more). " in text
    assert to_do in text
    assert len(text) < 420
    # Who serves is told first, and the history last.
    journal = {**problem, "event": "journal_failed"}
    assert told(problems=[journal, problem], active=[active(**MOVED)])[1] == (level, text)


def test_many_models_do_not_fit_or_hide_the_worst() -> None:
    models = [active(f"m{number}") for number in range(60)] + [active("bad", **MOVED), active("worse", available=0)]
    circuits = [circuit(model=f"m{number}") for number in range(60)] + [circuit(model="bad", **OPEN)]
    shown = page(active=models, circuits=circuits)
    assert [row.name for row in shown.models.shown[:2]] == ["worse", "bad"]
    assert (len(shown.models.shown), shown.models.hidden) == (6, 56)
    assert shown.circuits.shown[0].row.name == "Vertex · bad"
    assert shown.circuits.shown[0].row.until == 1795521605000
    assert "and 2 more models" in told(active=[active(f"m{number}", **MOVED) for number in range(3)])[0][1]


def test_an_open_circuit_shows_what_it_counts_now() -> None:
    on = {"calls": 65, "failure_rate": 0.08, "slow_rate": 0.0, "consecutive_failures": 5}
    (row,) = page(circuits=[circuit(**OPEN, calls=0, tripped_on=on)]).circuits.shown
    assert row.gauges[0].text == "8 % of 65 at the trip, threshold 50 %"
    assert row.row.text == "5 failures in a row, since 11:59:00 UTC (1 min ago)"
    (row,) = page(circuits=[circuit(calls=1, slow_rate=1.0)]).circuits.shown
    assert [(gauge.text, gauge.over) for gauge in row.gauges] == [
        ("0 % of 1 call, threshold 50 %", False), ("100 % of 1 call, threshold 50 %", True),
    ]  # fmt: skip


def test_a_circuit_that_probes_opened_rests_on_no_calls() -> None:
    on = {"calls": 0, "failure_rate": 0.0, "slow_rate": 0.0, "failed_probes": 3}
    (row,) = page(circuits=[circuit(**{**OPEN, "reason": "probe"}, calls=0, tripped_on=on)]).circuits.shown
    assert row.row.text == "3 probes in a row failed, since 11:59:00 UTC (1 min ago)"
    assert row.gauges == []
    (row,) = page(circuits=[circuit(state="half_open", reason="probe", calls=0)]).circuits.shown
    assert row.row.text.startswith("failed probes, since")
    assert row.gauges[0].text.startswith("0 % of 0 calls")


def test_a_ramp_a_throttle_or_a_trial_of_thresholds_is_not_seen() -> None:
    for fields, words in (
        ({"admitted_ratio": 0.4}, "lets 40 % pass"),
        ({"spill_ratio": 0.001}, "under 1 % not sent, for refusals (429)"),
        ({"would_be": "half_open"}, "observed only: would be half-open"),
    ):
        (row,) = page(circuits=[circuit(**fields)]).circuits.shown
        assert row.row.extra == words


def test_a_probe_forgets_its_last_failure() -> None:
    failure = {"at": "2026-11-24T11:30:00.000Z", "result": "server_error", "detail": "503 UNAVAILABLE " + "x" * 500}
    probe = {
        "upstream": "vertex", "model": "m", "up": True, "last_result": "ok", "last_at": "2026-11-24T11:59:58.000Z",
        "duration_seconds": 0.05, "last_failure": failure,
    }  # fmt: skip
    (row,) = page(probes=[probe]).probes.shown
    assert (row.badge, row.text) == ("up", "ok in 50 ms, 2 s ago")
    assert row.extra.startswith("last failure 11:30:00 UTC: server_error (503 UNAVAILABLE")
    assert len(row.extra) < 200
    # One that is the last of all is told once.
    failing = {**probe, "up": False, "last_result": "server_error", "last_at": failure["at"]}
    (row,) = page(probes=[failing]).probes.shown
    assert row.text.startswith("server_error in 50 ms")
    assert row.extra.startswith("503 UNAVAILABLE xxx")
    assert len(row.extra) == 120


def test_a_name_of_a_caller_breaks_the_page() -> None:
    assert len(name_of("x" * 10_000)) == 60
    assert (
        name_of("a\u202eb\nc\x00") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    )


def test_a_small_share_reads_as_none_and_an_age_as_another() -> None:
    assert [percent(share) for share in (0, 0.001, 0.5, 1)] == ["0 %", "under 1 %", "50 %", "100 %"]
    assert age("2026-11-24T12:00:00.000Z", NOW) == "just now"
    assert age("2026-11-24T10:59:00.000Z", NOW) == "1 h ago"
    assert age("2026-11-24T12:00:09.000Z", NOW - timedelta(seconds=5)) == "just now"


def points(*served: tuple[int, int, int], p95: float | None = None) -> list[Point]:
    return [
        Point(1_000 + 5.0 * x, {"vertex": vertex, "claude": claude}, lost, p95, p95)
        for x, (vertex, claude, lost) in enumerate(served)
    ]


def test_shares_are_drawn_wrongly_or_where_there_was_no_traffic() -> None:
    drawn = chart(points((9, 0, 0), (9, 0, 0), (0, 0, 0), (1, 2, 1), (0, 5, 0)), ("vertex", "claude"), 1.5, [])
    assert {area.name: area.path for area in drawn.areas} == {
        "vertex": "M0 100H2V0H0ZM3 100H4V75H3Z", "claude": "M3 75H4V25H3ZM4 100H5V0H4Z", "lost": "M3 25H4V0H3Z",
    }  # fmt: skip


def test_a_latency_is_drawn_over_the_edge_or_across_a_gap() -> None:
    line = [*points((1, 0, 0), (1, 0, 0), p95=1.0), *points((0, 0, 0)), *points((1, 0, 0), p95=7.0)]
    drawn = chart(line, ("vertex", "claude"), 1.5, [1_000, 1_007.5])
    assert drawn.top_seconds == 10
    assert drawn.p95 == "M0 90H1V90H2M3 30H4"
    assert (drawn.slow_y, drawn.marks) == (85.0, [0, 1.5])
    assert chart(points((1, 0, 0)), ("vertex", "claude"), 1.5, []).top_seconds == 2


def test_the_timeline_has_no_words_for_who_cannot_see_it() -> None:
    timeline = Timeline(("vertex", "claude"), NOW.timestamp)
    assert view(status(), timeline, NOW).chart_text == "No request in the last 15 minutes."
    for upstream in ("vertex", "claude", "claude"):
        timeline(events.RequestEnded(upstream, 200, 0.1))
    timeline(events.RequestLost("m", "connect"))
    assert view(status(), timeline, NOW).chart_text == (
        "4 requests, 25 % by Vertex, 50 % by Claude, 1 lost; 0 switches."
    )
