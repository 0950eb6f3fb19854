"""A release's life on a real API server: installed on an empty cluster, upgraded from an older chart, uninstalled. There is no node, so
its pods stay pending; tests/e2e has them run."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chart import CHART, NAMESPACE, ROOT, HelmFailed
from support.builders import job
from support.kinds import without_kinds
from support.release import RELEASE, Plane
from support.waiting import eventually

# What is made for the whole module is taken away after its last test.
pytestmark = pytest.mark.timeout(400)
KINDS = ("trainingjobs.trainwright.dev", "modeldeployments.trainwright.dev")
CLUSTERWIDE = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,priorityclasses"
NAMESPACED = "all,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"


@pytest.fixture
def no_kinds(bare_plane: Plane) -> Iterator[None]:
    """Our kinds are not there before, and not after."""
    yield
    without_kinds(bare_plane.kubectl, *KINDS)


def kinds(plane: Plane) -> set[str]:
    return {one["metadata"]["name"] for one in plane.kubectl.json("get", "crds")["items"]} & set(KINDS)


def left(plane: Plane, space: str) -> list[str]:
    """What bears the release's label."""
    mine = f"app.kubernetes.io/instance={RELEASE}"
    found = plane.kubectl("get", CLUSTERWIDE, "-l", mine, "-o", "name") + plane.kubectl(
        "get", NAMESPACED, "-n", space, "-l", mine, "-o", "name"
    )
    return sorted(found.split())


def key(plane: Plane, space: str) -> str:
    return str(plane.kubectl.json("get", "secret", f"{RELEASE}-gateway-key", "-n", space)["data"]["key"])


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The chart as it may have been before: of another version, and with a definition that says less."""
    made = tmp_path / "trainwright"
    shutil.copytree(CHART, made)
    manifest = made / "Chart.yaml"
    manifest.write_text(manifest.read_text().replace("version: 0.1.0", "version: 0.0.9"))
    for path in (made / "files" / "crds").glob("*trainingjobs*"):
        text = path.read_text()
        assert text.count("      description: Why the job waits, restarts or ended.\n") == 1
        path.write_text(text.replace("      description: Why the job waits, restarts or ended.\n", "      description: Older.\n"))
    return made


def reason_column(plane: Plane) -> str:
    version = plane.kubectl.json("get", "crd", KINDS[0])["spec"]["versions"][0]
    (column,) = [one for one in version["additionalPrinterColumns"] if one["name"] == "Reason"]
    return str(column["description"])


def test_installed_upgraded_uninstalled_and_installed_again(bare_plane: Plane, space: str, no_kinds: None, older: Path) -> None:
    plane = bare_plane
    plane.kubectl("label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
    said = plane.install(space, source=older)
    assert "STATUS: deployed" in said
    assert f"kubectl -n {space} rollout status deployment/trainwright-operator" in said
    plane.kubectl("wait", "crd", *KINDS, "--for=condition=Established", "--timeout=20s")
    assert reason_column(plane) == "Older."
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(job().namespace(space).build()))
    uid = plane.kubectl.json("get", "tj", "digits", "-n", space)["metadata"]["uid"]
    first = key(plane, space)
    pods = ("get", "pods", "-n", space, "-l", "app.kubernetes.io/component=operator", "-o", "name")
    asyncio.run(
        eventually(
            lambda: plane.kubectl(*pods), within=20, what="the operator's pod, in a namespace that takes restricted ones only"
        )
    )

    plane.install(space)
    assert reason_column(plane) == "Why the job waits, restarts or ended."
    assert key(plane, space) == first, "another key would roll every gateway"
    image = plane.kubectl.json("get", "deployment", "trainwright-operator", "-n", space)["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert image["image"].endswith(":0.1.0")

    plane.uninstall(space)
    assert left(plane, space) == []
    assert kinds(plane) == set(KINDS), "the kinds stay, and with them every job"
    assert plane.kubectl.json("get", "tj", "digits", "-n", space)["metadata"]["uid"] == uid

    plane.install(space)
    assert plane.kubectl.json("get", "tj", "digits", "-n", space)["metadata"]["uid"] == uid
    plane.uninstall(space)


def test_kinds_that_are_not_to_be_kept_go_with_the_release(bare_plane: Plane, space: str, no_kinds: None) -> None:
    bare_plane.install(space, "--set", "crds.keep=false")
    assert kinds(bare_plane) == set(KINDS)
    bare_plane.helm("uninstall", RELEASE, "--namespace", space, "--wait")
    assert kinds(bare_plane) == set()


def test_a_release_of_one_namespace_leaves_nothing_in_the_cluster(bare_plane: Plane, space: str, no_kinds: None) -> None:
    bare_plane.kubectl("apply", "-f", ROOT / "manifests" / "crds")
    bare_plane.install(
        space, "--set", "scope=namespace,crds.install=false,operator.replicas=2,networkPolicies.operator.enabled=true"
    )
    there = left(bare_plane, space)
    assert [one for one in there if "cluster" in one or "validating" in one] == []
    expected = {"role.rbac.authorization.k8s.io/trainwright-operator", "poddisruptionbudget.policy/trainwright-operator"}
    assert expected < set(there)
    bare_plane.uninstall(space)
    assert left(bare_plane, space) == []


def test_the_cluster_takes_over_the_kinds_that_a_namespace_had_brought(bare_plane: Plane, space: str, no_kinds: None) -> None:
    bare_plane.install(space, "--set", "scope=namespace")
    bare_plane.kubectl("wait", "crd", *KINDS, "--for=condition=Established", "--timeout=20s")
    bare_plane.kubectl("apply", "-f", "-", stdin=json.dumps(job().namespace(space).build()))
    bare_plane.uninstall(space)
    wider = f"{space}-all"
    with pytest.raises(HelmFailed, match="invalid ownership metadata"):
        bare_plane.install(wider)
    bare_plane.install(wider, "--take-ownership")
    assert bare_plane.kubectl.json("get", "tj", "digits", "-n", space)["metadata"]["name"] == "digits"
    bare_plane.uninstall(wider)
    bare_plane.kubectl("delete", "namespace", wider, "--wait=false")


@pytest.mark.parametrize("name", ["ha", "monitoring", "everything"])
def test_the_api_server_takes_what_is_rendered_as_it_is(bare_plane: Plane, space: str, no_kinds: None, name: str) -> None:
    """Fields that it would drop, or objects that it would refuse, show here. Of the Prometheus operator's kinds there are none."""
    off = "monitoring.serviceMonitor.enabled=false,monitoring.podMonitors.enabled=false,monitoring.prometheusRule.enabled=false"
    made = bare_plane.helm(
        "template", RELEASE, CHART, "-n", space, "--values", CHART / "ci" / f"{name}-values.yaml", "--set", off
    )
    bare_plane.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=made)


def test_the_plain_manifests_are_all_it_takes_without_helm(bare_plane: Plane, no_kinds: None) -> None:
    kubectl = bare_plane.kubectl
    try:
        kubectl("apply", "-f", ROOT / "manifests" / "install.yaml")
        kubectl("wait", "crd", *KINDS, "--for=condition=Established", "--timeout=20s")
        kubectl("create", "secret", "generic", "trainwright-gateway-key", "-n", NAMESPACE, "--from-literal=key=0123456789abcdef")
        volumes = kubectl.json("get", "deployment", "trainwright-operator", "-n", NAMESPACE)["spec"]["template"]["spec"][
            "volumes"
        ]
        assert {one["secret"]["secretName"] for one in volumes if "secret" in one} == {"trainwright-gateway-key"}
    finally:
        kubectl("delete", "-f", ROOT / "manifests" / "install.yaml", "--wait=false", "--ignore-not-found")


@pytest.mark.parametrize(
    ("role", "verb", "allowed"),
    [
        pytest.param("view", "list", True, id="who may view may see jobs"),
        pytest.param("view", "create", False, id="who may view may not make any"),
        pytest.param("edit", "create", True, id="who may edit may make jobs"),
        pytest.param("edit", "list", True, id="who may edit may see jobs"),
        pytest.param("admin", "delete", True, id="an administrator of a namespace may delete jobs"),
    ],
)
def test_who_has_the_clusters_roles_has_them_for_our_kinds(
    bare_plane: Plane, released: str, role: str, verb: str, allowed: bool
) -> None:
    kubectl = bare_plane.kubectl
    kubectl("create", "rolebinding", f"{role}-{verb}", "-n", released, f"--clusterrole={role}", f"--user={role}-{verb}")
    for kind in KINDS:
        asked = ("auth", "can-i", verb, kind, "-n", released, f"--as={role}-{verb}")
        assert (kubectl.run(*asked).returncode == 0) == allowed, (kind, verb)


@pytest.fixture(scope="module")
def released(bare_plane: Plane) -> Iterator[str]:
    """A namespace with a release whose roles have been added to the cluster's."""
    space = "t-roles"
    bare_plane.install(space)
    # The controller adds them in its own time.
    bare_plane.kubectl("create", "rolebinding", "probe", "-n", space, "--clusterrole=edit", "--user=probe")
    asked = ("auth", "can-i", "create", KINDS[0], "-n", space, "--as=probe")
    asyncio.run(eventually(lambda: bare_plane.kubectl.run(*asked).returncode == 0, within=20, what="the roles put together"))
    yield space
    bare_plane.uninstall(space)
    without_kinds(bare_plane.kubectl, *KINDS)
