"""`coscheduling`: the PodGroup of kubernetes-sigs/scheduler-plugins, and a label that pods name it by.

The plugin decides when it has seen as many pods as the group needs: they are made at once, and wait without a node. Which
scheduler has the plugin is the cluster's matter: where it isn't the usual one, the operator is told its name.
"""

from __future__ import annotations

from trainwright.schedulers import objects
from trainwright.schedulers.base import Admission, Object
from trainwright.schedulers.objects import Api, Gang, Pods, Stage, Upkeep

GROUP_LABEL = "scheduling.x-k8s.io/pod-group"


class Coscheduling:
    """`scheduler`: the name of the scheduler that has the plugin; None when it is the cluster's default one."""

    api = Api(group="scheduling.x-k8s.io", versions=("v1alpha1",), kinds={"PodGroup": "podgroups"})

    def __init__(self, scheduler: str | None = None) -> None:
        self._scheduler = scheduler

    def answer(self, gang: Gang) -> Admission:
        if (why := objects.waiting(gang, "PodGroup")) is not None:
            return why
        addition: Object = {"metadata": {"labels": {GROUP_LABEL: gang.name}}}
        if self._scheduler:
            addition["spec"] = {"schedulerName": self._scheduler}
        return gang.admitted(addition)

    def upkeep(self, gang: Gang, stage: Stage, pods: Pods) -> Upkeep:
        return objects.by_attempt(gang, stage, pods, [self._wanted(gang, pods)])

    def _wanted(self, gang: Gang, pods: Pods) -> Object:
        return {
            "apiVersion": f"{self.api.group}/{gang.version}",
            "kind": "PodGroup",
            "metadata": {"name": gang.name},
            "spec": {
                "minMember": gang.size,
                "minResources": pods.requests(gang.size),
                "scheduleTimeoutSeconds": gang.job.spec.run_policy.scheduling.schedule_timeout_seconds,
            },
        }
