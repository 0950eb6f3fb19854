"""Who admits jobs that name no provider, in clusters that have one thing or another."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import job
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import ClusterError, Forbidden, Resource
from trainwright.controller import store
from trainwright.controller.default_provider import DefaultProvider


class Serving(MemoryCluster):
    """It serves these API groups besides our own, and allows all but this."""

    def __init__(self, *groups: str, forbidden: str = "", failures: int = 0, refuses: bool = False) -> None:
        super().__init__()
        self._groups, self._forbidden, self._failures, self._refuses = groups, forbidden, failures, refuses

    async def discover(self, group: str) -> dict[str, tuple[str, ...]]:
        if self._failures:
            self._failures -= 1
            raise ClusterError("connection refused")
        kinds = ("Workload", "ResourceFlavor", "PodGroup", "NodePool")
        return dict.fromkeys(("v1beta2", "v1beta1", "v1alpha1", "v2alpha2"), kinds) if group in self._groups else {}

    async def may(self, verb: str, resource: Resource, namespace: str | None = None, *, subresource: str = "") -> bool:
        if self._refuses:
            raise Forbidden("selfsubjectaccessreviews is forbidden")
        return resource.plural != self._forbidden


async def found(cluster: Serving, namespace: str | None = None, told: ProviderName | None = None) -> ProviderName:
    default = DefaultProvider(told)
    await default.find(cluster, namespace)
    return default.name


@pytest.mark.parametrize(
    ("cluster", "namespace", "expected"),
    [
        pytest.param(Serving(), None, "capacity", id="nothing else"),
        pytest.param(Serving("scheduling.k8s.io"), None, "capacity", id="the gangs of Kubernetes itself"),
        pytest.param(Serving(), "team-a", "none", id="one namespace"),
        pytest.param(Serving("kueue.x-k8s.io"), None, "none", id="Kueue"),
        pytest.param(Serving("scheduling.volcano.sh"), None, "none", id="Volcano"),
        pytest.param(Serving("scheduling.x-k8s.io"), None, "none", id="coscheduling"),
        pytest.param(Serving("scheduling.run.ai"), None, "none", id="KAI"),
        pytest.param(Serving("karpenter.sh"), None, "none", id="Karpenter"),
        pytest.param(Serving(forbidden="nodes"), None, "none", id="no right to look at nodes"),
        pytest.param(Serving(forbidden="priorityclasses"), None, "none", id="no right to look at priorities"),
        pytest.param(Serving(refuses=True), None, "none", id="no right to ask"),
        pytest.param(Serving(failures=2), None, "capacity", id="asked until it answers"),
    ],
)
async def test_what_goes_with_a_cluster(
    cluster: Serving, namespace: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "RETRY_SECONDS", (0.01,))
    caplog.set_level("INFO")
    assert await found(cluster, namespace) == expected
    assert f"jobs that name no provider get {expected}" in caplog.text


async def test_what_the_operator_was_told_is_not_asked_again() -> None:
    assert await found(Serving("kueue.x-k8s.io", failures=1), told=ProviderName.CAPACITY) == "capacity"


@pytest.mark.parametrize(
    ("named", "expected"), [({}, "capacity"), ({"provider": "none"}, "none"), ({"provider": "kueue"}, "kueue")]
)
def test_what_a_job_names_goes_before(named: dict[str, Any], expected: str) -> None:
    one = job().run_policy(schedulingPolicy={**named, "queue": "a"}).typed()
    assert DefaultProvider(ProviderName.CAPACITY).of(one) == expected
