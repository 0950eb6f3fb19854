"""Both adapters of the port, for one suite."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from support.twin import Kubectl, accounts_ready
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import NAMESPACES, Cluster
from trainwright.local.controlplane import ControlPlane


@pytest.fixture(params=["memory", "kube"])
async def cluster(request: pytest.FixtureRequest, plane: tuple[ControlPlane, Kubectl]) -> AsyncIterator[Cluster]:
    """The in-memory cluster, or a real kube-apiserver with its controllers."""
    made: Cluster
    if request.param == "memory":
        made = MemoryCluster(admission=ADMISSION)
    else:
        made = await KubeCluster.connect(kubeconfig=plane[0].kubeconfig)
    yield made
    await made.close()


@pytest.fixture
async def namespace(cluster: Cluster) -> str:
    """A namespace of its own for each test."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    await cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    if isinstance(cluster, KubeCluster):
        await accounts_ready(cluster, name)
    return name
