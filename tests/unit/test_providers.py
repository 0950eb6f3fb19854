"""Providers that are told by objects: what they ask for, what they make of the answers, and when objects go. No cluster."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import job
from trainwright.api.errors import InvalidSpec
from trainwright.api.job import TrainingJob, check
from trainwright.api.names import ATTEMPT_LABEL
from trainwright.api.scheduling import ProviderName
from trainwright.observe.workers import Worker, WorkerState
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright.schedulers.base import State
from trainwright.schedulers.objects import Api, Gang, Object, Pods, Stage, Upkeep, unserved
from trainwright.schedulers.told import providers

VERSIONS = {
    ProviderName.NATIVE: ["v1alpha2", "v1beta1"],
    ProviderName.VOLCANO: ["v1beta1"],
    ProviderName.COSCHEDULING: ["v1alpha1"],
    ProviderName.KAI: ["v2alpha2"],
}
ALL = [pytest.param(provider, version, id=f"{provider}-{version}") for provider, found in VERSIONS.items() for version in found]


def asking(provider: ProviderName, *, attempt: int = 1, workers: int = 3, **policy: Any) -> TrainingJob:
    made = job().workers(workers).spec(resources={"gpus": 2, "cpu": "500m", "memory": "1.5Gi"})
    made.run_policy(schedulingPolicy={"provider": str(provider), "queue": "team-a", **policy})
    return made.typed(status={"attempt": attempt})


def pods(of: TrainingJob, *there: Worker) -> Pods:
    return Pods(like=worker_pod(of, 0, Settings()), there=there)


def worker(attempt: int, state: WorkerState = WorkerState.RUNNING) -> Worker:
    return Worker(
        name=f"digits-a{attempt}-worker-0", uid="w", index=0, attempt=attempt, state=state, scheduled=True, deleting=False
    )


def stored(obj: Object, **status: Any) -> Object:
    metadata = {**obj["metadata"], "namespace": "default", "uid": f"uid-{obj['kind']}", "resourceVersion": "1"}
    return {**obj, "metadata": metadata, **({"status": status} if status else {})}


def asked(provider: ProviderName, version: str, of: TrainingJob) -> list[Object]:
    """All the objects that a provider wants for a job, as if each were made at once."""
    upkeep = providers({})[provider].upkeep(Gang(job=of, version=version), Stage.WANTED, pods(of))
    return [stored(one) for one in upkeep.make]


def answered(provider: ProviderName, version: str, of: TrainingJob, found: list[Object]) -> Any:
    return providers({})[provider].answer(Gang(job=of, version=version, objects=tuple(found)))


def group(found: list[Object]) -> Object:
    return next(one for one in found if one["kind"] == "PodGroup")


@pytest.mark.parametrize(("provider", "version"), ALL)
def test_no_pod_is_made_before_the_objects_are_there(provider: ProviderName, version: str) -> None:
    of = asking(provider)
    for there in ([], asked(provider, version, of)[:-1]):
        answer = answered(provider, version, of, there)
        assert answer.state is State.WAITING
        assert answer.pods is None
        assert "digits-a1 is being made" in answer.reason


@pytest.mark.parametrize(("provider", "version"), ALL)
def test_no_pod_is_made_into_a_group_that_is_about_to_go(provider: ProviderName, version: str) -> None:
    of = asking(provider)
    found = asked(provider, version, of)
    group(found)["metadata"]["deletionTimestamp"] = "2026-11-21T09:00:00Z"
    answer = answered(provider, version, of, found)
    assert answer.state is State.WAITING
    assert answer.reason == "PodGroup digits-a1 is being deleted; another follows it"


@pytest.mark.parametrize(("provider", "version"), ALL)
def test_objects_of_an_attempt_are_its_own_and_go_when_its_pods_have_ended(provider: ProviderName, version: str) -> None:
    first, second = asking(provider), asking(provider, attempt=2)
    old = [
        {**one, "metadata": {**one["metadata"], "labels": {**one["metadata"].get("labels", {}), ATTEMPT_LABEL: "1"}}}
        for one in asked(provider, version, first)
    ]
    keeper = providers({})[provider]
    gang = Gang(job=second, version=version, objects=tuple(old))
    running = keeper.upkeep(gang, Stage.WANTED, pods(second, worker(1)))
    assert {one["metadata"]["name"] for one in running.make} == {"digits-a2"}
    assert {one["metadata"]["labels"][ATTEMPT_LABEL] for one in running.make} == {"2"}
    assert not running.remove, "while a pod of the attempt may run, its group stays"
    ended = keeper.upkeep(gang, Stage.WANTED, pods(second, worker(1, WorkerState.FAILED)))
    assert list(ended.remove) == old


@pytest.mark.parametrize(("provider", "version"), ALL)
@pytest.mark.parametrize("stage", [Stage.RESTING, Stage.SUCCEEDED, Stage.FAILED])
def test_nothing_is_kept_for_a_gang_that_is_not_wanted(provider: ProviderName, version: str, stage: Stage) -> None:
    of = asking(provider)
    made = providers({})[provider].upkeep(Gang(job=of, version=version), Stage.WANTED, pods(of)).make
    gang = Gang(job=of, version=version, objects=tuple(stored(one) for one in made))
    keeper = providers({})[provider]
    assert not keeper.upkeep(gang, stage, pods(of, worker(1))).remove, "its pods still save"
    upkeep = keeper.upkeep(gang, stage, pods(of))
    assert [one["metadata"]["name"] for one in upkeep.remove] == ["digits-a1"] * len(made)
    assert not upkeep.make


@pytest.mark.parametrize(("provider", "version"), ALL)
def test_what_has_been_done_is_not_asked_for_again(provider: ProviderName, version: str) -> None:
    of = asking(provider)
    made = tuple(asked(provider, version, of))
    upkeep = providers({})[provider].upkeep(Gang(job=of, version=version, objects=made), Stage.WANTED, pods(of, worker(1)))
    assert upkeep == Upkeep()
    going = [{**one, "metadata": {**one["metadata"], "deletionTimestamp": "2026-11-21T09:00:00Z"}} for one in made]
    ended = providers({})[provider].upkeep(Gang(job=of, version=version, objects=tuple(going)), Stage.FAILED, pods(of))
    assert not ended.remove


def test_native_says_it_in_the_words_of_each_version() -> None:
    of = asking(ProviderName.NATIVE, priorityClass="urgent")
    workload, made = asked(ProviderName.NATIVE, "v1alpha2", of)
    gang = {"schedulingPolicy": {"gang": {"minCount": 3}}}
    assert workload["apiVersion"] == "scheduling.k8s.io/v1alpha2"
    assert workload["spec"] == {
        "controllerRef": {"apiGroup": "trainwright.dev", "kind": "TrainingJob", "name": "digits"},
        "podGroupTemplates": [{"name": "workers", **gang}],
    }
    template = {"workload": {"workloadName": "digits-a1", "podGroupTemplateName": "workers"}}
    assert made["spec"] == {"podGroupTemplateRef": template, **gang}
    workload, made = asked(ProviderName.NATIVE, "v1beta1", of)
    whole = {**gang, "disruptionMode": {"all": {}}, "priorityClassName": "urgent"}
    assert workload["spec"]["podGroupTemplates"] == [{"name": "workers", **whole}]
    assert made["spec"] == {"workloadRef": {"workloadName": "digits-a1", "templateName": "workers"}, **whole}


@pytest.mark.parametrize(("version", "condition"), [("v1alpha2", "PodGroupScheduled"), ("v1beta1", "PodGroupInitiallyScheduled")])
def test_pods_of_a_native_gang_wait_for_nodes_with_the_schedulers_own_words(version: str, condition: str) -> None:
    of = asking(ProviderName.NATIVE)
    found = asked(ProviderName.NATIVE, version, of)
    answer = answered(ProviderName.NATIVE, version, of, found)
    assert answer.state is State.ADMITTED
    assert answer.reason == ""
    assert answer.pods == {index: {"spec": {"schedulingGroup": {"podGroupName": "digits-a1"}}} for index in range(3)}
    said = {"type": condition, "status": "False", "reason": "Unschedulable", "message": "0/2 nodes\n are available: " + "x" * 999}
    group(found)["status"] = {"conditions": [said]}
    waits = answered(ProviderName.NATIVE, version, of, found)
    assert waits.state is State.ADMITTED
    assert waits.reason.startswith("0/2 nodes are available: xxx")
    assert len(waits.reason) == 300


def test_a_native_gang_whose_room_is_taken_is_preempted() -> None:
    of = asking(ProviderName.NATIVE)
    found = asked(ProviderName.NATIVE, "v1beta1", of)
    taken = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for default/urgent"}
    group(found)["status"] = {"conditions": [taken]}
    answer = answered(ProviderName.NATIVE, "v1beta1", of, found)
    assert (answer.state, answer.reason) == (State.PREEMPTED, "for default/urgent")


def test_volcano_is_told_what_the_gang_needs_in_all() -> None:
    of = asking(ProviderName.VOLCANO, priorityClass="urgent")
    (made,) = asked(ProviderName.VOLCANO, "v1beta1", of)
    assert made["spec"] == {
        "minMember": 3,
        "minResources": {"cpu": "1500m", "memory": "4.5Gi", "nvidia.com/gpu": "6"},
        "queue": "team-a",
        "priorityClassName": "urgent",
    }


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        pytest.param({}, State.WAITING, "queue team-a has not let PodGroup digits-a1 in (Pending)", id="not looked at"),
        pytest.param(
            {"phase": "Pending"}, State.WAITING, "queue team-a has not let PodGroup digits-a1 in (Pending)", id="pending"
        ),
        pytest.param(
            {"phase": "Pending", "conditions": [{"type": "Unschedulable", "status": "True", "message": "queue\nis full"}]},
            State.WAITING,
            "queue is full",
            id="its own words",
        ),
        pytest.param({"phase": "Inqueue"}, State.ADMITTED, "", id="let in"),
        pytest.param(
            {"phase": "Inqueue", "conditions": [{"type": "Unschedulable", "status": "True", "reason": "NotEnoughResources"}]},
            State.ADMITTED,
            "NotEnoughResources",
            id="let in and without nodes",
        ),
        pytest.param(
            {"phase": "Running", "conditions": [{"type": "Unschedulable", "status": "True", "message": "long ago"}]},
            State.ADMITTED,
            "",
            id="runs",
        ),
        pytest.param({"phase": "Unknown"}, State.WAITING, "queue team-a has not let PodGroup digits-a1 in (Unknown)", id="torn"),
    ],
)
def test_volcano_lets_pods_be_made_when_the_group_is_in_the_queue(status: dict[str, Any], state: State, reason: str) -> None:
    of = asking(ProviderName.VOLCANO)
    (made,) = asked(ProviderName.VOLCANO, "v1beta1", of)
    answer = answered(ProviderName.VOLCANO, "v1beta1", of, [stored(made, **status)])
    assert (answer.state, answer.reason) == (state, reason)
    if state is State.ADMITTED:
        pod = answer.added_to(worker_pod(of, 0, Settings()), 0)
        assert pod["spec"]["schedulerName"] == "volcano"
        assert pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == "digits-a1"
        assert pod["metadata"]["labels"]["trainwright.dev/job"] == "digits", "ours stay"


def test_volcano_has_a_queue_of_its_own_for_who_names_none() -> None:
    of = asking(ProviderName.VOLCANO, queue="team-a")
    spec = of.spec.run_policy.scheduling.model_copy(update={"queue": None})
    policy = of.spec.run_policy.model_copy(update={"scheduling_policy": spec})
    unnamed = TrainingJob(**{**of.__dict__, "spec": of.spec.model_copy(update={"run_policy": policy})})
    (made,) = asked(ProviderName.VOLCANO, "v1beta1", unnamed)
    assert "queue" not in made["spec"]


def test_coscheduling_is_told_by_a_label_and_by_a_schedulers_name_only_where_it_has_one() -> None:
    of = asking(ProviderName.COSCHEDULING, scheduleTimeoutSeconds=77)
    (made,) = asked(ProviderName.COSCHEDULING, "v1alpha1", of)
    assert made["spec"] == {
        "minMember": 3,
        "minResources": {"cpu": "1500m", "memory": "4.5Gi", "nvidia.com/gpu": "6"},
        "scheduleTimeoutSeconds": 77,
    }
    gang = Gang(job=of, version="v1alpha1", objects=(made,))
    label = {"metadata": {"labels": {"scheduling.x-k8s.io/pod-group": "digits-a1"}}}
    assert providers({})[ProviderName.COSCHEDULING].answer(gang).pods == dict.fromkeys(range(3), label)
    named = providers({ProviderName.COSCHEDULING: "gangs"})[ProviderName.COSCHEDULING].answer(gang).pods
    assert named == {index: {**label, "spec": {"schedulerName": "gangs"}} for index in range(3)}


def test_kai_is_told_the_queue_and_tells_why_a_gang_waits() -> None:
    of = asking(ProviderName.KAI, priorityClass="train")
    (made,) = asked(ProviderName.KAI, "v2alpha2", of)
    assert made["spec"] == {"minMember": 3, "queue": "team-a", "priorityClassName": "train"}
    why = {"type": "UnschedulableOnNodePool", "status": "True", "reasons": [{"message": "no"}, {"message": "quota"}]}
    answer = answered(ProviderName.KAI, "v2alpha2", of, [stored(made, schedulingConditions=[why])])
    assert (answer.state, answer.reason) == (State.ADMITTED, "no; quota")
    assert answer.pods[2] == {
        "metadata": {"annotations": {"pod-group-name": "digits-a1"}, "labels": {"kai.scheduler/queue": "team-a"}},
        "spec": {"schedulerName": "kai-scheduler"},
    }


def test_a_queue_that_is_needed_and_not_named_is_refused_by_its_field() -> None:
    raw = job().run_policy(schedulingPolicy={"provider": "kai"}).build()
    with pytest.raises(
        InvalidSpec, match=r"spec.runPolicy.schedulingPolicy.queue: it is missing; kai and kueue take no job without"
    ):
        check(raw)
    check(job().run_policy(schedulingPolicy={"provider": "volcano"}).build())


def test_a_queue_that_the_operators_default_needs_is_asked_for_in_the_wait_line() -> None:
    of = job().typed()
    answer = answered(ProviderName.KAI, "v2alpha2", of, [])
    assert answer.state is State.WAITING
    assert answer.reason == "spec.runPolicy.schedulingPolicy.queue is missing; kai takes no job without the name of a queue"
    upkeep = providers({})[ProviderName.KAI].upkeep(Gang(job=of, version="v2alpha2"), Stage.WANTED, pods(of))
    assert not upkeep.make


@pytest.mark.parametrize(
    ("found", "version"),
    [
        ({"v1": ("PriorityClass",), "v1alpha2": ("PodGroup", "Workload")}, "v1alpha2"),
        ({"v1alpha2": ("PodGroup", "Workload"), "v1beta1": ("PodGroup", "Workload")}, "v1beta1"),
        ({"v1": ("PriorityClass",), "v1beta1": ("PodGroup",)}, None),
        ({"v1alpha1": ("Workload",)}, None),
        ({}, None),
    ],
)
def test_the_best_version_is_the_newest_one_known_that_has_all_kinds(found: dict[str, tuple[str, ...]], version: str) -> None:
    assert providers({})[ProviderName.NATIVE].api.served(found) == version


def test_a_provider_that_is_not_there_is_told_of_with_those_that_are() -> None:
    api = Api(group="scheduling.volcano.sh", versions=("v1beta1",), kinds={"PodGroup": "podgroups"})
    assert unserved("volcano", api, ["native", "kai"]).reason == (
        "provider volcano needs PodGroup of scheduling.volcano.sh/v1beta1, which this cluster doesn't serve; "
        "of the providers there are here: kai, native"
    )
    assert unserved("volcano", api, []).reason.endswith("here: none that is told by objects")
