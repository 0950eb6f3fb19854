"""What the queue of `capacity` reads out of raw jobs and pods: who holds room, which workers need a place, what would be lost."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import UID, job
from support.gangs import GPU, gpus
from support.pods import ended, running
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright.schedulers.capacity.facts import Memory, Priority, read_gang, read_pod, read_priorities, read_wish, wants_room
from trainwright.schedulers.capacity.pins import pin
from trainwright.schedulers.capacity.queue import JUST_NOW, Gang

NOW = 1795251720.0
QUEUED = {"type": "Queued", "status": "True", "lastTransitionTime": "2026-11-21T09:00:00Z"}
ADMITTED = {**QUEUED, "status": "False"}
NONE = Memory()
RUNS = {"type": "Running", "status": "True", "lastTransitionTime": "2026-11-21T09:01:00Z"}


def pods(attempt: int = 1) -> list[dict[str, Any]]:
    one = job().workers(2).gpus(2).typed(status={"attempt": attempt})
    made = [worker_pod(one, index, Settings()) for index in range(2)]
    for index, pod in enumerate(made):
        pod["metadata"] |= {"uid": f"{attempt}-{index}"}
        pod["spec"] |= pin(f"n{index}")["spec"]
    return made


def read(status: dict[str, Any], *there: dict[str, Any], memory: Memory = NONE) -> Gang:
    raw = job().workers(2).gpus(2).stored(status=status)
    one = job().workers(2).gpus(2).typed()
    wish = read_wish(one, worker_pod(one, 0, Settings()))
    return read_gang(raw, wish, Priority(), [read_pod(pod) for pod in there], memory, NOW)


@pytest.mark.parametrize(
    ("status", "attempt", "holds"),
    [
        ({}, None, False),
        ({"phase": "Queued", "conditions": [QUEUED]}, None, False),
        ({"phase": "Queued", "conditions": [QUEUED]}, 1, True),
        ({"phase": "Starting"}, None, True),
        ({"phase": "Running"}, None, True),
        ({"phase": "Restarting", "attempt": 2, "conditions": [ADMITTED]}, 1, True),
        ({"phase": "Queued", "attempt": 2, "conditions": [QUEUED]}, 1, False),
        ({"phase": "Queued", "attempt": 2, "conditions": [ADMITTED]}, None, False),
    ],
    ids=[
        "a new job doesn't",
        "one that waits doesn't",
        "one whose pods were made before it was said does",
        "one that starts does",
        "one whose pods have vanished does, until that is decided on",
        "one between two attempts does",
        "one that was preempted and still has pods doesn't",
        "one that was resumed doesn't",
    ],
)
def test_who_holds_room(status: dict[str, Any], attempt: int | None, holds: bool) -> None:
    assert read(status, *(pods(attempt) if attempt else [])).holding is holds


def test_who_was_admitted_a_moment_ago_holds_room() -> None:
    gang = read({}, memory=Memory(granted=True, places={0: "n0", 1: "n1"}))
    assert (gang.holding, gang.since, gang.hints, gang.missing) == (True, JUST_NOW, {0: "n0", 1: "n1"}, [0, 1])


def test_pods_count_where_they_are_made_for_before_they_are_there() -> None:
    gang = read({"phase": "Queued"}, *pods())
    assert gang.there == {0: "n0", 1: "n1"}
    assert gang.held["n0"] == {"pods": 1000, **gpus(2)}
    assert gang.missing == []


def test_the_room_of_a_worker_that_failed_stays_the_gangs_until_it_starts_anew() -> None:
    first, second = pods()
    gang = read({"phase": "Running", "conditions": [ADMITTED]}, ended(running(first, node="n0"), 1), running(second, node="n1"))
    assert (gang.missing, gang.hints, list(gang.held)) == ([0], {0: "n0"}, ["n1"])
    again = read({"phase": "Restarting", "attempt": 2, "conditions": [ADMITTED]}, ended(first, 1), running(second, node="n1"))
    assert (again.missing, again.kept, list(again.held)) == ([0, 1], {1: "n1"}, ["n1"])


def test_a_worker_that_is_done_needs_no_room() -> None:
    first, second = pods()
    gang = read({"phase": "Running"}, ended(running(first, node="n0"), 0), running(second, node="n1"))
    assert (gang.missing, gang.there, list(gang.held)) == ([], {0: "", 1: "n1"}, ["n1"])


@pytest.mark.parametrize(
    ("status", "unsaved"),
    [
        ({"phase": "Running", "conditions": [RUNS]}, 4 * 60.0),
        ({"phase": "Running", "conditions": [RUNS], "checkpoint": {"step": 1, "time": "2026-11-21T09:01:50Z"}}, 4 * 10.0),
        ({"phase": "Running", "conditions": [RUNS], "checkpoint": {"step": 1, "time": "2026-11-21T08:00:00Z"}}, 4 * 60.0),
        ({"phase": "Starting"}, 0.0),
    ],
    ids=["since it runs", "since its checkpoint", "an older checkpoint was its start", "it has done nothing yet"],
)
def test_what_would_be_lost(status: dict[str, Any], unsaved: float) -> None:
    assert read(status).unsaved == unsaved


@pytest.mark.parametrize(
    ("change", "wants"),
    [
        ({}, True),
        ({"spec": {"runPolicy": {"suspend": True}}}, False),
        ({"spec": {"runPolicy": {"managedBy": "somebody.else/else"}}}, False),
        ({"status": {"phase": "Succeeded"}}, False),
        ({"status": {"phase": "Suspended"}}, False),
        ({"metadata": {"deletionTimestamp": "2026-11-21T09:00:00Z"}}, False),
    ],
)
def test_who_wants_room(change: dict[str, Any], wants: bool) -> None:
    raw = job().stored(status={"phase": "Queued"})
    assert wants_room({**raw, **{key: {**raw[key], **value} for key, value in change.items()}}) is wants


def test_a_pod_of_somebody_else_that_wears_our_labels_is_in_no_gang() -> None:
    pod = pods()[0]
    assert read_pod(pod).owners == (UID,)
    pod["metadata"]["name"] = "mine"
    assert read_pod(pod).owners == ()
    assert read_pod(pod).request[GPU] == 2000, "and counts all the same"


def test_priorities() -> None:
    found = read_priorities(
        [
            {"metadata": {"name": "high"}, "value": 100},
            {"metadata": {"name": "polite"}, "value": 50, "preemptionPolicy": "Never"},
            {"metadata": {"name": "usual"}, "value": 10, "globalDefault": True},
        ]
    )
    assert found["high"] == Priority(100, True, "high")
    assert found["polite"] == Priority(50, False, "polite")
    assert found[None] == found["usual"] == Priority(10, True, "usual")
    assert read_priorities([])[None] == Priority(0, True)
