"""The planner's gate: no pod before the gang is admitted, back to the queue when it has to, and the way of none unchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import job
from support.pods import running, unschedulable
from trainwright.api.job import TrainingJob, parse
from trainwright.api.reasons import Reason
from trainwright.observe.observed import observe
from trainwright.plan.plan import plan
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Plan, Settings
from trainwright.schedulers.base import UNDECIDED, UNGATED, Admission, State
from trainwright.schedulers.capacity.pins import pin, pinned_to

NOW = 1795254000.0
SETTINGS = Settings()
WAITING = Admission(state=State.WAITING, reason="needs 4 nvidia.com/gpu; 0 of 8 free")
ADMITTED = Admission(state=State.ADMITTED, pods={0: pin("n1"), 1: pin("n2")}, timeout=120.0)
PREEMPTED = Admission(state=State.PREEMPTED, reason="preempted by team/urgent (priority 9, this job's 0)")


def of(builder: Any, **status: Any) -> TrainingJob:
    return parse(builder.stored(status=status or None))


def decided(one: TrainingJob, admission: Admission, pods: list[dict[str, Any]] | None = None, *, now: float = NOW) -> Plan:
    return plan(one, observe(uid=one.uid, pods=pods or [], children=[]), now, SETTINGS, admission)


def pods_of(one: TrainingJob, *, made: str = "2026-11-21T09:00:00Z") -> list[dict[str, Any]]:
    pods = [worker_pod(one, index, SETTINGS) for index in range(one.spec.workers)]
    for pod in pods:
        pod["metadata"] |= {"uid": pod["metadata"]["name"], "creationTimestamp": made}
        pod["status"] = {"phase": "Pending"}
    return pods


def condition(decision: Plan, kind: str) -> tuple[str, str] | None:
    found = next((one for one in decision.status.conditions if one.type == kind), None)
    return (found.status, found.reason) if found else None


def applied(one: TrainingJob, decision: Plan) -> TrainingJob:
    return replace(one, status=decision.status)


def test_nothing_is_made_or_said_before_anything_is_decided() -> None:
    one = of(job().workers(2))
    decision = decided(one, UNDECIDED)
    assert decision.empty
    assert decision.status == one.status


def test_a_gang_that_waits_has_no_pods_and_says_why() -> None:
    decision = decided(of(job().workers(2)), WAITING)
    assert decision.empty
    assert (decision.status.phase, decision.status.reason) == ("Queued", WAITING.reason)
    assert condition(decision, "Queued") == ("True", "WaitsForRoom")
    assert condition(decision, "Created") is None


def test_waiting_on_writes_nothing_more() -> None:
    one = of(job().workers(2))
    waits = applied(one, decided(one, WAITING))
    again = decided(waits, WAITING, now=NOW + 500)
    assert again.empty
    assert again.status == waits.status


def test_an_admitted_gang_has_its_pods_made_for_their_nodes_and_says_so_in_the_same_write() -> None:
    decision = decided(of(job().workers(2)), ADMITTED)
    assert [pinned_to(pod) for pod in decision.create] == ["n1", "n2"]
    assert condition(decision, "Queued") == ("False", "Admitted")
    assert condition(decision, "Created") == ("True", "GangCreated")


def test_with_none_nothing_is_said_of_queues() -> None:
    decision = decided(of(job().workers(2)), UNGATED)
    assert len(decision.create) == 2
    assert condition(decision, "Queued") is None
    assert all("nodeAffinity" not in pod["spec"].get("affinity", {}) for pod in decision.create)


def test_a_pod_whose_place_is_not_known_is_not_made() -> None:
    some = Admission(state=State.ADMITTED, pods={0: pin("n1")})
    assert decided(of(job().workers(2)), some).create == ()


def test_the_rest_of_a_gang_is_made_where_it_has_its_place() -> None:
    one = of(job().workers(2))
    decision = decided(one, Admission(state=State.ADMITTED, pods={1: pin("n2")}), pods_of(one)[:1])
    assert [pinned_to(pod) for pod in decision.create] == ["n2"]


def test_what_an_affinity_of_the_gangs_own_says_stays() -> None:
    one = of(job().workers(1).spec(placement={"topologyKey": "zone"}))
    (pod,) = decided(one, Admission(state=State.ADMITTED, pods={0: pin("n1")})).create
    assert set(pod["spec"]["affinity"]) == {"podAffinity", "nodeAffinity"}


@pytest.mark.parametrize("admission", [WAITING, UNDECIDED])
def test_a_whole_gang_is_left_alone_whatever_is_said_of_room(admission: Admission) -> None:
    one = of(job().workers(2), phase="Running", attempt=1)
    pods = [running(pod) for pod in pods_of(one)]
    decision = decided(one, admission, pods)
    assert decision.delete == decision.create == ()
    assert decision.status.phase == "Running"


def test_what_there_is_of_a_gang_whose_rest_no_longer_fits_goes() -> None:
    one = of(job().workers(2))
    decision = decided(one, WAITING, pods_of(one)[:1])
    assert (decision.status.attempt, decision.status.phase) == (2, "Queued")
    assert condition(decision, "Queued") == ("True", "NoLongerFits")
    assert decision.delete == (), "it is written down before anything is deleted"
    later = decided(applied(one, decision), WAITING, pods_of(one)[:1])
    assert [deletion.name for deletion in later.delete] == ["digits-a1-worker-0"]
    assert later.status.reason == (
        "attempt 1: 1 of 2 workers were made, and the others can't be; needs 4 nvidia.com/gpu; 0 of 8 free"
    )


class TestPreemption:
    def job(self) -> TrainingJob:
        return of(
            job().workers(2),
            phase="Running",
            phaseSince="2026-11-21T09:00:00Z",
            attempt=1,
            checkpoint={"step": 100, "time": "2026-11-21T09:01:30Z"},
            restarts={"failure": 1, "total": 1},
            conditions=[
                {"type": "Created", "status": "True", "reason": "GangCreated", "lastTransitionTime": "2026-11-21T09:00:00Z"},
                {"type": "Queued", "status": "False", "reason": "Admitted", "lastTransitionTime": "2026-11-21T09:00:00Z"},
            ],
        )

    def test_it_is_written_down_first_and_not_counted(self) -> None:
        one = self.job()
        decision = decided(one, PREEMPTED, [running(pod) for pod in pods_of(one)], now=1795251720.0)
        status = decision.status
        assert decision.delete == ()
        assert (status.phase, status.attempt) == ("Queued", 2)
        assert status.reason == "attempt 1 preempted by team/urgent (priority 9, this job's 0)"
        assert (status.restarts.failure, status.restarts.infrastructure, status.restarts.total) == (1, 1, 2)
        assert status.restarts.by_cause == {"Preempted": 1}
        assert condition(decision, "Queued") == ("True", "Preempted")
        (event,) = decision.events
        assert (event.reason, event.message) == (Reason.PREEMPTED, status.reason)
        assert event.reason.warning

    def test_what_came_after_the_last_checkpoint_is_lost_until_more_is_known(self) -> None:
        one = self.job()
        decision = decided(one, PREEMPTED, [running(pod) for pod in pods_of(one)], now=1795251720.0)
        assert decision.status.time is not None
        assert (decision.status.time.productive_seconds, decision.status.time.lost_seconds) == (90, 30)

    def test_its_workers_have_their_own_grace_to_save_in(self) -> None:
        one = self.job()
        pods = [running(pod) for pod in pods_of(one)]
        queued = applied(one, decided(one, PREEMPTED, pods))
        decision = decided(queued, WAITING, pods)
        assert [deletion.grace for deletion in decision.delete] == [None, None]
        assert decision.status.phase == "Queued"
        assert decision.status.reason is not None
        assert decision.status.reason.startswith("attempt 1 preempted by team/urgent")
        assert decision.status.reason.endswith("0 of 8 free")

    def test_it_goes_on_as_the_next_attempt_once_its_pods_are_gone(self) -> None:
        one = self.job()
        pods = [running(pod) for pod in pods_of(one)]
        queued = applied(one, decided(one, PREEMPTED, pods))
        still = decided(queued, ADMITTED, pods)
        assert (still.create, still.status.phase) == ((), "Queued")
        again = decided(queued, ADMITTED)
        assert [pod["metadata"]["name"] for pod in again.create] == ["digits-a2-worker-0", "digits-a2-worker-1"]
        assert condition(again, "Queued") == ("False", "Admitted")

    def test_who_preempts_says_whom_once(self) -> None:
        one = of(job("urgent"))
        admission = replace(WAITING, preempting=("team/small",))
        decision = decided(one, admission)
        (event,) = decision.events
        assert (event.reason, event.message) == (Reason.PREEMPTING, "make room for it: team/small")
        assert condition(decision, "Queued") == ("True", "Preempting")
        assert decided(applied(one, decision), admission).empty


def test_of_many_that_make_room_three_are_named() -> None:
    many = replace(WAITING, preempting=tuple(f"team/j{number}" for number in range(5)))
    (event,) = decided(of(job("urgent")), many).events
    assert event.message == "make room for it: team/j0, team/j1, team/j2 and 2 more"


class TestScheduleTimeout:
    def test_a_gang_whose_pods_find_no_node_in_time_is_taken_back(self) -> None:
        one = of(job().workers(2), attempt=1)
        first, second = pods_of(one)
        pods = [running(first), unschedulable(second, "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity.")]
        made = 1795251600.0
        waits = decided(one, ADMITTED, pods, now=made + 119)
        assert waits.status.attempt == 1
        assert waits.requeue_after == 1.0
        decision = decided(one, ADMITTED, pods, now=made + 120)
        assert (decision.status.attempt, decision.status.phase) == (2, "Queued")
        assert decision.status.restarts.total == 0
        assert decision.status.reason == (
            "attempt 1: 1 of 2 workers had no node after 120 s (0/3 nodes are available: 3 node(s) didn't match Pod's node affinity.)"
        )
        assert [event.reason for event in decision.events] == [Reason.SCHEDULE_TIMEOUT]

    def test_pods_that_have_their_node_may_take_as_long_as_they_need(self) -> None:
        one = of(job().workers(2), attempt=1)
        pods = pods_of(one)
        for pod in pods:
            pod["spec"]["nodeName"] = "n1"
        assert decided(one, ADMITTED, pods, now=NOW + 9999).status.attempt == 1


@pytest.mark.parametrize("suspend", [True, False])
def test_a_job_that_is_set_aside_or_over_waits_no_more(suspend: bool) -> None:
    one = of(job())
    waits = applied(one, decided(one, WAITING))
    policy = {"suspend": True} if suspend else {"activeDeadlineSeconds": 60}
    ended = replace(waits, spec=of(job().run_policy(**policy)).spec)
    decision = decided(ended, WAITING, now=NOW + 3600)
    assert decision.status.phase == ("Suspended" if suspend else "Failed")
    assert condition(decision, "Queued") == ("False", "Suspended" if suspend else "DeadlineExceeded")


def test_the_priority_of_the_policy_is_that_of_the_pods() -> None:
    (pod,) = decided(of(job().run_policy(schedulingPolicy={"priorityClass": "urgent"})), UNGATED).create
    assert pod["spec"]["priorityClassName"] == "urgent"


@pytest.mark.parametrize(
    ("spec", "node"),
    [
        (pin("n1")["spec"], "n1"),
        ({}, ""),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}, ""),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
                        }
                    }
                }
            },
            "",
        ),
    ],
    ids=["made for a node", "made for any", "no terms", "made for a zone"],
)
def test_which_node_a_pod_is_made_for(spec: dict[str, Any], node: str) -> None:
    assert pinned_to({"spec": spec}) == node
