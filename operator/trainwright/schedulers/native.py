"""`native`: Kubernetes' own gang scheduling. A Workload, then a PodGroup, then pods that name it; kube-scheduler gives nodes to
all of them or to none.

A gang's pods are made before it fits: they wait without a node and hold nothing. Each attempt has objects of its own: in 1.36
they can't be changed, and a pod that is left of an earlier attempt must not be counted for the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainwright.api.job import KIND
from trainwright.api.names import GROUP
from trainwright.schedulers import objects
from trainwright.schedulers.base import Admission, Object, State
from trainwright.schedulers.objects import Api, Gang, Pods, Stage, Upkeep

TEMPLATE = "workers"


@dataclass(frozen=True, kw_only=True)
class _Version:
    """How one version of the API says it. `scheduled`: its condition of a group that has got its nodes; `options`: what a group
    and its template say beside the policy; `of_template`: how a group names the template, given the Workload's name.
    """

    scheduled: str
    options: Callable[[Gang], Object]
    of_template: Callable[[str], Object]


def _whole(gang: Gang) -> Object:
    """Who takes a gang's room takes all of it: workers that have lost one can't go on."""
    named = {"priorityClassName": gang.priority_class} if gang.priority_class else {}
    return {"disruptionMode": {"all": {}}, **named}


_VERSIONS = {
    # Kubernetes 1.37.
    "v1beta1": _Version(
        scheduled="PodGroupInitiallyScheduled",
        options=_whole,
        of_template=lambda workload: {"workloadRef": {"workloadName": workload, "templateName": TEMPLATE}},
    ),
    # Kubernetes 1.36. Priority and disruption mode are behind a gate of their own there, and nobody tells whether it is on.
    "v1alpha2": _Version(
        scheduled="PodGroupScheduled",
        options=lambda _: {},
        of_template=lambda workload: {
            "podGroupTemplateRef": {"workload": {"workloadName": workload, "podGroupTemplateName": TEMPLATE}}
        },
    ),
}


class Native:
    api = Api(group="scheduling.k8s.io", versions=tuple(_VERSIONS), kinds={"Workload": "workloads", "PodGroup": "podgroups"})

    def answer(self, gang: Gang) -> Admission:
        for kind in self.api.kinds:
            if (why := objects.waiting(gang, kind)) is not None:
                return why
        group = gang.object("PodGroup", gang.name) or {}
        if objects.holds(group, "DisruptionTarget"):
            return Admission(state=State.PREEMPTED, reason=objects.said(objects.condition(group, "DisruptionTarget")))
        scheduled = objects.condition(group, _VERSIONS[gang.version].scheduled)
        reason = objects.said(scheduled) if scheduled.get("status") == "False" else ""
        return gang.admitted({"spec": {"schedulingGroup": {"podGroupName": gang.name}}}, reason)

    def upkeep(self, gang: Gang, stage: Stage, pods: Pods) -> Upkeep:
        return objects.by_attempt(gang, stage, pods, self._wanted(gang))

    def _wanted(self, gang: Gang) -> tuple[Object, Object]:
        """The API server takes no PodGroup whose Workload isn't there."""
        version = _VERSIONS[gang.version]
        api_version = f"{self.api.group}/{gang.version}"
        policy = {"schedulingPolicy": {"gang": {"minCount": gang.size}}, **version.options(gang)}
        workload = {
            "apiVersion": api_version,
            "kind": "Workload",
            "metadata": {"name": gang.name},
            "spec": {
                "controllerRef": {"apiGroup": GROUP, "kind": KIND, "name": gang.job.name},
                "podGroupTemplates": [{"name": TEMPLATE, **policy}],
            },
        }
        group = {
            "apiVersion": api_version,
            "kind": "PodGroup",
            "metadata": {"name": gang.name},
            "spec": {**version.of_template(gang.name), **policy},
        }
        return workload, group
