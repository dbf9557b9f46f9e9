"""The dashboard asks for what is exported."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.operations.test_observability import INTERFACE

DASHBOARD = Path(__file__).parent.parent.parent / "grafana" / "dashboards" / "overview.json"


def _expressions() -> list[str]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return expressions + [annotation["expr"] for annotation in dashboard["annotations"]["list"]]


def test_a_panel_asks_for_a_metric_that_is_not_exported() -> None:
    names = {name for expression in _expressions() for name in re.findall(r"completion_proxy_(\w+)", expression)}
    assert names
    assert {re.sub(r"_bucket$", "", name) for name in names} <= set(INTERFACE)


def test_a_panel_groups_by_a_label_that_its_metric_lacks() -> None:
    for expression in _expressions():
        (name,) = set(re.findall(r"completion_proxy_(\w+?)(?:_bucket)?\b", expression))
        for labels in re.findall(r"by \(([\w, ]+)\)", expression):
            assert set(labels.split(", ")) - {"le"} <= INTERFACE[name]
