"""What an author of few rights sends, and what must hold of everything that is made of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from support.serving import deployment
from support.twin import Kubectl
from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment import parse as parse_deployment
from trainwright.api.deployment_status import ModelDeploymentStatus, Version, VersionState
from trainwright.api.job import TrainingJob, parse
from trainwright.observe.serving import Offer
from trainwright.plan import children
from trainwright.plan.pods import worker_pod
from trainwright.plan.serving import children as serving
from trainwright.plan.serving import tasks
from trainwright.plan.serving.pods import server_deployment
from trainwright.plan.types import Settings

Object = dict[str, Any]
SETTINGS = Settings(gateway_key=b"0123456789abcdef", isolated_from="trainwright-system")
VERSION = Version(
    version=1, state=VersionState.LIVE, offer="offer/a", digest="sha256:00", record="sha256:00",
    since="2026-11-21T09:00:00Z", offered="2026-11-21T09:00:00Z",
)  # fmt: skip
OFFER = Offer(key="offer/a", offered="", claim="digits-workspace", path="artifacts")
RIGHTS = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: author}
rules:
  - {apiGroups: [trainwright.dev], resources: [trainingjobs, modeldeployments], verbs: [get, list, create, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: author}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: author}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: mallory}]
"""


@dataclass(frozen=True)
class Author:
    """mallory, who may write our two kinds in one namespace, which enforces the Pod Security Standard `restricted`."""

    kubectl: Kubectl
    namespace: str

    def says(self, *words: str, stdin: str | None = None) -> tuple[int, str]:
        """The exit code of her kubectl, and what it wrote."""
        done = self.kubectl.run("--as=mallory", "-n", self.namespace, *words, stdin=stdin)
        return done.returncode, done.stdout + done.stderr

    def sends(self, raw: Object, *words: str) -> tuple[int, str]:
        """Create the object. As JSON, which any YAML is to kubectl."""
        metadata = {**raw["metadata"]}
        metadata.pop("namespace", None)
        return self.says("create", "-f", "-", *words, stdin=json.dumps({**raw, "metadata": metadata}))

    def stores(self, raw: Object) -> Object:
        """What the API server keeps of an object whose unknown fields it is told to overlook."""
        code, said = self.sends(raw, "--validate=false", "-o", "json")
        assert code == 0, said
        kept: Object = json.loads(said[said.index("{") :])
        return kept


def attempt(**spec: Any) -> Object:
    """A job, by the fields of its spec."""
    base = {"framework": "torch"} | (
        {} if {"command", "entrypoint"} & spec.keys() else {"recipe": {"name": "image-classification"}}
    )
    return {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "evil"},
        "spec": {name: value for name, value in {**base, **spec}.items() if value is not None},
    }


def serve(**spec: Any) -> Object:
    """A deployment, by the fields of its spec."""
    return deployment("evil", **spec)


def named(raw: Object, name: str) -> Object:
    return {**raw, "metadata": {**raw["metadata"], "name": name}}


def made_of_job(stored: Object) -> tuple[TrainingJob, list[Object]]:
    """The job as the operator reads it, and all that its planner makes."""
    job = parse(stored)
    return job, [*children.wanted(job, SETTINGS), *(worker_pod(job, index, SETTINGS) for index in range(job.spec.workers))]


def made_of_deployment(stored: Object, offer: Offer = OFFER) -> tuple[ModelDeployment, list[Object]]:
    """The deployment as the operator reads it, and all that its planner makes around one version."""
    model = parse_deployment(stored)
    made = serving.wanted(model, ModelDeploymentStatus(versions=(VERSION,)), {"versions": []}, SETTINGS)
    made.append(server_deployment(model, None if model.spec.server.value == "tfserving" else VERSION, SETTINGS))
    made += [tasks.verify(model, VERSION, offer, SETTINGS), tasks.publish(model, VERSION, offer, SETTINGS)]
    return model, [*made, tasks.remove(model, VERSION, SETTINGS)]


def pods_of(made: list[Object]) -> list[Object]:
    """The pods, those of templates as the controllers of Kubernetes would make them."""
    found = []
    for number, one in enumerate(made):
        if one["kind"] == "Pod":
            found.append(one)
        elif "template" in one.get("spec", {}):
            template = copy.deepcopy(one["spec"]["template"])
            template["spec"].setdefault("restartPolicy", "Always")
            metadata = {
                **template["metadata"],
                "namespace": one["metadata"]["namespace"],
                "name": f"{one['metadata']['name']}-{number}",
            }
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    return found


_VOLUMES = {"emptyDir", "persistentVolumeClaim", "configMap", "downwardAPI"}
KINDS = {
    "Pod",
    "Service",
    "PersistentVolumeClaim",
    "NetworkPolicy",
    "ServiceAccount",
    "ConfigMap",
    "Deployment",
    "Job",
    "HTTPRoute",
}


def assert_harmless(made: list[Object], namespace: str, name: str) -> None:
    """Nothing of another namespace, no way to the node or to the API server, and only objects under the author's own name."""
    for one in made:
        assert one["kind"] in KINDS
        assert one["metadata"]["namespace"] == namespace
        assert one["metadata"]["name"] == name or one["metadata"]["name"].startswith(f"{name}-")
        assert all(owner["name"] == name for owner in one["metadata"].get("ownerReferences", []))
        if one["kind"] == "Service":
            assert "externalIPs" not in one["spec"]
            assert one["spec"].get("type", "ClusterIP") == "ClusterIP"
    for pod in pods_of(made):
        _assert_confined(pod["spec"], name)


def _assert_confined(spec: Object, name: str) -> None:
    assert (
        not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "nodeName", "shareProcessNamespace", "hostAliases"} & spec.keys()
    )
    assert spec["automountServiceAccountToken"] is False
    assert spec.get("serviceAccountName", f"{name}-publisher") == f"{name}-publisher"
    assert spec["securityContext"]["runAsNonRoot"] is True
    for volume in spec["volumes"]:
        (kind,) = volume.keys() - {"name"}
        assert kind in _VOLUMES or (kind == "secret" and volume["name"] == "keys")
    for container in containers(spec):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert not {"envFrom", "volumeDevices", "lifecycle"} & container.keys()
        assert all("hostPort" not in port for port in container.get("ports", []))
        assert all(".." not in mount.get("subPath", "").split("/") for mount in container["volumeMounts"])
        assert all("subPathExpr" not in mount and "mountPropagation" not in mount for mount in container["volumeMounts"])


def containers(spec: Object) -> list[Object]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def values_of(obj: Any) -> Iterator[str]:
    """Every string in an object."""
    if isinstance(obj, dict):
        for value in obj.values():
            yield from values_of(value)
    elif isinstance(obj, list):
        for value in obj:
            yield from values_of(value)
    elif isinstance(obj, str):
        yield obj


def config_of(pod: Object) -> Any:
    """The recipe's configuration as the trainer reads it."""
    return yaml.safe_load(pod["metadata"]["annotations"]["trainwright.dev/config"])
