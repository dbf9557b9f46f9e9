"""What grafana/ asks of Prometheus, read for tests: the queries, the rules, and the labels that an answer would have.

It knows the exporter's interface and nothing of any value; test_prometheus.py asks a real server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser as promql
import yaml

from tests.operations.test_observability import INTERFACE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
GRAFANA = ROOT / "grafana"
PROMETHEUS = GRAFANA / "prometheus"
DASHBOARDS = tuple(sorted((GRAFANA / "dashboards").glob("*.json")))
RULE_FILES = (PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml")
PREFIX = "completion_proxy_"

TARGET_LABELS = {"namespace", "job", "instance"}
"""What Prometheus puts on every series of a target; `namespace` where Kubernetes is."""
ALERT_LABELS = {"alertname", "alertstate", "severity", "job"}

_HISTOGRAMS = ("_bucket", "_sum", "_count")


class QueryError(ValueError):
    """A query asks for what is not there."""


@dataclass(frozen=True)
class Query:
    """A query of a dashboard's, and how its answers are named."""

    place: str
    text: str
    legend: str
    unit: str
    """What the panel takes the values for; "" where it shows none."""


def dashboard(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that show something: all but the rows."""
    nested = [inner for panel in document["panels"] for inner in (panel, *panel.get("panels", ()))]
    return [panel for panel in nested if panel["type"] != "row"]


def queries(file: Path) -> Iterator[Query]:
    """Of panels and annotations."""
    document = dashboard(file)
    for panel in panels(document):
        for target in panel["targets"]:
            unit = panel["fieldConfig"]["defaults"]["unit"]
            yield Query(f"{file.stem}: {panel['title']}", target["expr"], target["legendFormat"], unit)
    for annotation in document["annotations"]["list"]:
        yield Query(f"{file.stem}: {annotation['name']}", annotation["expr"], annotation["titleFormat"], "")


def every_query() -> list[Query]:
    return [query for file in DASHBOARDS for query in queries(file)]


def filled_in(text: str, interval: str, **variables: str) -> str:
    """The query as Grafana would send it; a variable that is not named is All."""
    for name, value in {"__rate_interval": interval, "__range": interval, **variables}.items():
        text = text.replace(f"${name}", value)
    for name in ("job", "instance", "model", "upstream"):
        text = text.replace(f"${name}", ".*")
    if "$" in text:
        raise QueryError(f"a variable that does not exist: {text}")
    return text


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """Recording and alerting rules, in the order of the files."""
    return tuple(
        rule for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]
    )


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recordings() -> dict[str, dict[str, Any]]:
    return {rule["record"]: rule for rule in rules() if "record" in rule}


def metrics_of(text: str) -> set[str]:
    """The exporter's metrics that a query asks for, without their prefix, as the interface names them."""
    found = {name for name, _ in _selected(promql.parse(text))}
    return {_family(name) for name in found if name.startswith(PREFIX)}


def labels_of(text: str) -> set[str]:
    """The labels that an answer to the query has. Raises QueryError where it uses a metric or a label that is not."""
    return _labels(promql.parse(text))


def _family(name: str) -> str:
    short = name.removeprefix(PREFIX)
    for suffix in _HISTOGRAMS:
        if short not in INTERFACE and short.endswith(suffix):
            return short.removesuffix(suffix)
    return short


def _selected(node: Any) -> Iterator[tuple[str, list[str]]]:
    """Each selector's metric and the labels that it looks at."""
    match node:
        case promql.VectorSelector():
            yield node.name or "", [matcher.name for matcher in node.matchers.matchers]
        case promql.MatrixSelector():
            yield from _selected(node.vector_selector)
        case promql.BinaryExpr():
            yield from _selected(node.lhs)
            yield from _selected(node.rhs)
        case promql.Call():
            for argument in node.args:
                yield from _selected(argument)
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _selected(node.expr)


def _labels(node: Any) -> set[str]:
    match node:
        case promql.VectorSelector() | promql.MatrixSelector():
            ((name, looked_at),) = _selected(node)
            labels = _of_metric(name)
            _check(looked_at, labels, name)
            return labels
        case promql.AggregateExpr():
            kept = node.modifier.labels if node.modifier else []
            _check(kept, _labels(node.expr), node.prettify())
            return set(kept)
        case promql.Call():
            inner = set().union(*(_labels(argument) for argument in node.args))
            return inner - {"le"} if node.func.name == "histogram_quantile" else inner
        case promql.BinaryExpr():
            return _of_both(node)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _labels(node.expr)
        case _:
            return set()


def _of_both(node: promql.BinaryExpr) -> set[str]:
    left, right = _labels(node.lhs), _labels(node.rhs)
    if node.modifier is not None and node.modifier.matching is not None:
        for side in (left, right):
            _check(node.modifier.matching.labels, side, node.prettify())
    # A number has none; of two sides that match, the left one's are kept.
    return left | right if str(node.op) == "or" or not left else left


def _of_metric(name: str) -> set[str]:
    if name == "ALERTS":
        return ALERT_LABELS
    if name in recordings():
        return labels_of(recordings()[name]["expr"])
    family = _family(name)
    if not name.startswith(PREFIX) or family not in INTERFACE:
        raise QueryError(f"{name} is not exported")
    return {*INTERFACE[family], *TARGET_LABELS, *({"le"} if name.endswith("_bucket") else ())}


def _check(used: list[str], known: set[str], where: str) -> None:
    if missing := set(used) - known:
        raise QueryError(f"{sorted(missing)} in {where}")
