"""A throw-away control plane, and a whole twin, for suites that want the real thing.

Paths are kept short and private: nothing of a developer's own twins is touched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.waiting import eventually
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import Resource
from trainwright.local import binaries
from trainwright.local.controlplane import ControlPlane, Setup
from trainwright.local.twin import Twin

ROOT = Path(__file__).resolve().parents[2]
TRAINWRIGHT = Path(sys.executable).parent / "trainwright"


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    program: str
    kubeconfig: Path

    def __call__(self, *words: str | Path, stdin: str | None = None, check: bool = True) -> str:
        result = self.run(*words, stdin=stdin)
        if check and result.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(map(str, words))}: {result.stderr}")
        return result.stdout

    def run(self, *words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, "--kubeconfig", self.kubeconfig, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self(*words, "-o", "json"))
        return answer


@contextlib.contextmanager
def control_plane(setup: Setup | None = None) -> Iterator[tuple[ControlPlane, Kubectl]]:
    """etcd, API server, controllers and scheduler, with our CRD unless `setup` says otherwise; no node."""
    state = Path(tempfile.mkdtemp(prefix="tw-"))
    programs = binaries.ensure(print)
    plane = ControlPlane(state, programs, name="test", setup=setup)
    try:
        asyncio.run(plane.start())
        yield plane, Kubectl(str(programs["kubectl"]), plane.kubeconfig)
    finally:
        plane.stop()
        shutil.rmtree(state, ignore_errors=True)


async def accounts_ready(cluster: KubeCluster, namespace: str) -> None:
    """A new namespace takes pods only once the controllers have made its default service account."""
    accounts = Resource("ServiceAccount", "serviceaccounts")

    async def there() -> bool:
        return any(one["metadata"]["name"] == "default" for one in (await cluster.list(accounts, namespace)).items)

    await eventually(there, within=20, what="the default service account")


@dataclass
class RunningTwin:
    """A twin that is up, its kubectl, and the command line pointed at it."""

    twin: Twin
    kubectl: Kubectl
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def cli(self, *words: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return trainwright(*words, env=self.environment, timeout=timeout)


def trainwright(
    *words: str | Path, env: dict[str, str] | None = None, timeout: float = 120, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, 80 columns wide and without a terminal."""
    return subprocess.run(
        [TRAINWRIGHT, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
    )


@contextlib.contextmanager
def running_twin(*, nodes: int = 1, gpus_per_node: int = 4, monitoring: bool = False) -> Iterator[RunningTwin]:
    """A whole twin under a home of its own, brought up and taken down by the command line."""
    home = Path(tempfile.mkdtemp(prefix="tw-"))
    # Of TensorFlow Serving there is no program to install: nodes find the double in its place.
    path = f"{ROOT / 'tests' / 'support' / 'tfserving'}{os.pathsep}{os.environ['PATH']}"
    environment = {"TRAINWRIGHT_HOME": str(home), "PATH": path}
    up = ["up", "--name", "t", "--nodes", str(nodes), "--gpus-per-node", str(gpus_per_node)]
    up += ["--monitoring"] if monitoring else []
    try:
        result = trainwright(*up, env=environment, timeout=900)
        assert result.returncode == 0, result.stderr
        kubeconfig = home / "twins" / "t" / "kubeconfig"
        with changed_home(home):
            twin = Twin("t")
        program = twin.kubectl
        yield RunningTwin(twin, Kubectl(program, kubeconfig), home, {**environment, "KUBECONFIG": str(kubeconfig)})
    finally:
        trainwright("down", "--name", "t", env=environment)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def changed_home(home: Path) -> Iterator[None]:
    """TRAINWRIGHT_HOME for the length of the block."""
    before = os.environ.get("TRAINWRIGHT_HOME")
    os.environ["TRAINWRIGHT_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TRAINWRIGHT_HOME"]
        else:
            os.environ["TRAINWRIGHT_HOME"] = before


def command_lines(*needles: Sequence[str]) -> list[str]:
    """Command lines of running processes that contain all needles."""
    import psutil

    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if all(str(needle) in line for needle in needles):
                lines.append(line)
    return lines
