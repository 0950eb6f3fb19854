"""The queue of `capacity`: who is admitted, where, who waits and why, who makes room."""

from __future__ import annotations

from typing import Any

import pytest

from support.gangs import GPU, admitted, decided, gang, gpus, holding, node
from trainwright.schedulers.base import UNGATED, Admission, State, merged
from trainwright.schedulers.capacity.amounts import request_of, thousandths, written
from trainwright.schedulers.capacity.nodes import Taint, Toleration, read_node, read_shape, refusal
from trainwright.schedulers.capacity.preemption import FEW

TWO = [node("n1", 4), node("n2", 4)]


def test_a_gang_that_fits_is_admitted_whole() -> None:
    answer = decided(TWO, [gang("a", 2, 4)]).answers["a"]
    assert answer.admitted
    assert answer.places == {0: "n1", 1: "n2"}


def test_a_gang_of_which_a_part_fits_is_not() -> None:
    decision = decided(TWO, [holding(gang("x", 1, 1), "n1"), gang("a", 2, 4)])
    assert admitted(decision) == {"x"}
    assert decision.waiting == ("a",)
    assert decision.answers["a"].reason == (
        "needs 2 × 4 nvidia.com/gpu; 7 of 8 free, most on one node 4 (n2); room for 1 of 2 workers"
    )


@pytest.mark.parametrize(
    ("first", "second", "goes"),
    [
        (gang("a", 1, 4, at=1), gang("b", 1, 4, at=2), "a"),
        (gang("a", 1, 4, at=1), gang("b", 1, 4, at=2, priority=10), "b"),
        (gang("b", 1, 4, at=1), gang("a", 1, 4, at=1), "a"),
    ],
    ids=["the older goes first", "priority goes before age", "of one age the uid decides"],
)
def test_who_goes_first(first: Any, second: Any, goes: str) -> None:
    assert admitted(decided([node("n1", 4)], [first, second])) == {goes}
    assert admitted(decided([node("n1", 4)], [second, first])) == {goes}


def test_small_gangs_go_into_small_holes() -> None:
    there = [holding(gang("x", 1, 6), "n1"), holding(gang("y", 1, 2), "n2")]
    answer = decided([node("n1", 8), node("n2", 8)], [*there, gang("a", 1, 2)]).answers["a"]
    assert answer.places == {0: "n1"}, "the hole of 6 stays whole"


def test_workers_without_gpus_go_where_there_are_none() -> None:
    plain = read_shape({"spec": {"containers": []}}, 1, None)
    from trainwright.schedulers.capacity.queue import Gang

    one = Gang(uid="a", name="a", shape=plain, created="1")
    assert decided([node("gpu", 8), node("plain", 0)], [one]).answers["a"].places == {0: "plain"}


def test_a_gang_takes_few_nodes() -> None:
    nodes = [node("n1", 2), node("n2", 8), node("n3", 3)]
    assert set(decided(nodes, [gang("a", 4, 2)]).answers["a"].places.values()) == {"n2"}


def test_workers_stay_in_one_zone_and_in_the_smaller_one_that_will_do() -> None:
    zones = [node("a1", 4, zone="a"), node("a2", 4, zone="a"), node("b1", 4, zone="b"), node("c1", 8, zone="c"), node("d", 8)]
    places = decided(zones, [gang("j", 2, 4, topology_key="zone")]).answers["j"].places
    assert set(places.values()) in ({"a1", "a2"}, {"c1"})
    waits = decided(zones, [gang("j", 3, 4, topology_key="zone")]).answers["j"]
    assert not waits.admitted
    assert "within one zone room for 2 of 3 workers at most (a)" in waits.reason
    assert "1 node without label zone" in waits.reason


# --- who waits, and what they keep ----------------------------------------------------------------------------------


def test_the_first_that_waits_keeps_its_places_and_a_smaller_one_goes_elsewhere() -> None:
    nodes = [node("n1", 4), node("n2", 4), node("n3", 2)]
    there = [holding(gang("x", 1, 4), "n1", since=1), holding(gang("y", 1, 2), "n2", since=2)]
    head, small, more = gang("head", 2, 3, at=1), gang("small", 1, 2, at=2), gang("more", 1, 2, at=3)
    decision = decided(nodes, [*there, head, small, more])
    assert admitted(decision) == {"x", "y", "small"}
    assert decision.answers["small"].places == {0: "n3"}
    assert decision.waiting == ("head", "more")
    assert "what is free is kept for head, which is ahead; 1 job ahead" in decision.answers["more"].reason


def test_room_that_the_first_does_not_need_is_open() -> None:
    there = [holding(gang("x", 1, 4), "n1")]
    decision = decided([node("n1", 4), node("n2", 5)], [*there, gang("head", 2, 4, at=1), gang("one", 1, 1, at=2)])
    assert decision.answers["one"].places == {0: "n2"}


def test_what_can_never_be_holds_up_nobody() -> None:
    decision = decided(TWO, [gang("huge", 1, 16, at=1), gang("a", 1, 4, at=2)])
    assert admitted(decision) == {"a"}
    assert decision.answers["huge"].reason == (
        "needs 16 nvidia.com/gpu; 4 of 8 free, most on one node 4 (n2); no node is so large"
    ), "the numbers are those after this decision's admissions"


def test_there_is_a_first_for_each_set_of_nodes() -> None:
    nodes = [node("a1", 4, pool="a"), node("b1", 4, pool="b")]
    there = [holding(gang("x", 1, 1), "a1"), holding(gang("y", 1, 1), "b1")]
    heads = [gang(f"head-{pool}", 1, 4, at=1, selector={"pool": pool}) for pool in "ab"]
    small = [gang(f"small-{pool}", 1, 1, at=2, selector={"pool": pool}) for pool in "ab"]
    assert admitted(decided(nodes, [*there, *heads, *small])) == {"x", "y"}


def test_of_many_that_wait_only_the_first_are_told_numbers() -> None:
    many = [gang(f"g{number:02d}", 1, 4, at=number) for number in range(30)]
    answers = decided([node("n1", 4)], [holding(gang("x", 1, 4), "n1"), *many]).answers
    assert answers["g09"].reason.endswith("; 9 jobs ahead")
    assert answers["g10"].reason == answers["g29"].reason == "needs 4 nvidia.com/gpu; 10 jobs or more ahead"


def test_a_line_names_the_queue() -> None:
    decision = decided(
        [node("n1", 4)], [holding(gang("x", 1, 4), "n1"), gang("a", 1, 1, at=1), gang("b", 1, 1, at=2, queue="team-a")]
    )
    assert decision.answers["b"].reason == "needs 1 nvidia.com/gpu; 0 of 4 free; 1 job ahead in queue team-a"


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("n1", 8, taints=(Taint("gpu", "reserved", "NoSchedule"),))], "no node will do; 1 node with taint gpu=reserved"),
        ([node("n1", 8, away="not ready"), node("n2", 8, away="cordoned")], "no node will do; 1 node cordoned; 1 node not ready"),
        ([], "no node will do: there are none"),
        ([node("n1", 8, pods=1)], "needs 2 pods; 1 of 1 free"),
        ([node("n1", 3)], "3 of 3 free; room for 1 of 2 workers"),
    ],
)
def test_lines_name_what_is_in_the_way(nodes: Any, said: str) -> None:
    assert said in decided(nodes, [gang("a", 2, 2)]).answers["a"].reason


def test_a_selector_that_no_node_has_is_named() -> None:
    answer = decided(TWO, [gang("a", 1, 1, selector={"gpu": "h200"})]).answers["a"]
    assert answer.reason == "needs 1 nvidia.com/gpu; no node will do; 2 nodes without label gpu=h200"


# --- who holds room ----------------------------------------------------------------------------------------------------


def restarting(one: Any, **fields: Any) -> Any:
    from dataclasses import replace

    return replace(one, holding=True, **fields)


def test_a_gang_between_two_attempts_keeps_its_room_and_its_nodes() -> None:
    again = restarting(gang("x", 2, 2, at=9), hints={0: "n2", 1: "n2"})
    decision = decided(TWO, [again, gang("a", 2, 4, at=1)])
    assert decision.answers["x"].places == {0: "n2", 1: "n2"}
    assert not decision.answers["a"].admitted


def test_room_that_an_earlier_pod_still_has_is_not_charged_twice() -> None:
    again = restarting(gang("x", 1, 4), kept={0: "n1"}, held={"n1": gpus(4)})
    decision = decided([node("n1", 4)], [again])
    assert decision.answers["x"].places == {0: "n1"}


def test_a_gang_whose_node_went_goes_elsewhere() -> None:
    again = restarting(gang("x", 1, 4), hints={0: "n1"})
    assert decided([node("n1", 4, away="not ready"), node("n2", 4)], [again]).answers["x"].places == {0: "n2"}


def test_a_gang_whose_node_went_waits_with_its_own_age_when_there_is_no_other() -> None:
    again = restarting(gang("x", 1, 4, at=5), hints={0: "n1"})
    decision = decided(
        [node("n1", 4, away="not ready"), node("n2", 4)], [again, holding(gang("y", 1, 4), "n2"), gang("a", 1, 4, at=7)]
    )
    assert decision.waiting == ("x", "a")


def test_the_rest_of_a_gang_that_was_being_created_goes_before_those_who_wait() -> None:
    part = restarting(gang("x", 2, 4, at=9), there={0: "n1"}, held={"n1": gpus(4)})
    decision = decided(TWO, [part, gang("a", 1, 4, at=1)])
    assert decision.answers["x"].places == {1: "n2"}
    assert not decision.answers["a"].admitted


def test_the_rest_of_a_gang_that_no_longer_fits_is_told_so() -> None:
    part = restarting(gang("x", 2, 4), there={0: "n1"}, held={"n1": gpus(4)})
    decision = decided(TWO, [part], foreign={"n2": gpus(1)})
    assert not decision.answers["x"].admitted
    assert decision.waiting == ()


# --- who makes room ----------------------------------------------------------------------------------------------------


def evicted(decision: Any) -> set[str]:
    return {uid for uid, answer in decision.answers.items() if answer.evicted}


def low(name: str, count: int, where: str, unsaved: float, **fields: Any) -> Any:
    return holding(gang(name, 1, count, unsaved=unsaved, **fields), where)


@pytest.mark.parametrize(
    ("there", "head", "victims"),
    [
        ([low("a", 4, "n1", 100), low("b", 4, "n2", 50)], gang("h", 1, 4, priority=1), {"b"}),
        ([low("a", 4, "n1", 100), low("b", 2, "n2", 60), low("c", 2, "n2", 60)], gang("h", 1, 4, priority=1), {"a"}),
        ([low("a", 4, "n1", 100), low("b", 2, "n2", 50), low("c", 2, "n2", 50)], gang("h", 1, 4, priority=1), {"a"}),
        ([low("a", 4, "n1", 0, priority=1), low("b", 4, "n2", 9)], gang("h", 1, 4, priority=1), {"b"}),
        ([low("a", 4, "n1", 0), low("b", 4, "n2", 0)], gang("h", 1, 4, priority=1, preempts=False), set()),
        ([low("a", 4, "n1", 0), low("b", 4, "n2", 0)], gang("h", 1, 8, priority=1), set()),
        ([low("a", 4, "n1", 0, priority=2), low("b", 4, "n2", 0)], gang("h", 2, 4, priority=1), set()),
        ([low("a", 4, "n1", 0), low("b", 1, "n2", 0)], gang("h", 1, 3, priority=1), set()),
    ],
    ids=[
        "who loses least",
        "one that loses 100 before two that lose 120",
        "of equal loss the fewest",
        "only strictly lower priorities",
        "a class that says Never preempts nobody",
        "nobody goes when it would not make room",
        "nobody goes when others of its priority would have to",
        "nobody goes when there is room",
    ],
)
def test_victims(there: Any, head: Any, victims: set[str]) -> None:
    decision = decided(TWO, [*there, head])
    assert evicted(decision) == victims
    assert set(decision.answers["h"].preempting) == victims


def test_who_preempts_whom_is_said() -> None:
    decision = decided([node("n1", 4)], [low("team/small", 4, "n1", 9), gang("team/urgent", 1, 4, priority=100)])
    assert decision.answers["team/small"].evicted == "preempted by team/urgent (priority 100, this job's 0)"
    assert decision.answers["team/urgent"].reason == (
        "needs 4 nvidia.com/gpu; 0 of 4 free; preempts team/small: their workers save and end"
    )


def test_nobody_else_goes_while_those_who_were_told_are_ending() -> None:
    from dataclasses import replace

    there = [replace(low("a", 4, "n1", 10), evicted="preempted by h"), low("b", 4, "n2", 0)]
    decision = decided(TWO, [*there, gang("h", 1, 4, priority=1)])
    assert evicted(decision) == {"a"}
    decision = decided(TWO, [low("b", 4, "n2", 0), gang("h", 1, 4, priority=1), gang("a", 1, 4)], going={"n1": gpus(4)})
    assert evicted(decision) == set()
    assert "waits for pods that are ending" in decision.answers["h"].reason
    assert not decision.answers["a"].admitted


def test_of_many_candidates_nobody_goes_who_need_not() -> None:
    nodes = [node(f"n{number:02d}", 4) for number in range(2 * FEW)]
    there = [low(f"g{number:02d}", 4, f"n{number:02d}", float(number)) for number in range(2 * FEW)]
    assert evicted(decided(nodes, [*there, gang("h", 2, 4, priority=1)])) == {"g00", "g01"}


# --- what pods ask for, and which nodes will do ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({"containers": [{"resources": {"requests": {"cpu": "500m"}}}, {"resources": {"limits": {"cpu": "1"}}}]}, {"cpu": 1500}),
        ({"containers": [{"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}}]}, {"cpu": 1000}),
        (
            {
                "containers": [{"resources": {"requests": {"cpu": "1"}}}],
                "initContainers": [{"resources": {"requests": {"cpu": "3"}}}],
            },
            {"cpu": 3000},
        ),
        (
            {
                "containers": [{"resources": {"requests": {"cpu": "1"}}}],
                "initContainers": [
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}},
                    {"resources": {"requests": {"cpu": "2"}}},
                ],
            },
            {"cpu": 4000},
        ),
        (
            {"containers": [{"resources": {"requests": {"memory": "1Gi"}}}], "overhead": {"memory": "1Gi"}},
            {"memory": 2 * 2**30 * 1000},
        ),
        ({"containers": [{"resources": {"requests": {"cpu": "1"}}}], "resources": {"requests": {"cpu": "2"}}}, {"cpu": 2000}),
        ({"containers": [{"name": "a"}]}, {}),
    ],
    ids=[
        "containers together",
        "requests before limits",
        "a step that asks for more",
        "a sidecar stays",
        "overhead",
        "the pod as a whole",
        "nothing",
    ],
)
def test_what_a_pod_asks_for(spec: dict[str, Any], asked: dict[str, int]) -> None:
    assert request_of({"spec": spec}) == asked | {"pods": 1000}


@pytest.mark.parametrize(
    ("quantity", "up", "down"), [("1.5", 1500, 1500), ("100u", 1, 0), ("2e3", 2_000_000, 2_000_000), ("x", 0, 0)]
)
def test_requests_are_rounded_up_and_room_down(quantity: str, up: int, down: int) -> None:
    assert (thousandths(quantity, up=True), thousandths(quantity, up=False)) == (up, down)


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [
        ("cpu", 1500, "1.5"),
        ("cpu", 250, "250m"),
        (GPU, 4000, "4"),
        ("memory", 16 * 2**30 * 1000, "16Gi"),
        ("memory", 1536 * 2**20 * 1000, "1.5Gi"),
        ("memory", 500_000, "500"),
    ],
)
def test_amounts_as_people_write_them(resource: str, amount: int, text: str) -> None:
    assert written(resource, amount) == text


TAINTED = {
    "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": "x", "effect": "PreferNoSchedule"}]}
}


@pytest.mark.parametrize(
    ("toleration", "comes"),
    [
        ({"key": "gpu", "operator": "Equal", "value": "yes"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_taints_keep_away_who_does_not_tolerate_them(toleration: dict[str, str], comes: bool) -> None:
    raw = {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}, **TAINTED}
    shape = read_shape({"spec": {"containers": [], "tolerations": [toleration]}}, 1, None)
    assert (refusal(shape, read_node(raw)) == "") is comes


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, "not ready"),
        ({"status": {}}, "not ready"),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"unschedulable": True}}, "cordoned"),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, ""),
    ],
)
def test_nodes_that_take_nobody(raw: dict[str, Any], why: str) -> None:
    assert read_node({"metadata": {"name": "n"}, **raw}).away == why


def test_an_empty_toleration_without_a_key_covers_nothing_by_value() -> None:
    assert not Toleration("", False, "", "").covers(Taint("gpu", "", "NoSchedule"))


# --- the seam ------------------------------------------------------------------------------------------------------------


def test_what_a_provider_adds_to_a_pod_is_merged_into_it() -> None:
    pod = {"metadata": {"labels": {"a": "1"}}, "spec": {"tolerations": [{"key": "x"}], "nodeSelector": {"a": "b"}}}
    addition = {
        "metadata": {"labels": {"queue": "q"}, "annotations": {"group": "g"}},
        "spec": {"tolerations": [{"key": "y"}], "nodeSelector": {"flavor": "big"}, "schedulerName": "volcano"},
    }
    assert merged(pod, addition) == {
        "metadata": {"labels": {"a": "1", "queue": "q"}, "annotations": {"group": "g"}},
        "spec": {
            "tolerations": [{"key": "x"}, {"key": "y"}],
            "nodeSelector": {"a": "b", "flavor": "big"},
            "schedulerName": "volcano",
        },
    }
    assert pod["metadata"] == {"labels": {"a": "1"}}, "the pod itself is as it was"


def test_an_admission_says_which_workers_it_knows_of() -> None:
    assert UNGATED.covers([0, 1])
    some = Admission(state=State.ADMITTED, pods={0: {"spec": {"nodeName": "n"}}})
    assert some.covers([0])
    assert not some.covers([0, 1])
    assert some.added_to({"spec": {}}, 0) == {"spec": {"nodeName": "n"}}
