"""Fixtures of all suites. What they start is real: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and in a
twin also the process node and the operator. Each is started once a session, when the first test asks for it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from support.twin import Kubectl, RunningTwin, control_plane, running_twin
from trainwright.local.controlplane import ControlPlane


@pytest.fixture(scope="session")
def plane() -> Iterator[tuple[ControlPlane, Kubectl]]:
    """A control plane with our CRD, without nodes and without an operator."""
    with control_plane() as started:
        yield started


@pytest.fixture(scope="session")
def twin() -> Iterator[RunningTwin]:
    """A whole twin: control plane, one process node with four pretended GPUs, operator."""
    with running_twin() as started:
        yield started


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[RunningTwin]:
    """A second twin, for what takes nodes down: two nodes with one pretended GPU each."""
    with running_twin(nodes=2, gpus_per_node=1) as started:
        yield started


@pytest.fixture
def space(twin: RunningTwin) -> Iterator[str]:
    """A namespace of the twin for one test; its jobs are deleted at the end."""
    name = f"t-{uuid.uuid4().hex[:6]}"
    twin.kubectl("create", "namespace", name)
    yield name
    twin.kubectl("delete", "namespace", name, "--wait=false")
