"""The rules as files: that Prometheus takes them, that they fire when they should, and that each leads to its help."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.operations.queries import PROMETHEUS, ROOT, RULE_FILES, alerts, labels_of, recordings

if TYPE_CHECKING:
    from pathlib import Path

PROMTOOL = shutil.which("promtool")
CASES = tuple(sorted((PROMETHEUS / "tests").glob("*.yml")))
RUNBOOK = ROOT / "docs" / "runbook.md"

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")

SEVERITIES = {
    "NoUpstreamAvailable": "page",
    "RequestsLost": "page",
    "PrimaryCircuitOpen": "ticket",
    "Flapping": "ticket",
    "BackupNotReady": "ticket",
    "OverrideLeftOn": "ticket",
    "ProbesStale": "ticket",
    "ThrottledByVertex": "ticket",
    "ConfigReloadFailed": "ticket",
    "JournalNotWritten": "ticket",
}


def _promtool(*arguments: str | Path) -> None:
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _sections() -> dict[str, str]:
    """The runbook's sections by the anchors that their headings get, each up to the next heading of its rank."""
    parts = re.split(r"^##+ (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in parts[1::2]]
    assert len(set(anchors)) == len(anchors)
    return dict(zip(anchors, parts[2::2], strict=True))


def _expectations() -> list[dict[str, Any]]:
    groups = [group for file in CASES for group in yaml.safe_load(file.read_text())["tests"]]
    return [case for group in groups for case in group.get("alert_rule_test", ())]


@needs_promtool
def test_prometheus_refuses_its_configuration() -> None:
    _promtool("check", "config", PROMETHEUS / "prometheus.yml")
    _promtool("check", "rules", *RULE_FILES)


@needs_promtool
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_an_alert_fires_when_it_should_not_or_does_not_when_it_should(file: Path) -> None:
    _promtool("test", "rules", file)


def test_the_configuration_leaves_out_a_file_or_the_proxy() -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert configuration["rule_files"] == [file.name for file in RULE_FILES]
    (job,) = configuration["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["completion-proxy:8081"]}]


@pytest.mark.parametrize("name", [*alerts(), *recordings()])
def test_a_rule_asks_for_what_is_not_exported(name: str) -> None:
    rule = (alerts() | recordings())[name]
    labels = labels_of(rule["expr"])
    # Each is a sum over replicas, but never over two deployments.
    assert labels >= {"namespace", "job"}
    assert "instance" not in labels
    for text in rule.get("annotations", {}).values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels


@pytest.mark.parametrize("name", list(recordings()))
def test_a_recording_rule_is_named_by_other_labels_than_it_has(name: str) -> None:
    level, metric, _ = name.split(":")
    assert set(level.split("_")) == labels_of(recordings()[name]["expr"]) - {"namespace"}
    assert metric.startswith("completion_proxy_")


def test_the_wrong_alerts_wake_somebody() -> None:
    assert {name: rule["labels"] for name, rule in alerts().items()} == {
        name: {"severity": severity} for name, severity in SEVERITIES.items()
    }


@pytest.mark.parametrize("name", list(SEVERITIES))
def test_an_alert_does_not_say_what_is_wrong_by_how_much_and_where_help_is(name: str) -> None:
    annotations = alerts()[name]["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert "$value" in annotations["description"]
    assert len(annotations["summary"]) < 80
    assert annotations["runbook_url"] == f"docs/runbook.md#{name.lower()}"


@pytest.mark.parametrize("name", list(SEVERITIES))
def test_an_alert_has_no_case_in_which_it_fires_or_none_in_which_it_does_not(name: str) -> None:
    expected = [case["exp_alerts"] for case in _expectations() if case["alertname"] == name]
    assert any(expected)
    assert not all(expected)


@pytest.mark.parametrize("name", list(SEVERITIES))
def test_the_runbook_has_no_help_for_an_alert(name: str) -> None:
    section = _sections()[name.lower()]
    for part in ("It means", "Look", "Do"):
        assert f"**{part}" in section


def test_the_runbook_leads_nowhere() -> None:
    linked = re.findall(r"\]\(#([\w-]+)\)", RUNBOOK.read_text())
    assert set(linked) <= set(_sections())
    assert {name.lower() for name in SEVERITIES} <= set(linked)


@pytest.mark.parametrize("name", list(SEVERITIES))
def test_a_page_comes_late_or_a_ticket_at_once(name: str) -> None:
    held = alerts()[name].get("for", "0s")
    if SEVERITIES[name] == "page":
        assert held == "1m"
    else:
        # Those that look back a quarter of an hour need no waiting.
        assert held in {"5m", "1h"} or "[15m]" in alerts()[name]["expr"]
