"""`volcano`: a PodGroup of Volcano's. Pods are made when it has let the group in (phase Inqueue): from then on they count in its
queue's share.
"""

from __future__ import annotations

from trainwright.schedulers import objects
from trainwright.schedulers.base import Admission, Object, State
from trainwright.schedulers.objects import Api, Gang, Pods, Stage, Upkeep

SCHEDULER = "volcano"
GROUP_ANNOTATION = "scheduling.k8s.io/group-name"
_LET_IN = ("Inqueue", "Running")


class Volcano:
    """`scheduler`: the name that Volcano's scheduler goes by in pods."""

    api = Api(group="scheduling.volcano.sh", versions=("v1beta1",), kinds={"PodGroup": "podgroups"})

    def __init__(self, scheduler: str = SCHEDULER) -> None:
        self._scheduler = scheduler

    def answer(self, gang: Gang) -> Admission:
        if (why_not := objects.waiting(gang, "PodGroup")) is not None:
            return why_not
        group = gang.object("PodGroup", gang.name) or {}
        phase = group.get("status", {}).get("phase") or "Pending"
        unschedulable = objects.condition(group, "Unschedulable")
        why = objects.said(unschedulable) if unschedulable.get("status") == "True" and phase != "Running" else ""
        if phase not in _LET_IN:
            queue = group["spec"].get("queue") or "default"
            return Admission(state=State.WAITING, reason=why or f"queue {queue} has not let PodGroup {gang.name} in ({phase})")
        addition = {
            "metadata": {"annotations": {GROUP_ANNOTATION: gang.name}},
            "spec": {"schedulerName": self._scheduler},
        }
        return gang.admitted(addition, why)

    def upkeep(self, gang: Gang, stage: Stage, pods: Pods) -> Upkeep:
        return objects.by_attempt(gang, stage, pods, [self._wanted(gang, pods)])

    def _wanted(self, gang: Gang, pods: Pods) -> Object:
        spec: Object = {"minMember": gang.size, "minResources": pods.requests(gang.size)}
        if gang.queue:
            spec["queue"] = gang.queue
        if gang.priority_class:
            spec["priorityClassName"] = gang.priority_class
        return {
            "apiVersion": f"{self.api.group}/{gang.version}",
            "kind": "PodGroup",
            "metadata": {"name": gang.name},
            "spec": spec,
        }
