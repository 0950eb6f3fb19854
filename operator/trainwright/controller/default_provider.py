"""Whom a job is admitted by that names no provider: the one that the operator was told, or what goes with this cluster."""

from __future__ import annotations

import logging

from trainwright.api.job import TrainingJob
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import NODES, PRIORITY_CLASSES, Forbidden, Inspectable
from trainwright.controller.store import answered
from trainwright.schedulers.told import providers

log = logging.getLogger(__name__)

SCALING_GROUPS = ("karpenter.sh", "autoscaling.x-k8s.io")
"""API groups of who makes nodes for pods that wait: Karpenter, and Cluster Autoscaler with its ProvisioningRequests."""
_BESIDE = (ProviderName.NATIVE,)
"""Gangs that Kubernetes itself places need no queue of others', and are none."""


class DefaultProvider:
    """`told`: what the operator was told; None leaves it to `find`, and until then it is `none`."""

    def __init__(self, told: ProviderName | None = ProviderName.NONE) -> None:
        self.name = told or ProviderName.NONE
        self._open = told is None

    def of(self, job: TrainingJob) -> ProviderName:
        """Who decides when the job's pods are made."""
        return job.spec.run_policy.scheduling.provider or self.name

    async def find(self, cluster: Inspectable, namespace: str | None) -> None:
        """`capacity`, unless somebody else decides over the cluster's room, or this operator can't see all of it.

        Asked once, so that no job changes hands under way. Errors of the API are waited out.
        """
        if not self._open:
            return
        against = await answered(lambda: _against(cluster, namespace), "who admits jobs that name no provider")
        self.name = ProviderName.NONE if against else ProviderName.CAPACITY
        self._open = False
        log.info("jobs that name no provider get %s%s", self.name, f": {against}" if against else "")


async def _against(cluster: Inspectable, namespace: str | None) -> str:
    """What speaks against `capacity` here; empty if nothing does."""
    if namespace is not None:
        return "the operator looks after one namespace alone"
    try:
        return await _found(cluster)
    except Forbidden as error:
        return f"the operator may not find out: {error}"


async def _found(cluster: Inspectable) -> str:
    others = {one.api.group: one.api for name, one in providers({}).items() if name not in _BESIDE}
    for group, api in others.items():
        if api.served(await cluster.discover(group)):
            return f"the cluster has {group}"
    for group in SCALING_GROUPS:
        if await cluster.discover(group):
            return f"nodes come for pods that wait ({group})"
    for resource in (NODES, PRIORITY_CLASSES):
        if not await cluster.may("list", resource):
            return f"the operator may not list {resource.plural}"
    return ""
