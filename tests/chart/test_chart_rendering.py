"""The chart as Helm renders it; no cluster is asked. Helm is the real one, built from its Go module."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import chart
from chart import CHART, ROOT, HelmFailed, helm, objects, template, values
from trainwright import __version__
from trainwright.api.job import parse
from trainwright.api.recipes import problems
from trainwright.controller.options import arguments
from trainwright.plan.catalogue import names
from trainwright.plan.prices import read_prices

CI = sorted((CHART / "ci").glob("*-values.yaml"))
GOLDEN = Path(__file__).parent / "golden"
CLUSTER_KINDS = {
    "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "PriorityClass",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}  # fmt: skip

# For each value another one than its default, and what must be set for it to matter.
OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    "nameOverride": ("trainer", {}),
    "fullnameOverride": ("trainer", {}),
    "scope": ("namespace", {}),
    "crds.install": (False, {}),
    "crds.keep": (False, {}),
    "images.registry": ("registry.example", {}),
    "images.tag": ("7", {}),
    "images.pullPolicy": ("Always", {}),
    "images.pullSecrets": (["ours"], {}),
    "images.overrides": ({"torch": "registry.example/torch:7"}, {}),
    "operator.replicas": (2, {}),
    "operator.logLevel": ("DEBUG", {}),
    "operator.logFormat": ("text", {}),
    "operator.port": (9090, {}),
    "operator.progressIntervalSeconds": (1, {}),
    "operator.scheduler": ("capacity", {}),
    "operator.schedulerNames": ({"coscheduling": "gangs"}, {}),
    "operator.nodeLostAfterSeconds": (20, {}),
    "operator.resources": ({"limits": {"cpu": "1"}}, {}),
    "operator.nodeSelector": ({"kubernetes.io/os": "linux"}, {}),
    "operator.tolerations": ([{"operator": "Exists"}], {}),
    "operator.affinity": ({"podAntiAffinity": {}}, {}),
    "operator.topologySpreadConstraints": ([{"maxSkew": 1}], {}),
    "operator.priorityClassName": ("system-cluster-critical", {}),
    "operator.podAnnotations": ({"example.com/a": "b"}, {}),
    "operator.podLabels": ({"example.com/a": "b"}, {}),
    "operator.podDisruptionBudget.minAvailable": ("50%", {"operator": {"replicas": 2}}),
    "serviceAccount.create": (False, {}),
    "serviceAccount.name": ("ours", {}),
    "serviceAccount.annotations": ({"example.com/a": "b"}, {}),
    "rbac.create": (False, {}),
    "rbac.httpRoutes": (False, {}),
    "rbac.schedulers": (False, {}),
    "rbac.userRoles": (False, {}),
    "gateway.existingSecret": ("ours", {}),
    "gateway.secretKey": ("ours", {}),
    "workers.defaultRequests.cpu": ("500m", {}),
    "workers.defaultRequests.memory": ("1Gi", {}),
    "prices": ({"currency": "EUR", "gpu": 2}, {}),
    "priorityClasses": ([{"name": "high", "value": 1000}], {}),
    "admissionPolicy.enabled": (False, {}),
    "admissionPolicy.actions": (["Warn"], {}),
    "networkPolicies.operator.enabled": (True, {}),
    "networkPolicies.operator.metricsFrom": ([], {"networkPolicies": {"operator": {"enabled": True}}}),
    "networkPolicies.operator.apiServerPorts": ([8443], {"networkPolicies": {"operator": {"enabled": True}}}),
    "networkPolicies.pods.enabled": (True, {}),
    "monitoring.serviceMonitor.enabled": (True, {}),
    "monitoring.serviceMonitor.labels": ({"a": "b"}, {"monitoring": {"serviceMonitor": {"enabled": True}}}),
    "monitoring.podMonitors.enabled": (True, {}),
    "monitoring.podMonitors.labels": ({"a": "b"}, {"monitoring": {"podMonitors": {"enabled": True}}}),
    "monitoring.prometheusRule.enabled": (True, {}),
    "monitoring.prometheusRule.labels": ({"a": "b"}, {"monitoring": {"prometheusRule": {"enabled": True}}}),
    "monitoring.dashboards.enabled": (True, {}),
    "monitoring.dashboards.labels": ({"a": "b"}, {"monitoring": {"dashboards": {"enabled": True}}}),
    "monitoring.dashboards.annotations": ({"a": "b"}, {"monitoring": {"dashboards": {"enabled": True}}}),
}

# (what is set, what must be said of it)
REFUSED = [
    pytest.param("scoop=cluster", "'scoop' not allowed", id="an unknown value"),
    pytest.param("operator.replica=2", "at '/operator': additional properties 'replica' not allowed", id="unknown further down"),
    pytest.param("operator.replicas=two", "at '/operator/replicas': got string, want integer", id="a word for a number"),
    pytest.param("scope=everywhere", "at '/scope': value must be one of 'cluster', 'namespace'", id="an unknown scope"),
    pytest.param("images.overrides.pytorch=a/b", "'pytorch' not allowed", id="an image that is not in the catalogue"),
    pytest.param("workers.defaultRequests.cpu=lots", "at '/workers/defaultRequests/cpu'", id="a quantity that is none"),
    pytest.param("prices.gpu=2", "at '/prices': properties 'currency' required, if 'gpu' exists", id="a price without currency"),
    pytest.param("operator.port=80", "at '/operator/port': minimum: got 80, want 1,024", id="a port for root"),
    pytest.param("admissionPolicy.actions={Deny,Warn}", "at '/admissionPolicy/actions'", id="actions that exclude each other"),
    pytest.param("operator.schedulerNames.native=a", "'native' not allowed", id="a scheduler that has one name"),
    pytest.param("scope=namespace,operator.scheduler=kueue", "operator.scheduler: kueue looks at", id="one namespace's flavors"),
    pytest.param(
        "scope=namespace,operator.scheduler=capacity",
        "operator.scheduler: capacity looks at all nodes",
        id="one namespace's queue",
    ),
    pytest.param(
        "scope=namespace,priorityClasses[0].name=a,priorityClasses[0].value=1", "priorityClasses: they belong", id="cluster's"
    ),
]


def only(kind: str, made: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [one for one in made if one["kind"] == kind]
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    return {
        key: merged(one[key], other[key]) if isinstance(one.get(key), dict) and isinstance(other.get(key), dict) else value
        for key, value in both.items()
    }


def rendered(tmp_path: Path, given: dict[str, Any]) -> str:
    path = tmp_path / "values.yaml"
    # A Secret of ours, for the chart's own key is another one each time.
    path.write_text(json.dumps(merged({"gateway": {"existingSecret": "stays"}}, given)))
    return template("--values", path)


@pytest.mark.parametrize("file", CI, ids=lambda path: path.stem)
def test_it_passes_helms_own_checks(file: Path) -> None:
    helm("lint", "--strict", CHART, "--values", file)


@pytest.mark.parametrize("file", CI, ids=lambda path: path.stem)
def test_a_rendering_is_what_it_was(file: Path) -> None:
    golden = GOLDEN / f"{file.stem.removesuffix('-values')}.yaml"
    now, then = chart.golden(file).splitlines(), golden.read_text().splitlines()
    assert now == then, "\n".join(difflib.unified_diff(then, now, lineterm="")) + "\nif it should be so: make generate"


@pytest.mark.parametrize("minor", range(31, 37))
def test_it_renders_for_every_kubernetes_that_we_name(minor: int) -> None:
    everything = CHART / "ci" / "everything-values.yaml"
    assert objects(template("--kube-version", f"1.{minor}.0", "--values", everything))


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(HelmFailed, match=r"requires kubeVersion: >=1\.31\.0-0 which is incompatible with Kubernetes v1\.30\.5"):
        template("--kube-version", "1.30.5")


def test_every_value_is_documented_and_has_a_case_here() -> None:
    found = {one.path: one.text for one in values()}
    assert set(found) == set(OTHER)
    assert [path for path, text in found.items() if not text] == []
    assert chart.page() == (ROOT / "docs" / "chart-values.md").read_text()


@pytest.fixture(scope="module")
def plain() -> dict[str, str]:
    """Renderings that others are compared with, by what was given."""
    return {}


@pytest.mark.parametrize("path", OTHER)
def test_every_value_changes_what_is_made(path: str, plain: dict[str, str], tmp_path: Path) -> None:
    value, needed = OTHER[path]
    key = json.dumps(needed)
    if key not in plain:
        plain[key] = rendered(tmp_path, needed)
    assert rendered(tmp_path, merged(needed, nested(path, value))) != plain[key]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_what_it_does_not_know_is_refused_and_named(given: str, said: str) -> None:
    with pytest.raises(HelmFailed) as refused:
        template("--set", given)
    assert said in str(refused.value)


def test_the_schema_has_no_hole() -> None:
    """Each object either names its keys or says what any key's value must be; a few are Kubernetes' own and checked by it."""
    free = {
        "/global", "/operator/affinity", "/operator/tolerations/items", "/operator/topologySpreadConstraints/items",
        "/networkPolicies/operator/metricsFrom/items",
    }  # fmt: skip
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_ones: set[str] = set()

    def look(rule: dict[str, Any], path: str) -> None:
        if rule.get("type") == "object" and "additionalProperties" not in rule:
            open_ones.add(path)
        for name, below in rule.get("properties", {}).items():
            look(below, f"{path}/{name}")
        if "items" in rule:
            look(rule["items"], f"{path}/items")

    look(schema, "")
    for name, rule in schema["definitions"].items():
        look(rule, f"definitions/{name}")
    assert open_ones == free


def test_one_version_for_all() -> None:
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {told["version"], told["appVersion"], project} == {__version__}


def test_the_plain_manifests_are_the_charts() -> None:
    assert chart.install() == (ROOT / "manifests" / "install.yaml").read_text(), "make generate"


@pytest.mark.parametrize("file", CI, ids=lambda path: path.stem)
def test_the_operator_takes_the_options_that_it_is_given(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = yaml.safe_load(file.read_text())
    made = objects(template("--values", file))
    container = only("Deployment", made)["spec"]["template"]["spec"]["containers"][0]
    (tmp_path / "key").write_text("k" * 16)
    (tmp_path / "prices").write_text("currency: EUR")
    files = {"/etc/trainwright/gateway/key": "key", "/etc/trainwright/prices/prices.yaml": "prices"}
    words = container["args"]
    for path, name in files.items():
        words = [word.replace(path, str(tmp_path / name)) for word in words]
    options = arguments(words)
    operator = given.get("operator", {})
    assert options.namespace == (chart.NAMESPACE if given.get("scope") == "namespace" else None)
    assert options.leader_elect == (operator.get("replicas", 1) > 1)
    assert options.log_level == operator.get("logLevel", "INFO")
    assert options.progress_interval == operator.get("progressIntervalSeconds", 5)
    assert options.scheduler == operator.get("scheduler", "auto")
    assert dict(options.scheduler_name) == operator.get("schedulerNames", {})
    assert options.node_lost_after == operator.get("nodeLostAfterSeconds", 60)
    assert options.listen.endswith(f":{container['ports'][0]['containerPort']}")
    overrides = {**given.get("images", {}).get("overrides", {})}
    image = overrides.pop("operator", f"{options.registry}/operator:{options.tag}")
    assert container["image"] == image
    assert dict(options.image) == overrides
    assert (options.prices is not None) == ("prices" in given)
    assert options.default_cpu == given.get("workers", {}).get("defaultRequests", {}).get("cpu")
    tables = [one for one in made if one["kind"] == "ConfigMap" and "prices.yaml" in one["data"]]
    assert [read_prices(one["data"]["prices.yaml"]).wire() for one in tables] == (
        [read_prices(yaml.safe_dump(given["prices"])).wire()] if "prices" in given else []
    )


def test_every_option_of_the_operator_can_be_reached() -> None:
    given = CHART / "ci" / "everything-values.yaml"
    reached: set[str] = set()
    for words in (["--values", given], ["--set", "scope=namespace,workers.defaultRequests.memory=1Gi"]):
        args = only("Deployment", objects(template(*words)))["spec"]["template"]["spec"]["containers"][0]["args"]
        reached |= {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in args}
    assert reached == set(vars(arguments([])))


def test_images_of_the_catalogue_and_of_the_schema_are_the_same() -> None:
    overrides = json.loads((CHART / "values.schema.json").read_text())["properties"]["images"]["properties"]["overrides"]
    (pattern,) = overrides["patternProperties"]
    assert set(pattern.strip("^$()").split("|")) == {*names(), "operator"}


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_no_secret_is_ever_read(scope: str) -> None:
    made = objects(template("--set", f"scope={scope},operator.replicas=2"))
    rules = [rule for one in made if one["kind"] in ("Role", "ClusterRole") for rule in one["rules"]]
    assert rules
    for rule in rules:
        assert {"*", "secrets"}.isdisjoint([*rule["resources"], *rule["verbs"], *rule["apiGroups"]])


def test_an_operator_of_one_namespace_has_nothing_of_the_cluster() -> None:
    made = objects(template("--set", "scope=namespace,crds.install=false,operator.replicas=2", namespace="team-a"))
    assert {one["kind"] for one in made}.isdisjoint(CLUSTER_KINDS)
    assert {one["metadata"]["namespace"] for one in made} == {"team-a"}
    with_kinds = objects(template("--set", "scope=namespace"))
    assert {one["kind"] for one in with_kinds} & CLUSTER_KINDS == {"CustomResourceDefinition"}


def test_monitors_of_an_operator_of_one_namespace_look_at_that_namespace_only() -> None:
    made = objects(template("--set", "scope=namespace,monitoring.podMonitors.enabled=true", namespace="team-a"))
    found = [one["spec"]["namespaceSelector"] for one in made if one["kind"] == "PodMonitor"]
    assert found == [{"matchNames": ["team-a"]}] * 3


def test_definitions_monitors_and_dashboards_are_the_projects_own() -> None:
    made = objects(template("--values", CHART / "ci" / "monitoring-values.yaml"))
    manifests = ROOT / "manifests"
    kinds = {"crds/*.yaml": "CustomResourceDefinition", "monitoring/podmonitor.yaml": "PodMonitor"}
    kinds |= {"monitoring/servicemonitor.yaml": "ServiceMonitor", "monitoring/prometheusrule.yaml": "PrometheusRule"}
    for pattern, kind in kinds.items():
        wanted = [one for path in manifests.glob(pattern) for one in objects(path.read_text())]
        assert wanted
        found = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == kind}
        assert found == {one["metadata"]["name"]: one["spec"] for one in wanted}
    dashboards = {path.name: path.read_text().strip() for path in (manifests / "monitoring" / "dashboards").glob("*.json")}
    maps = [one for one in made if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    found = {name.removeprefix("trainwright-"): text.strip() for one in maps for name, text in one["data"].items()}
    assert found == dashboards


def test_two_replicas_never_without_a_lease_and_one_never_with_a_second_beside_it() -> None:
    one, two = (objects(template("--set", f"operator.replicas={count}")) for count in (1, 2))
    assert only("Deployment", one)["spec"]["strategy"] == {"type": "Recreate"}
    assert not [made for made in one if made["kind"] in ("PodDisruptionBudget", "Role")]
    deployment = only("Deployment", two)["spec"]
    assert deployment["strategy"]["type"] == "RollingUpdate"
    assert "--leader-elect" in deployment["template"]["spec"]["containers"][0]["args"]
    assert only("PodDisruptionBudget", two)["spec"]["selector"] == deployment["selector"]
    assert only("Role", two)["rules"][1]["resourceNames"] == ["trainwright-operator"]


def test_the_operators_own_pod_is_restricted() -> None:
    pod = only("Deployment", objects(template()))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "HOME", "value": "/tmp"} in container["env"]
    assert {probe for probe in container if probe.endswith("Probe")} == {"startupProbe", "readinessProbe", "livenessProbe"}


def test_another_price_table_is_another_pod() -> None:
    def annotations(gpu: int) -> dict[str, str]:
        made = only("Deployment", objects(template("--set", f"prices.currency=EUR,prices.gpu={gpu}")))
        return dict(made["spec"]["template"]["metadata"]["annotations"])

    assert annotations(1) != annotations(2)


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_what_the_notes_say_to_do_would_do(scope: str) -> None:
    said = helm(
        "install", "trainwright", CHART, "--namespace", "team-a", "--dry-run=client", "--set", f"scope={scope},crds.install=false"
    )
    notes = said[said.index("NOTES:") :]
    raw = yaml.safe_load(re.search(r"<<EOF\n(.*?)\n +EOF", notes, re.DOTALL)[1])  # type: ignore[index]
    raw["metadata"] |= {
        "namespace": "team-a",
        "uid": "u",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": "2026-11-21T09:00:00Z",
    }
    assert parse(raw).name == "first"
    assert problems(raw["spec"]) == []
    assert ("-n team-a apply" in notes) == (scope == "namespace")
    assert "another release, or manifests/crds, must have brought them" in notes
