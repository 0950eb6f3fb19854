"""`kai`: the PodGroup of NVIDIA's KAI Scheduler, a queue, and an annotation that pods name the group by.

KAI's pod-grouper would put pods whose owner it doesn't know into groups that need one pod each: it must be told to leave
namespaces with our jobs alone (docs/scheduling-providers.md).
"""

from __future__ import annotations

from trainwright.schedulers import objects
from trainwright.schedulers.base import Admission, Object
from trainwright.schedulers.objects import Api, Gang, Pods, Stage, Upkeep

SCHEDULER = "kai-scheduler"
GROUP_ANNOTATION = "pod-group-name"
QUEUE_LABEL = "kai.scheduler/queue"


class Kai:
    """`scheduler`: the name that KAI's scheduler goes by in pods."""

    api = Api(group="scheduling.run.ai", versions=("v2alpha2",), kinds={"PodGroup": "podgroups"})

    def __init__(self, scheduler: str = SCHEDULER) -> None:
        self._scheduler = scheduler

    def answer(self, gang: Gang) -> Admission:
        if (why := objects.needs_queue(gang, "kai")) is not None:
            return why
        if (why_not := objects.waiting(gang, "PodGroup")) is not None:
            return why_not
        group = gang.object("PodGroup", gang.name) or {}
        unschedulable = objects.condition(group, "UnschedulableOnNodePool", "schedulingConditions")
        addition = {
            "metadata": {"annotations": {GROUP_ANNOTATION: gang.name}, "labels": {QUEUE_LABEL: gang.queue}},
            "spec": {"schedulerName": self._scheduler},
        }
        return gang.admitted(addition, _said(unschedulable) if unschedulable.get("status") == "True" else "")

    def upkeep(self, gang: Gang, stage: Stage, pods: Pods) -> Upkeep:
        return objects.by_attempt(gang, stage, pods, [self._wanted(gang)] if gang.queue else [])

    def _wanted(self, gang: Gang) -> Object:
        spec: Object = {"minMember": gang.size, "queue": gang.queue}
        if gang.priority_class:
            spec["priorityClassName"] = gang.priority_class
        return {
            "apiVersion": f"{self.api.group}/{gang.version}",
            "kind": "PodGroup",
            "metadata": {"name": gang.name, "labels": {QUEUE_LABEL: gang.queue}},
            "spec": spec,
        }


def _said(found: Object) -> str:
    """Its reasons, each in its own words; older versions have one message."""
    told = "; ".join(str(one["message"]) for one in found.get("reasons") or [] if one.get("message"))
    return objects.bounded(told) or objects.said(found)
