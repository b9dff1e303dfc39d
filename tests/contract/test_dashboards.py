"""What the dashboard and the alerts ask for is what the service tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from registry.settings import Settings
from tests.support import compose

ROOT = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "grafana/dashboards/graftery.json").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "prometheus/alerts.yml").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]] + [
    rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]
]
# Prometheus' own.
ALWAYS = {"up"}


def _selectors(expression: Any) -> Iterator[Any]:
    """Every series that an expression reads."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    elif isinstance(expression, promql_parser.MatrixSelector):
        yield expression.vector_selector
    elif isinstance(expression, promql_parser.BinaryExpr):
        yield from _selectors(expression.lhs)
        yield from _selectors(expression.rhs)
    elif isinstance(expression, promql_parser.Call):
        for argument in expression.args:
            yield from _selectors(argument)
    elif isinstance(expression, promql_parser.AggregateExpr | promql_parser.ParenExpr | promql_parser.UnaryExpr):
        yield from _selectors(expression.expr)


@pytest.fixture(scope="module")
def told(_sqlite_template: Path) -> dict[str, set[str]]:
    """Names of all series of an API and an inference process, each with its labels where there is one."""
    app = create_app(Settings(database_url=f"sqlite:///{_sqlite_template}", prechecks=0))
    with TestClient(app) as client:
        client.get("/v1/modules")
        app.state.serving.statistics.succeeded("cat", "1", 1, 0.1, {"queue": 0.0})
        app.state.serving.statistics.failed("cat", "1", 0.1, "REJECTED")
        said = client.get("/metrics").text
    found: dict[str, set[str]] = {}
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", said, re.MULTILINE):
        endings = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}.get(kind, ("",))
        found |= {f"{name}{ending}": set() for ending in endings}
    for family in text_string_to_metric_families(said):
        for sample in family.samples:
            found[sample.name] = set(sample.labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_told(expression: str, told: dict[str, set[str]]) -> None:
    selectors = list(_selectors(promql_parser.parse(expression)))
    assert selectors
    for selector in selectors:
        assert selector.name in told.keys() | ALWAYS
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert not told.get(selector.name) or labels <= told[selector.name] | {"job", "instance"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_grouped_by_is_a_label(expression: str, told: dict[str, set[str]]) -> None:
    for labels, inner in re.findall(r"by \(([\w, ]+)\) \((.*)\)", expression):
        for selector in _selectors(promql_parser.parse(expression)):
            known = told.get(selector.name) or set()
            assert not known or {word.strip() for word in labels.split(",")} <= known | {"job", "instance"}, inner


def test_panels_have_places_of_their_own() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})


def test_prometheus_asks_services_that_exist() -> None:
    document = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    services = compose.services()
    for job in document["scrape_configs"]:
        asked = job["dns_sd_configs"][0]
        assert asked["names"] == [job["job_name"]] and job["job_name"] in services
        assert str(asked["port"]) == compose.environment(services[job["job_name"]])["GRAFTERY_PORT"]
    assert all((ROOT / "prometheus" / name).exists() for name in document["rule_files"])


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    source = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert used == {source["uid"]}
    provider = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/graftery.yml").read_text())["providers"][0]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose.services()["grafana"]["volumes"]
