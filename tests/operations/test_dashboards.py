"""The dashboards as files: what Grafana needs of them, and whether they ask for what is exported."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.operations.queries import (
    DASHBOARDS,
    GRAFANA,
    PROMETHEUS,
    ROOT,
    alerts,
    dashboard,
    every_query,
    filled_in,
    labels_of,
    metrics_of,
    panels,
    rules,
)
from tests.operations.test_observability import INTERFACE

CHOSEN = {"type": "prometheus", "uid": "${datasource}"}
OVERVIEW = GRAFANA / "dashboards" / "overview.json"

# What somebody who is woken must find on the first of the two.
AT_A_GLANCE = {
    "active_upstream", "available_upstreams", "requests_total", "request_duration_seconds",
    "upstream_time_to_first_byte_seconds", "breaker_failure_ratio", "breaker_slow_ratio", "failovers_total",
    "requests_lost_total", "probe_success", "override_mode", "tokens_total", "switch_last_timestamp_seconds",
}  # fmt: skip
WITH_ITS_THRESHOLD = {
    "upstream_time_to_first_byte_seconds_bucket": "breaker_slow_call_seconds",
    "breaker_failure_ratio": "breaker_failure_rate_threshold",
    "breaker_slow_ratio": "breaker_slow_rate_threshold",
}

every_dashboard = pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)


def _variables(document: dict[str, Any]) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = document["templating"]["list"]
    return variables


def test_a_dashboard_is_missing_or_takes_the_place_of_another() -> None:
    assert [file.stem for file in DASHBOARDS] == ["circuits", "overview"]
    documents = [dashboard(file) for file in DASHBOARDS]
    assert {document["uid"] for document in documents} == {"completion-proxy-overview", "completion-proxy-circuits"}
    assert len({document["title"] for document in documents}) == 2


@every_dashboard
def test_grafana_would_migrate_or_refuse_a_dashboard(file: Path) -> None:
    document = dashboard(file)
    assert 39 <= document["schemaVersion"] <= 41
    assert "id" not in document
    assert document["title"]
    assert document["description"]
    assert document["tags"] == ["completion-proxy"]
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)


@every_dashboard
def test_a_query_goes_to_another_data_source_than_the_chosen_one(file: Path) -> None:
    document = dashboard(file)
    (variable,) = [each for each in _variables(document) if each["type"] == "datasource"]
    assert (variable["name"], variable["query"]) == ("datasource", "prometheus")
    asking = [each for each in _variables(document) if each["type"] != "datasource"]
    asking += document["annotations"]["list"]
    for panel in panels(document):
        asking += [panel, *panel["targets"]]
    assert all(each["datasource"] == CHOSEN for each in asking)


@every_dashboard
def test_a_panel_does_not_say_what_it_shows(file: Path) -> None:
    shown = panels(dashboard(file))
    assert len(shown) > 15
    for panel in shown:
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
    titles = [panel["title"] for panel in shown]
    assert len(set(titles)) == len(titles)


@every_dashboard
def test_panels_lie_on_each_other(file: Path) -> None:
    places = [panel["gridPos"] for panel in dashboard(file)["panels"]]
    assert all(place["x"] >= 0 and place["w"] > 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize("query", every_query(), ids=lambda query: query.place)
def test_a_query_asks_for_what_is_not_exported(query: Any) -> None:
    labels = labels_of(filled_in(query.text, "1m"))
    assert set(re.findall(r"{{\s*(\w+)\s*}}", query.legend)) <= labels


@pytest.mark.parametrize("query", every_query(), ids=lambda query: query.place)
def test_a_query_leaves_out_a_variable(query: Any) -> None:
    """Else a panel goes on showing all while its neighbours show the chosen ones."""
    for selector in re.findall(r"completion_proxy_\w+({[^}]*})?", query.text):
        assert 'job=~"$job"' in selector
        assert 'instance=~"$instance"' in selector


@pytest.mark.parametrize("query", every_query(), ids=lambda query: query.place)
def test_a_rate_is_taken_over_a_fixed_time(query: Any) -> None:
    assert set(re.findall(r"\[([^\]]*)\]", query.text)) <= {"$__rate_interval"}
    assert len(re.findall(r"\b(?:rate|increase)\(", query.text)) == query.text.count("[$__rate_interval]")


@every_dashboard
def test_a_variable_offers_what_is_not_there(file: Path) -> None:
    for variable in _variables(dashboard(file)):
        if variable["type"] != "query":
            continue
        assert variable["definition"] == variable["query"]["query"]
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert asked is not None
        assert asked[2] in labels_of(filled_in(asked[1], "1m"))
        assert asked[2] == variable["name"]
        assert variable["allValue"] == ".*"


def test_a_metric_is_neither_on_a_panel_nor_in_a_rule() -> None:
    asked = [filled_in(query.text, "1m") for query in every_query()] + [rule["expr"] for rule in rules()]
    assert set().union(*(metrics_of(text) for text in asked)) == set(INTERFACE)


def test_the_overview_lacks_what_is_looked_for_first() -> None:
    texts = [query.text for query in every_query() if query.place.startswith("overview: ")]
    assert set().union(*(metrics_of(filled_in(text, "1m")) for text in texts)) >= AT_A_GLANCE


@every_dashboard
def test_what_trips_a_circuit_is_shown_without_its_threshold(file: Path) -> None:
    for panel in panels(dashboard(file)):
        texts = [target["expr"] for target in panel["targets"]]
        for metric, threshold in WITH_ITS_THRESHOLD.items():
            if panel["type"] == "timeseries" and any(f"completion_proxy_{metric}{{" in text for text in texts):
                (line,) = [target for target in panel["targets"] if threshold in target["expr"]]
                assert line["legendFormat"] == "threshold"
                assert "threshold" in [each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]]


@every_dashboard
def test_a_switch_is_marked_at_the_time_of_a_scrape(file: Path) -> None:
    (annotation,) = dashboard(file)["annotations"]["list"]
    assert annotation["useValueForTime"] is True
    assert annotation["enable"] is True
    # Grafana takes the value for milliseconds; 0 stands for an upstream that nothing has moved to yet.
    expression = promql.parse(filled_in(annotation["expr"], "1m"))
    assert isinstance(expression, promql.BinaryExpr)
    assert metrics_of(filled_in(annotation["expr"], "1m")) == {"switch_last_timestamp_seconds"}
    assert annotation["expr"].endswith(" * 1000 > 0")


def test_an_alert_is_not_among_those_that_are_counted() -> None:
    (text,) = [query.text for query in every_query() if "ALERTS" in query.text]
    (names,) = re.findall(r'alertname=~"([^"]+)"', text)
    assert set(names.split("|")) == set(alerts())


@every_dashboard
def test_there_is_no_way_from_one_dashboard_to_the_other_or_to_the_runbook(file: Path) -> None:
    document = dashboard(file)
    others, runbook = document["links"]
    assert (others["type"], others["tags"], others["keepTime"]) == ("dashboards", document["tags"], True)
    assert (ROOT / runbook["url"]).is_file()


def test_grafana_is_provisioned_with_what_is_not_there() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    assert source["uid"] == "completion-proxy-prometheus"
    # $__rate_interval is four of these: with another one than the scrapes' it would be too short, or needlessly long.
    scrapes = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scrapes["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/completion-proxy.yml").read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")
