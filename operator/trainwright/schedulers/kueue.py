"""`kueue`: a Workload of Kueue's, one for the whole life of a job. Its quota is kept over restarts; who takes it says so in the
Workload, and has it back when the last pod has ended.

Pods are made once it is admitted: for nodes of the flavors that it was given quota of, with what admission checks add.
"""

from __future__ import annotations

from collections.abc import Iterable

from trainwright.api.names import GROUP
from trainwright.api.status import ConditionType
from trainwright.observe.times import rfc3339
from trainwright.observe.workers import WorkerState
from trainwright.schedulers import objects
from trainwright.schedulers.base import Admission, Object, State, merged
from trainwright.schedulers.objects import Api, Gang, Patch, Pods, Read, Stage, Upkeep

POD_SET = "workers"
FINALIZER = "kueue.x-k8s.io/resource-in-use"
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
POD_SET_LABEL = "kueue.x-k8s.io/podset"
WORKLOAD_ANNOTATION = "kueue.x-k8s.io/workload"
TOPOLOGY_GATE = "kueue.x-k8s.io/topology"
SUSPENDED_ANNOTATION = f"{GROUP}/suspended"
"""Of a Workload that we have set inactive. One that somebody else has is none of ours to set active again."""
_REQUEUED_AT_ONCE = ("Preempted", "NodeFailures")
_OF_A_POD = ("nodeSelector", "tolerations", "affinity", "priorityClassName")


class Kueue:
    api = Api(
        group="kueue.x-k8s.io",
        versions=("v1beta2",),
        kinds={"Workload": "workloads"},
        reads=(
            Read("ResourceFlavor", "resourceflavors", "kueue.x-k8s.io", "v1beta2"),
            Read("PriorityClass", "priorityclasses", "scheduling.k8s.io", "v1"),
        ),
    )

    def answer(self, gang: Gang) -> Admission:
        if (why := objects.needs_queue(gang, "kueue")) is not None:
            return why
        named = gang.priority_class
        if named and gang.read("PriorityClass", named) is None:
            return Admission(state=State.WAITING, reason=f"PriorityClass {named} is not there")
        workload = gang.object("Workload", name_of(gang))
        if workload is None:
            # A gang that runs without one has its quota given away.
            reason = f"Workload {name_of(gang)} is being made"
            return _out(gang, reason) if _begun(gang) else Admission(state=State.WAITING, reason=reason, asked=False)
        if objects.is_going(workload):
            return _out(gang, f"Workload {name_of(gang)} is being deleted; another follows it")
        if objects.holds(workload, "Finished"):
            return _out(gang, objects.said(objects.condition(workload, "Finished")))
        if objects.holds(workload, "Evicted"):
            return _out(gang, objects.said(objects.condition(workload, "Evicted")))
        if not objects.holds(workload, "Admitted"):
            return _out(gang, _why_not(gang, workload))
        if _given_back(workload) and not _begun(gang):
            return Admission(
                state=State.WAITING, reason="quota of workers that had ended was given back; the gang asks for it anew"
            )
        return self._admitted(gang, workload)

    def upkeep(self, gang: Gang, stage: Stage, pods: Pods) -> Upkeep:
        workload = gang.object("Workload", name_of(gang))
        if workload is None:
            possible = gang.queue and (not gang.priority_class or gang.read("PriorityClass", gang.priority_class))
            return Upkeep(make=(self._wanted(gang, pods),)) if stage is Stage.WANTED and possible else Upkeep()
        live = pods.live()
        if objects.is_going(workload) or stage is Stage.GONE:
            return Upkeep() if live else Upkeep(patch=let_go(workload))
        if stage.ended:
            return Upkeep() if live else _finished(workload, stage, pods)
        if (switched := _switched(gang, workload, stage)) is not None:
            return switched
        if objects.holds(workload, "QuotaReserved") and not live:
            if objects.holds(workload, "Evicted"):
                return _freed(workload, objects.condition(workload, "Evicted"), pods)
            if _given_back(workload) and not _begun(gang):
                return _freed(workload, {"reason": "Preempted", "message": "the gang starts anew"}, pods)
        if objects.holds(workload, "Admitted") and not objects.holds(workload, "Evicted"):
            return _reported(gang, workload, pods)
        return Upkeep()

    def _admitted(self, gang: Gang, workload: Object) -> Admission:
        """What flavors and admission checks add to the pods."""
        status = workload["status"]
        addition: Object = {
            "metadata": {"labels": {POD_SET_LABEL: POD_SET}, "annotations": {WORKLOAD_ANNOTATION: name_of(gang)}},
        }
        for assigned in _of_the_set(status.get("admission", {}).get("podSetAssignments")):
            if assigned.get("count", gang.size) < gang.size:
                # Nobody was told that fewer would do.
                return _out(gang, f"Workload {name_of(gang)} was admitted with {assigned['count']} of {gang.size} workers")
            for name in sorted(set((assigned.get("flavors") or {}).values())):
                flavor = gang.read("ResourceFlavor", name)
                if flavor is None:
                    return _out(gang, f"ResourceFlavor {name} is not there")
                addition = merged(
                    addition, {"spec": _placed(flavor["spec"].get("nodeLabels"), flavor["spec"].get("tolerations"))}
                )
            if assigned.get("topologyAssignment"):
                addition = merged(addition, {"spec": {"schedulingGates": [{"name": TOPOLOGY_GATE}]}})
        for check in status.get("admissionChecks") or []:
            for update in _of_the_set(check.get("podSetUpdates")):
                metadata = {key: update[key] for key in ("labels", "annotations") if update.get(key)}
                more = {"metadata": metadata, "spec": _placed(update.get("nodeSelector"), update.get("tolerations"))}
                addition = merged(addition, more)
        return gang.admitted(addition)

    def _wanted(self, gang: Gang, pods: Pods) -> Object:
        like = pods.like["spec"]
        containers = [{key: one[key] for key in ("name", "image", "resources") if key in one} for one in like["containers"]]
        spec = {"containers": containers, "restartPolicy": "Never", **{key: like[key] for key in _OF_A_POD if key in like}}
        priority = gang.read("PriorityClass", gang.priority_class) if gang.priority_class else None
        of_class = {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": gang.priority_class}
        return {
            "apiVersion": f"{self.api.group}/{gang.version}",
            "kind": "Workload",
            "metadata": {"name": name_of(gang), "labels": {JOB_UID_LABEL: gang.job.uid}, "finalizers": [FINALIZER]},
            "spec": {
                "active": True,
                "queueName": gang.queue,
                "podSets": [{"name": POD_SET, "count": gang.size, "template": {"spec": spec}}],
                **({"priorityClassRef": of_class, "priority": priority["value"]} if priority else {}),
            },
        }


def name_of(gang: Gang) -> str:
    return f"trainingjob-{gang.job.name}"


def _begun(gang: Gang) -> bool:
    """Whether the current attempt's pods have been made."""
    created = gang.job.status.condition(ConditionType.CREATED)
    return created is not None and created.status == "True"


def _out(gang: Gang, reason: str) -> Admission:
    """No quota: who has pods saves and ends, who has none waits."""
    return Admission(state=State.PREEMPTED if _begun(gang) else State.WAITING, reason=objects.bounded(reason))


def _why_not(gang: Gang, workload: Object) -> str:
    """Kueue's own words why a Workload isn't admitted."""
    checks = workload.get("status", {}).get("admissionChecks") or []
    if objects.holds(workload, "QuotaReserved"):
        open_ = next((one for one in checks if one.get("state") != "Ready"), None)
        if open_:
            return f"admission check {open_['name']} is {open_['state']}: {open_.get('message') or 'no message'}"
        return f"Workload {name_of(gang)} has quota and is not admitted yet"
    if workload["spec"].get("active") is False:
        return f"Workload {name_of(gang)} is not active"
    told = objects.said(objects.condition(workload, "QuotaReserved"))
    return told or f"queue {gang.queue} has not looked at Workload {name_of(gang)}"


def _of_the_set(entries: Iterable[Object] | None) -> list[Object]:
    return [one for one in entries or () if one.get("name", POD_SET) == POD_SET]


def _placed(labels: object, tolerations: object) -> Object:
    named = (("nodeSelector", labels), ("tolerations", tolerations))
    return {name: value for name, value in named if value}


def _given_back(workload: Object) -> int:
    return sum(one["count"] for one in workload.get("status", {}).get("reclaimablePods") or [])


def let_go(obj: Object) -> tuple[Patch, ...]:
    """Takes our finalizer off an object that is to go."""
    return _without_finalizer(obj) if objects.is_going(obj) else ()


def _without_finalizer(obj: Object) -> tuple[Patch, ...]:
    all_of_them = obj["metadata"].get("finalizers", [])
    left = [one for one in all_of_them if one != FINALIZER]
    return (Patch(object=obj, body={"metadata": {"finalizers": left}}),) if left != all_of_them else ()


def _switched(gang: Gang, workload: Object, stage: Stage) -> Upkeep | None:
    """A suspended job's Workload is inactive: Kueue takes its quota, and gives it to others."""
    ours = SUSPENDED_ANNOTATION in workload["metadata"].get("annotations", {})
    active = workload["spec"].get("active", True)
    if gang.job.spec.run_policy.suspend and active:
        body = {"metadata": {"annotations": {SUSPENDED_ANNOTATION: "true"}}, "spec": {"active": False}}
    elif stage is Stage.WANTED and ours:
        body = {"metadata": {"annotations": {SUSPENDED_ANNOTATION: None}}, "spec": {"active": True}}
    else:
        return None
    return Upkeep(patch=(Patch(object=workload, body=body),))


def _freed(workload: Object, evicted: Object, pods: Pods) -> Upkeep:
    """The last pod has ended: this is what frees the quota."""
    message = evicted.get("message") or ""
    again = evicted.get("reason") in _REQUEUED_AT_ONCE
    conditions = _with(workload, pods, "Requeued", again, evicted.get("reason") or "Evicted", message)
    conditions = _with({"status": {"conditions": conditions}}, pods, "QuotaReserved", False, "Pending", message)
    if objects.holds(workload, "Admitted"):
        conditions = _with({"status": {"conditions": conditions}}, pods, "Admitted", False, "NoReservation", "no quota reserved")
    status = {"conditions": conditions, "admission": None, "reclaimablePods": None}
    return Upkeep(patch=(Patch(object=workload, body={"status": status}, status=True),))


def _finished(workload: Object, stage: Stage, pods: Pods) -> Upkeep:
    """Its end, then no more finalizer."""
    if objects.holds(workload, "Finished"):
        return Upkeep(patch=_without_finalizer(workload))
    word = "Succeeded" if stage is Stage.SUCCEEDED else "Failed"
    conditions = _with(workload, pods, "Finished", True, word, f"the job has {'succeeded' if word == 'Succeeded' else 'failed'}")
    return Upkeep(patch=(Patch(object=workload, body={"status": {"conditions": conditions}}, status=True),))


def _reported(gang: Gang, workload: Object, pods: Pods) -> Upkeep:
    """Whether the pods are ready, for who waits for that; and which have ended, so that their quota is others'."""
    workers = [one for one in pods.there if one.attempt == gang.job.attempt]
    ended = sum(one.state is WorkerState.SUCCEEDED for one in workers)
    up = ended + sum(one.state is WorkerState.RUNNING for one in workers)
    ready, known = up == gang.size, objects.condition(workload, "PodsReady")
    status: Object = {}
    if ready != (known.get("status") == "True") and (ready or known):
        word, message = ("Started", "all workers run") if ready else ("WaitForStart", f"{up} of {gang.size} workers run")
        status["conditions"] = _with(workload, pods, "PodsReady", ready, word, message)
    if _given_back(workload) < ended < gang.size:
        status["reclaimablePods"] = [{"name": POD_SET, "count": ended}]
    return Upkeep(patch=(Patch(object=workload, body={"status": status}, status=True),)) if status else Upkeep()


def _with(workload: Object, pods: Pods, kind: str, holds: bool, reason: str, message: str) -> list[Object]:
    """All conditions, one of them anew: a merge patch has the list whole."""
    others = [one for one in workload.get("status", {}).get("conditions") or [] if one["type"] != kind]
    status = "True" if holds else "False"
    before = objects.condition(workload, kind)
    since = before["lastTransitionTime"] if before.get("status") == status else rfc3339(pods.at)
    found = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
    if "generation" in workload.get("metadata", {}):
        found["observedGeneration"] = workload["metadata"]["generation"]
    return [*others, found]
