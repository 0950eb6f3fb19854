"""Kueue's provider: what its Workload says of a gang's pods, and what is written into it. No cluster."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import job
from trainwright.api.job import TrainingJob
from trainwright.observe.workers import Worker, WorkerState
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright.schedulers.base import State
from trainwright.schedulers.kueue import FINALIZER, SUSPENDED_ANNOTATION, Kueue
from trainwright.schedulers.objects import Gang, Object, Pods, Stage

CREATED = {"type": "Created", "status": "True", "reason": "GangCreated", "lastTransitionTime": "2026-11-21T09:00:00Z"}
FLAVOR = {"spec": {"nodeLabels": {"gpu": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}}
NOW = 1795254000.0


def asking(*, begun: bool = False, attempt: int = 1, suspend: bool = False, **policy: Any) -> TrainingJob:
    made = job().workers(2).run_policy(schedulingPolicy={"provider": "kueue", "queue": "team-a", **policy}, suspend=suspend)
    return made.typed(status={"attempt": attempt, "phase": "Running", "conditions": [CREATED] if begun else []})


def gang(of: TrainingJob, workload: Object | None = None, **others: Object) -> Gang:
    found = {("ResourceFlavor" if name == "fast" else "PriorityClass", name): one for name, one in others.items()}
    return Gang(job=of, version="v1beta2", objects=(workload,) if workload else (), others=found)


def pods(of: TrainingJob, *states: WorkerState) -> Pods:
    there = tuple(
        Worker(name=f"w{index}", uid=f"u{index}", index=index, attempt=of.attempt, state=state, scheduled=True, deleting=False)
        for index, state in enumerate(states)
    )
    return Pods(like=worker_pod(of, 0, Settings()), there=there, at=NOW)


def said(kind: str, status: bool = True, reason: str = "A", message: str = "") -> Object:
    time = "2026-11-21T09:00:00Z"
    return {"type": kind, "status": str(status), "reason": reason, "message": message, "lastTransitionTime": time}


ADMITTED = (said("QuotaReserved"), said("Admitted"))


def workload(*conditions: Object, spec: Object | None = None, annotations: Object | None = None, **status: Any) -> Object:
    metadata = {
        "name": "trainingjob-digits",
        "namespace": "default",
        "uid": "w",
        "resourceVersion": "7",
        "generation": 3,
        "finalizers": [FINALIZER, "other"],
        "annotations": annotations or {},
    }
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": metadata,
        "spec": {"active": True, **(spec or {})},
        "status": {"conditions": list(conditions), **status},
    }


@pytest.mark.parametrize(
    ("conditions", "begun", "state", "reason"),
    [
        pytest.param([], False, State.WAITING, "queue team-a has not looked at", id="not looked at"),
        pytest.param([said("QuotaReserved", False, "Pending", "no\nquota")], False, State.WAITING, "no quota", id="no quota"),
        pytest.param(
            [said("QuotaReserved")], False, State.WAITING, "Workload trainingjob-digits has quota and is not", id="not admitted"
        ),
        pytest.param(ADMITTED, False, State.ADMITTED, "", id="admitted"),
        pytest.param(ADMITTED, True, State.ADMITTED, "", id="admitted and begun"),
        pytest.param([*ADMITTED, said("Evicted", message="for x")], True, State.PREEMPTED, "for x", id="evicted with pods"),
        pytest.param([*ADMITTED, said("Evicted", message="for x")], False, State.WAITING, "for x", id="evicted without"),
        pytest.param([said("Finished", message="rejected")], False, State.WAITING, "rejected", id="finished by Kueue"),
    ],
)
def test_what_conditions_mean(conditions: list[Object], begun: bool, state: State, reason: str) -> None:
    answer = Kueue().answer(gang(asking(begun=begun), workload(*conditions)))
    assert answer.state is state
    assert answer.reason.startswith(reason)


def test_pods_get_what_flavors_and_checks_add() -> None:
    assigned = {"name": "workers", "count": 2, "flavors": {"cpu": "fast", "memory": "fast"}, "topologyAssignment": {"levels": []}}
    check = {
        "name": "c",
        "podSetUpdates": [{"name": "workers", "nodeSelector": {"b": "c"}, "annotations": {"d": "e"}}, {"name": "o"}],
    }
    admitted = workload(*ADMITTED, admission={"podSetAssignments": [assigned]}, admissionChecks=[check])
    answer = Kueue().answer(gang(asking(), admitted, fast=FLAVOR))
    assert answer.pods is not None
    assert answer.pods[1] == {
        "metadata": {
            "labels": {"kueue.x-k8s.io/podset": "workers"},
            "annotations": {"kueue.x-k8s.io/workload": "trainingjob-digits", "d": "e"},
        },
        "spec": {
            "nodeSelector": {"gpu": "fast", "b": "c"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "schedulingGates": [{"name": "kueue.x-k8s.io/topology"}],
        },
    }
    missing = Kueue().answer(gang(asking(), admitted))
    assert (missing.state, missing.reason) == (State.WAITING, "ResourceFlavor fast is not there")


def test_a_gang_is_not_made_of_fewer_than_it_needs() -> None:
    admitted = workload(*ADMITTED, admission={"podSetAssignments": [{"name": "workers", "count": 1}]})
    answer = Kueue().answer(gang(asking(), admitted))
    assert (answer.state, answer.reason) == (State.WAITING, "Workload trainingjob-digits was admitted with 1 of 2 workers")


def test_a_class_of_priority_is_named_with_its_value_and_waited_for() -> None:
    of = asking(priorityClass="urgent")
    assert Kueue().answer(gang(of)).reason == "PriorityClass urgent is not there"
    assert not Kueue().upkeep(gang(of), Stage.WANTED, pods(of)).make
    (made,) = Kueue().upkeep(gang(of, urgent={"value": 7}), Stage.WANTED, pods(of)).make
    assert made["spec"]["priority"] == 7
    assert made["spec"]["priorityClassRef"] == {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "urgent"}
    assert "env" not in made["spec"]["podSets"][0]["template"]["spec"]["containers"][0], (
        "what workers are told is no matter of quota"
    )


@pytest.mark.parametrize(("reason", "again"), [("Preempted", "True"), ("NodeFailures", "True"), ("PodsReadyTimeout", "False")])
def test_quota_goes_back_with_the_last_pod(reason: str, again: str) -> None:
    of = asking(attempt=2)
    found = gang(of, workload(*ADMITTED, said("Evicted", reason=reason, message="why")))
    assert not Kueue().upkeep(found, Stage.WANTED, pods(of, WorkerState.RUNNING)).patch
    (patch,) = Kueue().upkeep(found, Stage.WANTED, pods(of, WorkerState.FAILED)).patch
    assert patch.status
    conditions = {one["type"]: one for one in patch.body["status"]["conditions"]}
    assert {kind: one["status"] for kind, one in conditions.items()} == {
        "Evicted": "True",
        "Requeued": again,
        "QuotaReserved": "False",
        "Admitted": "False",
    }
    assert conditions["QuotaReserved"]["lastTransitionTime"] == "2026-11-21T09:40:00Z"
    assert patch.body["status"]["admission"] is None
    freed = gang(of, workload(*conditions.values()))
    assert not Kueue().upkeep(freed, Stage.WANTED, pods(of)).patch, "once"


def test_a_suspended_jobs_workload_is_inactive_and_active_again_only_if_we_did_it() -> None:
    suspended = asking(suspend=True)
    (patch,) = Kueue().upkeep(gang(suspended, workload(*ADMITTED)), Stage.RESTING, pods(suspended)).patch
    assert patch.body == {"metadata": {"annotations": {SUSPENDED_ANNOTATION: "true"}}, "spec": {"active": False}}
    of, inactive = asking(), {"active": False}
    (back,) = (
        Kueue()
        .upkeep(gang(of, workload(spec=inactive, annotations={SUSPENDED_ANNOTATION: "true"})), Stage.WANTED, pods(of))
        .patch
    )
    assert back.body["spec"] == {"active": True}
    theirs = gang(of, workload(spec=inactive))
    assert not Kueue().upkeep(theirs, Stage.WANTED, pods(of)).patch
    assert Kueue().answer(theirs).reason == "Workload trainingjob-digits is not active"


@pytest.mark.parametrize(("stage", "word"), [(Stage.SUCCEEDED, "Succeeded"), (Stage.FAILED, "Failed")])
def test_an_end_is_told_once_and_then_the_finalizer_goes(stage: Stage, word: str) -> None:
    of = asking(begun=True)
    found = workload(*ADMITTED)
    assert not Kueue().upkeep(gang(of, found), stage, pods(of, WorkerState.RUNNING)).patch, "not while a pod runs"
    (patch,) = Kueue().upkeep(gang(of, found), stage, pods(of, WorkerState.SUCCEEDED)).patch
    (finished,) = [one for one in patch.body["status"]["conditions"] if one["type"] == "Finished"]
    assert (finished["status"], finished["reason"]) == ("True", word)
    ended = workload(*ADMITTED, finished)
    (last,) = Kueue().upkeep(gang(of, ended), stage, pods(of)).patch
    assert last.body == {"metadata": {"finalizers": ["other"]}}
    ended["metadata"]["finalizers"] = ["other"]
    assert not Kueue().upkeep(gang(of, ended), stage, pods(of)).patch


def test_readiness_and_ended_workers_are_told() -> None:
    of = asking(begun=True)
    up, done = WorkerState.RUNNING, WorkerState.SUCCEEDED
    assert not Kueue().upkeep(gang(of, workload(*ADMITTED)), Stage.WANTED, pods(of, up)).patch
    (patch,) = Kueue().upkeep(gang(of, workload(*ADMITTED)), Stage.WANTED, pods(of, up, done)).patch
    assert patch.body["status"]["reclaimablePods"] == [{"name": "workers", "count": 1}]
    assert patch.body["status"]["conditions"][-1]["type"] == "PodsReady"
    known = workload(*ADMITTED, said("PodsReady"), reclaimablePods=[{"name": "workers", "count": 1}])
    assert not Kueue().upkeep(gang(of, known), Stage.WANTED, pods(of, up, done)).patch
