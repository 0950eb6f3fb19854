"""A control plane of its own for the chart: it has none of our kinds until Helm brings them, writes down every request, and checks who
may hold up an owner's deletion, as OpenShift does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from support.release import Plane
from support.twin import control_plane
from trainwright.local.controlplane import Setup

POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: [system:serviceaccounts]
"""


@pytest.fixture(scope="session")
def bare_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """etcd, API server, controllers and scheduler as they are without us."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "policy.yaml").write_text(POLICY)
    flags = [f"--audit-policy-file={folder / 'policy.yaml'}", f"--audit-log-path={folder / 'audit.log'}"]
    # Privileged pods are possible, so that it is our policy that refuses them.
    flags += ["--enable-admission-plugins=OwnerReferencesPermissionEnforcement", "--allow-privileged=true"]
    with control_plane(Setup(kinds=False, flags={"apiserver": flags})) as (_, kubectl):
        yield Plane(kubectl, folder / "audit.log")


@pytest.fixture
def space(bare_plane: Plane) -> Iterator[str]:
    """A namespace for one release."""
    name = f"t-{uuid.uuid4().hex[:6]}"
    bare_plane.kubectl("create", "namespace", name)
    yield name
    bare_plane.kubectl("delete", "namespace", name, "--wait=false")
