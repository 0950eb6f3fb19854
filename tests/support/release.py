"""The chart on a real API server that has no node: what Helm installs is real, and the operator runs as a process beside it, with the
command line, the files and the service account of its Deployment.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import chart
from support.twin import Kubectl

OPERATOR = Path(sys.executable).parent / "trainwright-operator"
RELEASE = "trainwright"


@dataclass(frozen=True)
class Plane:
    """An API server: an administrator's kubectl, and the log of who asked it what."""

    kubectl: Kubectl
    audit: Path

    def helm(self, *words: str | Path) -> str:
        return chart.helm(*words, env={"KUBECONFIG": str(self.kubectl.kubeconfig)})

    def install(self, namespace: str, *words: str | Path, source: Path = chart.CHART) -> str:
        """Install the release, or upgrade it."""
        return self.helm("upgrade", "--install", RELEASE, source, "--namespace", namespace, "--create-namespace", *words)

    def uninstall(self, namespace: str) -> None:
        self.helm("uninstall", RELEASE, "--namespace", namespace)

    def requests(self, user: str) -> list[tuple[str, str, int]]:
        """All that somebody asked for: verb, resource as a Role names it, with its group, and the HTTP code of the answer."""
        found = []
        for line in self.audit.read_text().splitlines():
            with contextlib.suppress(ValueError):  # a line that is just being written
                event = json.loads(line)
                if event["user"]["username"] == user and (ref := event.get("objectRef")):
                    resource = "/".join(filter(None, (ref.get("apiGroup", ""), ref["resource"], ref.get("subresource", ""))))
                    found.append((event["verb"], resource, event["responseStatus"]["code"]))
        return found


class ReleasedOperator:
    """The operator of a release, as its Deployment would start it."""

    def __init__(self, plane: Plane, namespace: str, folder: Path) -> None:
        self._plane = plane
        self._namespace = namespace
        pod = plane.kubectl.json("get", "deployment", f"{RELEASE}-operator", "-n", namespace)["spec"]["template"]["spec"]
        self.account = pod["serviceAccountName"]
        self.user = f"system:serviceaccount:{namespace}:{self.account}"
        self.log = folder / "operator.log"
        (container,) = pod["containers"]
        places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        self._words = [self._here(word, pod["volumes"], places, folder) for word in container["args"]]
        # Listens where a test may, and at a port of its own.
        self._words = [f"--listen=127.0.0.1:{_free_port()}" if word.startswith("--listen=") else word for word in self._words]
        self.kubeconfig = self._write_kubeconfig(folder)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def clusterwide(self) -> bool:
        """Whether it looks after all namespaces."""
        return not any(word.startswith("--namespace=") for word in self._words)

    def _here(self, word: str, volumes: list[dict[str, Any]], places: dict[str, str], folder: Path) -> str:
        """The word with the path of a mounted file in place of the container's."""
        for volume in volumes:
            inside = places[volume["name"]]
            if inside not in word or "secret" not in volume:
                continue
            secret = self._plane.kubectl.json("get", "secret", volume["secret"]["secretName"], "-n", self._namespace)
            (item,) = volume["secret"]["items"]
            path = folder / item["path"]
            path.write_bytes(base64.b64decode(secret["data"][item["key"]]))
            return word.replace(f"{inside}/{item['path']}", str(path))
        return word

    def _write_kubeconfig(self, folder: Path) -> Path:
        """The administrator's, but for who it is."""
        token = self._plane.kubectl("create", "token", self.account, "-n", self._namespace, "--duration=1h").strip()
        config = yaml.safe_load(self._plane.kubectl.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """For the length of the block."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINWRIGHT_", "KUBE"))}
        environment |= {"KUBECONFIG": str(self.kubeconfig), "POD_NAMESPACE": self._namespace}
        with self.log.open("ab") as log:
            process = subprocess.Popen([OPERATOR, *self._words], env=environment, stdout=log, stderr=log)
        try:
            yield
            assert process.poll() is None, self.log.read_text()[-3000:]
        finally:
            process.terminate()
            process.wait(timeout=10)


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])
