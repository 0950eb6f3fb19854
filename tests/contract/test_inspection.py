"""What a cluster tells of itself: one suite against both adapters of the port."""

from __future__ import annotations

import re

from trainwright.cluster.port import NODES, PODS, TRAINING_JOBS, Inspectable, Resource


async def test_the_version_has_a_major_and_a_minor_number(cluster: Inspectable) -> None:
    version = re.match(r"v(\d+)\.(\d+)\.\d+", await cluster.version())
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (1, 31)


async def test_discovery_tells_the_kinds_of_a_group_by_version(cluster: Inspectable) -> None:
    assert await cluster.discover("trainwright.dev") == {"v1alpha1": ("ModelDeployment", "TrainingJob")}
    assert "StorageClass" in (await cluster.discover("storage.k8s.io"))["v1"]


async def test_a_group_that_nobody_serves_has_no_versions(cluster: Inspectable) -> None:
    assert await cluster.discover("nobody.example.com") == {}


async def test_an_administrator_may_do_everything(cluster: Inspectable, namespace: str) -> None:
    assert await cluster.may("create", TRAINING_JOBS, namespace)
    assert await cluster.may("get", PODS, namespace, subresource="log")
    assert await cluster.may("list", NODES)
    assert await cluster.may("list", Resource("Widget", "widgets", "nobody.example.com"))
