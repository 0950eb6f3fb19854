"""Trainwright as a cluster's users have it: installed by the chart on a real node, in images of its own; kubectl is the user's hand."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chart
from cluster.cluster import Cluster
from support.twin import ROOT, Kubectl
from support.waiting import eventually

ARCHIVES = ROOT / "build" / "images"
REGISTRY, TAG = "localhost", "e2e"
RELEASE = NAMESPACE = "trainwright"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
# What a release for tests has of its own: it hears of things sooner, and makes all that it can.
VALUES = {
    "images": {"registry": REGISTRY, "tag": TAG},
    "operator": {"nodeLostAfterSeconds": 5, "progressIntervalSeconds": 1},
    "networkPolicies": {"operator": {"enabled": True}, "pods": {"enabled": True}},
}
TINY = {"image": "localhost/tiny:1", "framework": "none"}


@dataclass(frozen=True)
class Installed:
    """The cluster with a release on it."""

    cluster: Cluster
    kubectl: Kubectl

    def helm(self, *words: str | Path) -> str:
        """What Helm prints of this cluster. Raises `HelmFailed`."""
        return chart.helm(*words, env={"KUBECONFIG": str(self.cluster.kubeconfig)})

    def install(self, *words: str, values: dict[str, Any] | None = None) -> str:
        """Install, or upgrade, and wait until the operator is ready."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values or {}, file)
            file.flush()
            wait = ("--wait", "--timeout", "110s")
            return self.helm("upgrade", "--install", RELEASE, chart.CHART, "-n", NAMESPACE, "-f", file.name, *wait, *words)

    def make_space(self, name: str) -> None:
        """A namespace that takes no pod but a restricted one."""
        self.kubectl("create", "namespace", name)
        self.kubectl("label", "namespace", name, RESTRICTED)

    def operator_pods(self) -> list[dict[str, Any]]:
        labels = "app.kubernetes.io/name=trainwright,app.kubernetes.io/component=operator"
        found: list[dict[str, Any]] = self.kubectl.json("get", "pods", "-n", NAMESPACE, "-l", labels)["items"]
        return found

    def pods(self, space: str, job: str) -> list[dict[str, Any]]:
        """Of a job, all that there are."""
        found: list[dict[str, Any]] = self.kubectl.json("get", "pods", "-n", space, "-l", f"trainwright.dev/job={job}")["items"]
        return found

    async def ends(self, space: str, job: str, *, within: float = 120) -> dict[str, Any]:
        """Status of a job that has come to its end, whichever."""

        def over() -> dict[str, Any] | None:
            status: dict[str, Any] = self.kubectl.json("get", "tj", job, "-n", space).get("status", {})
            return status if status.get("phase") in ("Succeeded", "Failed") else None

        status: dict[str, Any] = await eventually(over, within=within, every=0.3, what=f"the end of {job}")
        return status

    async def waits(self, space: str, job: str, says: Callable[[str], bool], *, within: float = 60) -> str:
        """The one line of a job that waits, once it says that."""

        def said() -> str:
            reason = str(self.kubectl.json("get", "tj", job, "-n", space).get("status", {}).get("reason", ""))
            return reason if says(reason) else ""

        line: str = await eventually(said, within=within, every=0.3, what=f"the reason why {job} waits")
        return line

    def dump(self, space: str) -> str:
        """What there is to know when a test has failed."""
        parts = [
            self.kubectl("get", "tj,md,pods,pvc,jobs", "-n", space, "-o", "wide", check=False),
            self.kubectl("get", "events", "-n", space, "--sort-by=.lastTimestamp", check=False)[-6000:],
            self.kubectl("get", "tj,md", "-n", space, "-o", "yaml", check=False)[-6000:],
            self.kubectl("logs", "-n", NAMESPACE, "deploy/trainwright-operator", "--tail=60", check=False),
            *(
                self.kubectl("logs", "-n", space, name, "--tail=30", "--all-containers", check=False)
                for name in self.kubectl("get", "pods", "-n", space, "-o", "name", check=False).split()
            ),
        ]
        return "\n".join(parts)


def bare(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A job of one small container, for what has nothing to do with learning."""
    body = TINY | {"command": ["sh", "-c", " ".join(command)], "workspace": {"size": "1Gi"}} | spec
    return {"apiVersion": "trainwright.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": body}


def installed(cluster: Cluster) -> Installed:
    """Around a cluster that is up."""
    return Installed(cluster, Kubectl(str(cluster.programs["kubectl"]), cluster.kubeconfig))
