"""The runbook's commands, settings and log events: what is copied at night must exist."""

from __future__ import annotations

import re
import shlex

import pytest

from proxy.cli import _parser
from proxy.settings import PREFIX, describe
from tests.operations.queries import ROOT, dashboard, panels

TEXT = (ROOT / "docs" / "runbook.md").read_text()
CODE = "".join(file.read_text() for file in sorted((ROOT / "proxy").glob("*.py")))

COMMANDS = sorted(set(re.findall(r"completion-proxy ((?:check|incidents|override|serve|status)\b[^`\n|]*)", TEXT)))
EVENTS = sorted(
    {name for names in re.findall(r'"event": "\(?([\w|]+)', TEXT) for name in names.split("|")}
    | set(re.findall(r"^   \| `(\w+)`", TEXT, flags=re.MULTILINE))
)
SETTINGS = sorted(set(re.findall(r"COMPLETION_PROXY_(\w+)", TEXT)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_runbook_does_not_exist(command: str) -> None:
    assert callable(_parser().parse_args(shlex.split(command)).run)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_runbook_does_not_exist(name: str) -> None:
    assert PREFIX + name in {doc.variable for doc in describe()}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_of_the_runbook_is_never_logged(name: str) -> None:
    assert f'"{name}"' in CODE


def test_the_runbook_sends_somebody_to_a_panel_that_is_not_there() -> None:
    documents = [dashboard(file) for file in (ROOT / "grafana" / "dashboards").glob("*.json")]
    titles = {document["title"] for document in documents}
    titles |= {panel["title"] for document in documents for panel in panels(document)}
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", TEXT)) | set(
        re.findall(r"\*(completion-proxy: \w+)\*", TEXT)
    )
    elsewhere = {"IAM & Admin", "Quotas & System Limits"}
    assert named - elsewhere <= titles
    assert len(COMMANDS) > 5
    assert {"switch", "circuit", "request_lost", "attempt_failed", "probe", "throttle", "override"} <= set(EVENTS)
