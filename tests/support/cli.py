"""The command line in this process, against a cluster in memory; and the objects that its views are about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.builders import JobBuilder
from trainwright.cli import main
from trainwright.cli.app import err, out
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import NODES, PODS, TRAINING_JOBS

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """stdout with its white space folded: what it says, however it was broken into lines."""
        return " ".join(self.out.split())

    def json(self) -> Any:
        """stdout, which must be JSON and nothing else."""
        return json.loads(self.out)


class CommandLine:
    """Call it with the words of a command. `cluster` is what commands connect to; screens are 80 columns wide until told otherwise."""

    def __init__(
        self, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
    ) -> None:
        self.cluster = cluster
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        kubeconfig = home / "kubeconfig"
        kubeconfig.touch()
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setenv("TRAINWRIGHT_HOME", str(home))

        async def connect(**_: Any) -> MemoryCluster:
            return self.cluster

        monkeypatch.setattr(KubeCluster, "connect", connect)
        self.width(80)

    def width(self, columns: int) -> None:
        for console in (out, err):
            self._monkeypatch.setattr(console, "width", columns)

    def __call__(self, *words: str | Path) -> Result:
        self._capsys.readouterr()
        code = main([str(word) for word in words])
        said = self._capsys.readouterr()
        assert "Traceback" not in said.err
        return Result(code, said.out, said.err)

    def put(self, *builders: JobBuilder) -> None:
        """Create jobs as users do."""
        for one in builders:
            self.do(self.cluster.create(TRAINING_JOBS, one.build()))

    def say(self, name: str, namespace: str = "default", **status: Any) -> None:
        """Write a job's status, as an operator does."""
        self.do(self.cluster.patch(TRAINING_JOBS, name, namespace, {"status": status}, subresource="status"))

    def node(self, name: str, *, gpus: int = 0, ready: bool = True) -> None:
        self.do(add_node(self.cluster, name, gpus=gpus, ready=ready))

    def pod(self, name: str, **kwargs: Any) -> None:
        self.do(add_pod(self.cluster, name, **kwargs))

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)


async def add_node(cluster: MemoryCluster, name: str, *, gpus: int = 0, ready: bool = True) -> None:
    await cluster.create(NODES, {"metadata": {"name": name}, "spec": {}})
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"conditions": [condition], "allocatable": {"cpu": "8", GPU: str(gpus)}}
    await cluster.patch(NODES, name, None, {"status": status}, subresource="status")


async def add_pod(
    cluster: MemoryCluster,
    name: str,
    *,
    gpus: int,
    node: str | None,
    job: str | None = None,
    phase: str = "Running",
    init_gpus: int = 0,
) -> None:
    limits = [{"name": "worker", "resources": {"limits": {GPU: str(gpus)}}}]
    spec: dict[str, Any] = {
        "containers": limits,
        "initContainers": [{"name": "first", "resources": {"limits": {GPU: str(init_gpus)}}}],
    }
    labels = {"trainwright.dev/job": job} if job else {}
    await cluster.create(
        PODS,
        {
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": spec | ({"nodeName": node} if node else {}),
        },
    )
    await cluster.patch(PODS, name, "default", {"status": {"phase": phase}}, subresource="status")
