"""Rules, alerts and runbooks speak only of metrics that there are, and of each other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring import tables
from monitoring.tables import known
from support.builders import job
from support.serving import deployment as serving_deployment
from support.twin import ROOT
from trainwright.api.deployment import parse
from trainwright.api.deployment_spec import ServerName
from trainwright.api.deployment_status import Version, VersionState
from trainwright.plan.pods import worker_pod
from trainwright.plan.serving.pods import gateway_deployment, server_deployment
from trainwright.plan.types import Settings

FOLDER = ROOT / "manifests" / "monitoring"
METRIC = re.compile(r"\b(?:\w+:)?trainwright_\w+(?::\w+)?\b")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def test_every_metric_that_a_rule_uses_is_declared_or_recorded() -> None:
    for rule in rules():
        used = set(METRIC.findall(rule["expr"]))
        assert used, rule
        assert used <= known() | recorded(), rule.get("alert") or rule["record"]


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    overview = (ROOT / "docs/runbooks/README.md").read_text()
    for alert in alerts:
        assert alert["labels"]["severity"] in ("info", "warning", "critical")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        page = ROOT / alert["annotations"]["runbook"]
        assert page.read_text().startswith(f"# {alert['alert']}\n")
        assert f"| {alert['alert']} | {alert['labels']['severity']} | [{page.stem}]({page.name}) |" in overview
    assert len(list((ROOT / "docs/runbooks").glob("*.md"))) == len(alerts) + 1


def test_every_alert_is_tested_firing_and_silent() -> None:
    cases = yaml.safe_load((FOLDER / "rules.test.yaml").read_text())["tests"]
    tested: dict[str, set[bool]] = {}
    for case in cases:
        for one in case.get("alert_rule_test", []):
            tested.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert tested == {rule["alert"]: {True, False} for rule in rules() if "alert" in rule}


def test_metrics_are_named_as_prometheus_asks() -> None:
    rows = [*tables.operator(), *tables.jobs(), *tables.deployments(), *tables.workers(), *tables.gateways()]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.name.startswith("trainwright_"), row
        assert (row.kind == "counter") == row.name.endswith("_total"), row
        assert row.help.endswith("."), row


DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_what_grafana_reads(path: Any) -> None:
    content = json.loads(path.read_text())
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(content)))
    assert {panel["title"] for panel in again["panels"]} == {panel["title"] for panel in content["panels"]}
    assert content["uid"] == f"trainwright-{path.stem}"
    assert any(link["type"] == "dashboards" for link in content["links"]), "it leads to the others"
    for panel in panels(content):
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert panel["gridPos"]["w"] <= 24
        assert panel["targets"]
    # No panel lies upon another.
    places = [panel["gridPos"] for panel in content["panels"]]
    for number, one in enumerate(places):
        for other in places[number + 1 :]:
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_of_a_dashboard_is_declared_or_recorded(path: Any) -> None:
    content = json.loads(path.read_text())
    expressions = [target["expr"] for panel in panels(content) for target in panel["targets"]]
    expressions += [one["expr"] for one in content["annotations"].get("list", []) if "expr" in one]
    for expression in expressions:
        used = set(METRIC.findall(expression)) | set(re.findall(r"\bprocess_\w+", expression))
        assert used, expression
        assert used <= known() | recorded(), expression


def monitor(name: str) -> dict[str, Any]:
    found = yaml.safe_load_all((FOLDER / "podmonitor.yaml").read_text())
    return next(one["spec"] for one in found if one["metadata"]["name"] == f"trainwright-{name}")


def known_to_prometheus(metadata: dict[str, Any]) -> set[str]:
    """Names by which a monitor may ask for labels and annotations of a pod."""
    return {
        f"__meta_kubernetes_pod_{kind}_{re.sub('[^a-zA-Z0-9]', '_', name)}"
        for kind, names in (("label", metadata["labels"]), ("annotation", metadata["annotations"]))
        for name in names
    }


def test_the_workers_monitor_looks_for_the_labels_and_ports_that_pods_have() -> None:
    spec = monitor("workers")
    pod = worker_pod(job().spec(workers=2).typed(), 0, Settings())
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert spec["jobLabel"] in pod["metadata"]["labels"]
    assert all(one["key"] in pod["metadata"]["labels"] for one in spec["selector"]["matchExpressions"])
    assert {name for one in endpoint["relabelings"] for name in one["sourceLabels"]} <= known_to_prometheus(pod["metadata"])


@pytest.mark.parametrize("server", list(ServerName))
def test_one_endpoint_of_the_monitors_fits_each_pod_of_a_served_model(server: ServerName) -> None:
    """By port and path as the pod's annotations say, which is where /targets sends Prometheus, too."""
    deployment = parse(serving_deployment(server=server.value))
    version = (
        Version(version=1, state=VersionState.LIVE, offer="offer/a", since="", offered="") if server != "tfserving" else None
    )
    made = {
        "gateways": gateway_deployment(deployment, Settings()),
        "servers": server_deployment(deployment, version, Settings()),
    }
    for name, template in ((name, one["spec"]["template"]) for name, one in made.items()):
        spec, metadata = monitor(name), template["metadata"]
        assert spec["selector"]["matchLabels"].items() <= metadata["labels"].items()
        ports = {port["name"]: str(port["containerPort"]) for port in template["spec"]["containers"][0]["ports"]}
        annotations = metadata["annotations"]

        def kept(endpoint: dict[str, Any], annotations: dict[str, str] = annotations) -> bool:
            rules = [one for one in endpoint["relabelings"] if one.get("action") == "keep"]
            assert all(one["sourceLabels"] == ["__meta_kubernetes_pod_annotation_prometheus_io_path"] for one in rules)
            return all(one["regex"] == annotations["prometheus.io/path"] for one in rules)

        (fitting,) = [one for one in spec["podMetricsEndpoints"] if one["port"] in ports and kept(one)]
        assert (ports[fitting["port"]], fitting["path"]) == (annotations["prometheus.io/port"], annotations["prometheus.io/path"])
        asked = {label for one in fitting["relabelings"] for label in one["sourceLabels"]}
        of_all_versions = {"__meta_kubernetes_pod_label_trainwright_dev_version"} if version is None else set()
        assert asked <= known_to_prometheus(metadata) | of_all_versions


def test_the_prometheus_operator_gets_the_same_rules() -> None:
    wrapped = yaml.safe_load((FOLDER / "prometheusrule.yaml").read_text())
    assert wrapped["spec"] == yaml.safe_load((FOLDER / "rules.yaml").read_text())
