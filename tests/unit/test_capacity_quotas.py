"""ResourceQuotas in the queue of `capacity`: which of them a pod counts for, and for how much; who waits for one, and holds up nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import job
from support.gangs import GPU, admitted, decided, gang, holding, node, quota
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright.schedulers.capacity.amounts import limits_of
from trainwright.schedulers.capacity.facts import Memory, Priority, read_gang, read_wish
from trainwright.schedulers.capacity.quotas import Charge, Quota, Scope, charge_of, counts, read_quota

GI = 2**30 * 1000
TWO = [node("n1", 8), node("n2", 8)]


# --- what a pod counts for ------------------------------------------------------------------------------------------


def raw(spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": "gpus", "namespace": "team"}, "spec": spec, **({"status": status} if status else {})}


def container(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> dict[str, Any]:
    return {"resources": {**({"requests": requests} if requests else {}), **({"limits": limits} if limits else {})}}


@pytest.mark.parametrize(
    ("spec", "amounts"),
    [
        ({"containers": [{"name": "a"}]}, {}),
        (
            {"containers": [container({"cpu": "500m"}, {"cpu": "2"})]},
            {"cpu": 500, "requests.cpu": 500, "limits.cpu": 2000},
        ),
        (
            {"containers": [container(limits={"memory": "1Gi"})]},
            {"memory": GI, "requests.memory": GI, "limits.memory": GI},
        ),
        (
            {"containers": [container({"ephemeral-storage": "1Gi"})]},
            {"ephemeral-storage": GI, "requests.ephemeral-storage": GI},
        ),
        ({"containers": [container(limits={GPU: "4"})]}, {f"requests.{GPU}": 4000}),
        (
            {"containers": [container(limits={"hugepages-2Mi": "1Gi"})]},
            {"hugepages-2Mi": GI, "requests.hugepages-2Mi": GI},
        ),
        ({"containers": [container({"cpu": "0"})]}, {}),
        (
            {"containers": [container({"cpu": "1"})], "initContainers": [container(limits={"cpu": "3"})]},
            {"cpu": 3000, "requests.cpu": 3000, "limits.cpu": 3000},
        ),
    ],
    ids=[
        "a pod",
        "requests and limits each on their own",
        "a limit without a request is one",
        "storage of the node's",
        "devices by requests alone",
        "huge pages",
        "nothing of what it asks nothing of",
        "a step that asks for more",
    ],
)
def test_what_a_pod_counts_for(spec: dict[str, Any], amounts: dict[str, int]) -> None:
    assert charge_of({"spec": spec}).amounts == {"pods": 1000, "count/pods": 1000, **amounts}


def test_limits_count_like_requests_and_overhead_only_where_there_is_a_limit() -> None:
    spec = {
        "containers": [container(limits={"cpu": "1"}), container(limits={"cpu": "2"})],
        "initContainers": [{"restartPolicy": "Always", **container(limits={"cpu": "1"})}],
        "overhead": {"cpu": "500m", "memory": "1Gi"},
    }
    assert limits_of({"spec": spec}) == {"cpu": 4500}
    assert limits_of({"spec": {**spec, "resources": {"limits": {"cpu": "2"}}}}) == {"cpu": 2500}


@pytest.mark.parametrize(
    ("spec", "best_effort"),
    [
        ({"containers": [container()]}, True),
        ({"containers": [container(limits={GPU: "1"})]}, True),
        ({"containers": [container({"cpu": "0"})]}, True),
        ({"containers": [container({"cpu": "0"}, {"cpu": "1"})]}, False),
        ({"containers": [container(), container({"memory": "1"})]}, False),
        ({"containers": [container()], "initContainers": [container({"cpu": "1"})]}, False),
    ],
    ids=["asks for nothing", "a GPU is no quality", "asks for no core", "has a limit", "one of two asks", "a step asks"],
)
def test_who_gets_the_best_effort(spec: dict[str, Any], best_effort: bool) -> None:
    assert charge_of({"spec": spec}).best_effort is best_effort


BARE = Charge(best_effort=True)
URGENT = Charge(priority_class="urgent")


@pytest.mark.parametrize(
    ("scope", "charge", "within"),
    [
        (Scope("NotTerminating"), BARE, True),
        (Scope("Terminating"), BARE, False),
        (Scope("Terminating"), Charge(terminating=True), True),
        (Scope("NotTerminating"), Charge(terminating=True), False),
        (Scope("BestEffort"), BARE, True),
        (Scope("NotBestEffort"), BARE, False),
        (Scope("NotBestEffort"), URGENT, True),
        (Scope("PriorityClass"), URGENT, True),
        (Scope("PriorityClass"), BARE, False),
        (Scope("PriorityClass", "DoesNotExist"), BARE, True),
        (Scope("PriorityClass", "DoesNotExist"), URGENT, False),
        (Scope("PriorityClass", "In", ("urgent", "high")), URGENT, True),
        (Scope("PriorityClass", "In", ("high",)), URGENT, False),
        (Scope("PriorityClass", "In", ("high",)), BARE, False),
        (Scope("PriorityClass", "NotIn", ("high",)), URGENT, True),
        (Scope("PriorityClass", "NotIn", ("urgent",)), URGENT, False),
        (Scope("PriorityClass", "NotIn", ("urgent",)), BARE, True),
        (Scope("PriorityClass", "Like", ("urgent",)), URGENT, False),
        (Scope("CrossNamespacePodAffinity"), BARE, False),
        (Scope("OfNextYear"), BARE, False),
    ],
    ids=lambda value: f"{value.name} {value.operator} {','.join(value.values)}" if isinstance(value, Scope) else None,
)
def test_scopes(scope: Scope, charge: Charge, within: bool) -> None:
    assert counts(Quota(namespace="a", name="a", scopes=(scope,)), charge) is within


def test_a_pod_counts_that_is_in_all_scopes() -> None:
    both = Quota(namespace="a", name="a", scopes=(Scope("NotTerminating"), Scope("NotBestEffort")))
    assert counts(both, URGENT)
    assert not counts(both, BARE)
    assert counts(Quota(namespace="a", name="a"), BARE)


def test_a_worker_has_no_deadline_of_its_own() -> None:
    one = job().run_policy(activeDeadlineSeconds=60).typed()
    assert not charge_of(worker_pod(one, 0, Settings())).terminating
    assert charge_of({"spec": {"containers": [], "activeDeadlineSeconds": 60}}).terminating


def test_who_names_no_class_counts_with_the_cluster_s_default() -> None:
    def read(one: Any, priority: Priority) -> str:
        wish = read_wish(one.typed(), worker_pod(one.typed(), 0, Settings()))
        return read_gang(one.stored(), wish, priority, (), Memory(), 0.0).charge.priority_class

    urgent = job().run_policy(schedulingPolicy={"priorityClass": "urgent"})
    assert read(job(), Priority(10, True, "usual")) == "usual"
    assert read(job(), Priority()) == ""
    assert read(urgent, Priority(100, True, "urgent")) == "urgent"
    assert read(urgent, Priority(10, True, "usual")) == "urgent", "a class that is not there is the API server's to refuse"


# --- what a quota says ------------------------------------------------------------------------------------------------


def test_a_quota_is_what_its_status_says() -> None:
    hard = {f"requests.{GPU}": "8", "limits.memory": "1Gi", "services": "5", "requests.storage": "10Gi", "pods": "10"}
    used = {f"requests.{GPU}": "2", "limits.memory": "512Mi", "services": "5", "requests.storage": "1Gi", "pods": "1"}
    found = read_quota(raw({"hard": {**hard, "pods": "20"}, "scopes": ["NotTerminating"]}, {"hard": hard, "used": used}))
    assert found == Quota(
        namespace="team",
        name="gpus",
        hard={f"requests.{GPU}": 8000, "limits.memory": GI, "pods": 10_000},
        used={f"requests.{GPU}": 2000, "limits.memory": GI // 2, "pods": 1000},
        scopes=(Scope("NotTerminating"),),
    )


@pytest.mark.parametrize(
    "status",
    [None, {"hard": {"pods": "1"}}, {"used": {"pods": "1"}}, {"hard": {"pods": "1"}, "used": {"cpu": "1"}}],
    ids=["no status", "nothing counted yet", "nothing allowed yet", "another key"],
)
def test_what_is_not_known_yet_limits_nothing(status: dict[str, Any] | None) -> None:
    found = read_quota(raw({"hard": {"pods": "1"}}, status))
    assert found.hard == {}
    assert admitted(decided(TWO, [gang("team/a", 2, 1)], quotas=[found])) == {"team/a"}


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("pods", True),
        ("count/pods", True),
        ("cpu", True),
        ("requests.memory", True),
        ("limits.ephemeral-storage", True),
        (f"requests.{GPU}", True),
        ("hugepages-2Mi", True),
        ("requests.hugepages-2Mi", True),
        ("services", False),
        ("services.loadbalancers", False),
        ("count/jobs.batch", False),
        ("count/trainingjobs.trainwright.dev", False),
        ("persistentvolumeclaims", False),
        ("requests.storage", False),
        ("limits.storage", False),
        ("gold.storageclass.storage.k8s.io/requests.storage", False),
        (GPU, False),
        (f"limits.{GPU}", False),
    ],
)
def test_keys_that_are_for_pods(key: str, kept: bool) -> None:
    assert (key in read_quota(raw({}, {"hard": {key: "1"}, "used": {key: "0"}})).hard) is kept


def test_selectors_are_scopes_too() -> None:
    selector = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}
    found = read_quota(raw({"scopes": ["NotBestEffort"], "scopeSelector": selector}))
    assert found.scopes == (Scope("NotBestEffort"), Scope("PriorityClass", "In", ("high",)))


# --- who waits for one ------------------------------------------------------------------------------------------------


def test_who_is_beyond_a_quota_waits_with_its_numbers() -> None:
    decision = decided(TWO, [gang("team/a", 1, 4)], quotas=[quota("team", 8, 6)])
    assert decision.waiting == ("team/a",)
    assert decision.answers["team/a"].reason == f"quota gpus of namespace team: needs 4 requests.{GPU}; 2 of 8 left"


@pytest.mark.parametrize(
    ("quotas", "said"),
    [
        ([quota("team", 8, 1)], f"quota gpus of namespace team: needs 2 × 4 requests.{GPU}; 7 of 8 left"),
        ([quota("team", 4, 9)], f"quota gpus of namespace team: needs 2 × 4 requests.{GPU}; 0 of 4 left"),
        ([quota("team", 1, key="pods", name="few")], "quota few of namespace team: needs 2 × 1 pods; 1 of 1 left"),
        (
            [quota("team", 7), quota("team", 1, key="pods", name="few")],
            f"quota few of namespace team: needs 2 × 1 pods; 1 of 1 left; quota gpus of namespace team: needs 2 × 4 requests.{GPU}; "
            "7 of 7 left",
        ),
        (
            [quota("team", 1, name=name) for name in "abcd"],
            "; ".join(f"quota {name} of namespace team: needs 2 × 4 requests.{GPU}; 1 of 1 left" for name in "abc"),
        ),
    ],
    ids=["of several workers", "what was made smaller than what is used", "of pods", "of two quotas", "of many quotas three"],
)
def test_lines(quotas: list[Quota], said: str) -> None:
    assert decided(TWO, [gang("team/a", 2, 4)], quotas=quotas).answers["team/a"].reason == said


def test_memory_is_written_as_memory() -> None:
    one = replace(gang("team/a", 2, 1), charge=Charge(amounts={"limits.memory": 16 * GI}))
    known = Quota(namespace="team", name="ram", hard={"limits.memory": 24 * GI}, used={"limits.memory": 0})
    said = "quota ram of namespace team: needs 2 × 16Gi limits.memory; 24Gi of 24Gi left"
    assert decided(TWO, [one], quotas=[known]).answers["team/a"].reason == said


@pytest.mark.parametrize(
    "known",
    [
        quota("other", 1),
        quota("team", 1, key="requests.amd.com/gpu"),
        quota("team", 1, scopes=(Scope("Terminating"),)),
        quota("team", 1, scopes=(Scope("PriorityClass", "In", ("high",)),)),
        quota("team", 2, key="pods"),
        quota("team", 8),
    ],
    ids=[
        "of another namespace",
        "of another resource",
        "for others' deadlines",
        "for another class",
        "of pods enough",
        "just enough",
    ],
)
def test_quotas_that_are_not_in_the_way(known: Quota) -> None:
    assert admitted(decided(TWO, [gang("team/a", 2, 4)], quotas=[known])) == {"team/a"}


def test_what_it_needs_nothing_of_may_be_overdrawn() -> None:
    assert admitted(decided(TWO, [gang("team/a", 2, 0)], quotas=[quota("team", 1, 2)])) == {"team/a"}


def test_who_waits_for_a_quota_holds_up_nobody() -> None:
    there = holding(gang("x/x", 1, 8), "n1")
    head, small, other = gang("team/head", 2, 8, at=1), gang("team/small", 1, 2, at=2), gang("x/other", 1, 6, at=3)
    decision = decided(TWO, [there, head, small, other], quotas=[quota("team", 8)])
    assert admitted(decision) == {"x/x", "team/small", "x/other"}
    assert decision.answers["team/head"].reason == f"quota gpus of namespace team: needs 2 × 8 requests.{GPU}; 6 of 8 left"


def test_two_gangs_do_not_get_the_same_left_over() -> None:
    first, second = gang("team/a", 1, 3, at=1), gang("team/b", 1, 3, at=2)
    decision = decided(TWO, [second, first], quotas=[quota("team", 8, 3)])
    assert admitted(decision) == {"team/a"}
    assert decision.answers["team/b"].reason == f"quota gpus of namespace team: needs 3 requests.{GPU}; 2 of 8 left"
    # What was granted counts until its pods are there, and then by what the quota says.
    granted = replace(first, holding=True, hints={0: "n1"}, since="~")
    assert decided(TWO, [second, granted], quotas=[quota("team", 8, 3)]).answers["team/b"] == decision.answers["team/b"]
    there = holding(first, "n1")
    assert decided(TWO, [second, there], quotas=[quota("team", 8, 6)]).answers["team/b"] == decision.answers["team/b"]


def test_a_gang_that_is_being_made_counts_for_the_pods_that_are_missing() -> None:
    part = replace(gang("team/a", 2, 3), holding=True, there={0: "n1"}, held={"n1": {GPU: 3000}})
    waits = gang("team/b", 1, 3)
    assert admitted(decided(TWO, [part, waits], quotas=[quota("team", 8, 3)])) == {"team/a"}
    assert admitted(decided(TWO, [part, waits], quotas=[quota("team", 9, 3)])) == {"team/a", "team/b"}


def test_a_restart_keeps_its_quota_and_counts_once() -> None:
    again = replace(gang("team/a", 2, 3), holding=True, kept={0: "n1"}, held={"n1": {GPU: 3000}}, hints={1: "n2"})
    waits = gang("team/b", 1, 3)
    assert admitted(decided(TWO, [again, waits], quotas=[quota("team", 8, 3)])) == {"team/a"}, "the worker that has ended, too"
    assert admitted(decided(TWO, [again, waits], quotas=[quota("team", 9, 3)])) == {"team/a", "team/b"}, "and the other not twice"
    assert admitted(decided(TWO, [again], quotas=[quota("team", 4, 3)])) == {"team/a"}, "it is not sent back"


def test_nobody_is_preempted_for_who_waits_for_a_quota() -> None:
    low = [holding(gang("x/a", 1, 8), "n1"), holding(gang("x/b", 1, 8), "n2")]
    high = gang("team/high", 1, 8, priority=10)
    assert decided(TWO, [*low, high], quotas=[quota("team", 4)]).answers["team/high"].preempting == ()
    assert decided(TWO, [*low, high], quotas=[quota("team", 8)]).answers["team/high"].preempting == ("x/a",)


def test_the_quota_of_who_makes_room_counts_until_it_is_free() -> None:
    going = replace(holding(gang("team/low", 1, 8), "n1"), evicted="preempted by team/high")
    high = gang("team/high", 1, 8, priority=10)
    assert admitted(decided(TWO, [going, high], quotas=[quota("team", 8, 8)])) == set()
    assert admitted(decided(TWO, [high], quotas=[quota("team", 8, 0)])) == {"team/high"}


def test_what_the_first_needs_of_a_quota_is_kept_with_its_places() -> None:
    there = holding(gang("x/x", 1, 8), "n1")
    head, small = gang("team/head", 2, 8, at=1), gang("team/small", 1, 1, at=2, selector={"zone": "b"})
    nodes = [*TWO, node("n3", 4, zone="b")]
    decision = decided(nodes, [there, head, small], quotas=[quota("team", 16)])
    assert admitted(decision) == {"x/x"}
    assert decision.answers["team/small"].reason == (
        f"needs 1 {GPU}; what is left of quota gpus of namespace team is kept for team/head, which is ahead; 1 job ahead"
    )
    assert admitted(decided(nodes, [there, head, small], quotas=[quota("team", 17)])) == {"x/x", "team/small"}


def test_who_is_far_back_is_told_no_numbers_of_quotas() -> None:
    many = [gang(f"team/g{number:02d}", 1, 4, at=number) for number in range(20)]
    answers = decided(TWO, many, quotas=[quota("team", 3)]).answers
    assert answers["team/g09"].reason.startswith("quota gpus of namespace team: needs 4")
    assert answers["team/g10"].reason == f"needs 4 {GPU}; quotas of its namespace leave less; 10 jobs or more ahead"
