"""A Prometheus in the cluster, as a user without the Prometheus operator has it: our own configuration, no rights at all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from cluster import oci
from support.installed import NAMESPACE, Installed
from support.twin import ROOT
from support.waiting import eventually
from trainwright.local import prometheus
from trainwright.local.paths import cache

IMAGE = "localhost/prometheus:1"
SPACE = "monitoring"
FOLDER = ROOT / "manifests" / "monitoring"


def image() -> Path:
    """An archive with Prometheus, promtool and the libraries that they are linked to."""
    programs = prometheus.ensure(print)
    files = {f"/bin/{name}": path for name, path in programs.items()} | _libraries(programs["prometheus"])
    content = oci.Content(files=files, links={}, folders=("/tmp", "/data"), entrypoint=["/bin/prometheus"])
    return oci.write(cache() / "images" / "prometheus.tar", IMAGE, content)


def _libraries(program: Path) -> dict[str, Path]:
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    places = (word for line in said.splitlines() for word in line.split() if word.startswith("/"))
    return {place: Path(place).resolve() for place in places}


class Prometheus:
    """Started in a namespace of its own; asked through kubectl."""

    def __init__(self, release: Installed) -> None:
        self._release = release

    def start(self) -> None:
        self._release.cluster.load([image()])
        self._release.make_space(SPACE)
        config = (FOLDER / "prometheus.yml").read_text()
        config = config.replace("trainwright-operator:8080", f"trainwright-operator.{NAMESPACE}:8080").replace("15s", "2s")
        data = {"prometheus.yml": config, "rules.yaml": (FOLDER / "rules.yaml").read_text()}
        made: list[dict[str, Any]] = [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"}, "data": data},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "prometheus", "labels": {"app.kubernetes.io/name": "prometheus"}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [
                        {
                            "name": "prometheus",
                            "image": IMAGE,
                            "args": ["--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data"],
                            "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                                "readOnlyRootFilesystem": True,
                            },
                            "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}],
                        }
                    ],
                    "volumes": [{"name": "config", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}],
                },
            },
        ]
        for one in made:
            self._release.kubectl("apply", "-n", SPACE, "-f", "-", stdin=json.dumps(one))
        self._release.kubectl("wait", "pod/prometheus", "-n", SPACE, "--for=condition=Ready", "--timeout=60s")

    def ask(self, expression: str) -> str:
        """What promtool prints: a line a series, nothing when there is none."""
        words = ("promtool", "query", "instant", "http://localhost:9090", expression)
        return self._release.kubectl("exec", "-n", SPACE, "prometheus", "--", *words).strip()

    async def says(self, expression: str, *, within: float = 30) -> str:
        """Once it has an answer."""
        answer: str = await eventually(
            lambda: self.ask(expression), within=within, every=0.5, what=f"Prometheus knows {expression}"
        )
        return answer
