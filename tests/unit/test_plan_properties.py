"""Properties of the planner: whatever happens to the pods, in whatever order it is seen."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import job
from support.pods import ended, running, unschedulable, waiting
from trainwright.api.job import TrainingJob, parse
from trainwright.observe.observed import observe
from trainwright.observe.times import seconds
from trainwright.plan.accounting import so_far
from trainwright.plan.plan import plan
from trainwright.plan.types import Settings
from trainwright.schedulers.base import UNDECIDED, UNGATED, Admission, State
from trainwright.schedulers.capacity.pins import pin

NOW = 1795254000.0
SETTINGS = Settings()

FATES = {
    "run": running,
    "wait": lambda pod: waiting(pod, reason="ContainerCreating"),
    "no node": lambda pod: unschedulable(pod, "0/1 nodes are available"),
    "done": lambda pod: ended(pod, 0),
    "fail": lambda pod: ended(pod, 1, message={"cause": "Error", "rank": 0, "time": NOW, "lines": ["x"]}),
    "killed": lambda pod: ended(pod, 137),
    "peer": lambda pod: ended(pod, 1, message={"cause": "PeerLost", "rank": 0, "time": NOW - 60}),
    "gone": lambda _: None,
}
WORKERS = 3
fates = st.lists(st.sampled_from(sorted(FATES)), min_size=WORKERS, max_size=WORKERS)
history = st.lists(fates | st.just(["suspend"]), min_size=1, max_size=6)


class World:
    """A cluster of one job: pods live here; `step` carries one plan out as the operator would. `admission`: what a provider says."""

    def __init__(self) -> None:
        self.admission = UNGATED
        self.builder = job().workers(WORKERS).run_policy(backoffLimit=2)
        self.status: dict[str, Any] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.children: list[dict[str, Any]] = []
        self.now = NOW
        self.suspended = False

    @property
    def job(self) -> TrainingJob:
        self.builder.run_policy(backoffLimit=2, suspend=self.suspended)
        return parse(self.builder.stored(status=self.status))

    def step(self, *, shuffle: random.Random | None = None) -> bool:
        """One pass; whether it changed anything."""
        pods = list(self.pods.values())
        if shuffle:
            shuffle.shuffle(pods)
        observed = observe(uid=self.job.uid, pods=pods, children=self.children)
        decided = plan(self.job, observed, self.now, SETTINGS, self.admission)
        self.children += decided.make
        for pod in decided.create:
            pod["metadata"]["uid"] = pod["metadata"]["name"]
            assert pod["metadata"]["name"] not in self.pods, "a pod is created twice"
            self.pods[pod["metadata"]["name"]] = pod | {"status": {"phase": "Pending"}}
        for deletion in decided.delete:
            del self.pods[deletion.name]
        new = decided.status.wire()
        changed = not decided.empty or new != self.status
        self.status = new
        return changed

    def settle(self, shuffle: random.Random | None = None) -> None:
        """Plan and carry out until nothing changes, an hour later, so that every pause is over."""
        self.now += 3600
        for _ in range(12):
            if not self.step(shuffle=shuffle):
                return
        raise AssertionError("planning never comes to rest")

    def meet(self, fates: list[str]) -> None:
        """Every live pod of the current attempt meets its fate; a job may be suspended or resumed too."""
        if "suspend" in fates:
            self.suspended = not self.suspended
            return
        for name, pod in list(self.pods.items()):
            index = int(name.rsplit("-", 1)[1])
            finished = pod["status"].get("phase") in ("Succeeded", "Failed")
            if f"-a{self.job.attempt}-" in name and not finished:
                changed = FATES[fates[index]](pod)
                if changed is None:
                    del self.pods[name]
                else:
                    self.pods[name] = changed


@settings(max_examples=150, deadline=None)
@given(history)
def test_planning_comes_to_rest_and_a_pass_at_rest_writes_nothing(rounds: list[list[str]]) -> None:
    world = World()
    for fates in rounds:
        world.settle()
        world.meet(fates)
    world.settle()
    assert not world.step()


@settings(max_examples=150, deadline=None)
@given(history, st.integers())
def test_the_order_in_which_pods_are_seen_does_not_matter(rounds: list[list[str]], seed: int) -> None:
    ordered, shuffled, chance = World(), World(), random.Random(seed)
    for fates in rounds:
        for world, how in ((ordered, None), (shuffled, chance)):
            world.settle(how)
            world.meet(fates)
    ordered.settle()
    shuffled.settle(chance)
    assert ordered.status == shuffled.status
    assert ordered.pods.keys() == shuffled.pods.keys()


@settings(max_examples=150, deadline=None)
@given(history)
def test_counts_hold_whatever_happens(rounds: list[list[str]]) -> None:
    world = World()
    for fates in rounds:
        world.settle()
        world.meet(fates)
    world.settle()
    status = world.job.status
    assert status.restarts.failure <= 2
    assert status.restarts.total == status.restarts.failure + status.restarts.infrastructure
    assert status.attempt is not None
    assert status.attempt >= status.restarts.total + 1
    if not any("suspend" in fates for fates in rounds):
        assert status.attempt == status.restarts.total + 1
    live = [name for name in world.pods if f"-a{status.attempt}-" in name]
    assert len(live) <= WORKERS
    spent = so_far(status, world.now)
    assert sum(spent.model_dump().values()) == (seconds(status.completion_time) or world.now) - (NOW + 3600), (
        "no second is lost or counted twice"
    )
    if status.phase == "Suspended":
        assert not live or all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in world.pods.values())
    if status.phase in ("Queued", "Starting", "Restarting", "Suspended"):
        assert status.reason, "nothing waits without a reason"


ANSWERS = {
    "undecided": UNDECIDED,
    "waits": Admission(state=State.WAITING, reason="needs 4 nvidia.com/gpu; 0 of 8 free"),
    "admitted": Admission(state=State.ADMITTED, pods={index: pin(f"n{index}") for index in range(WORKERS)}),
    "in part": Admission(state=State.ADMITTED, pods={0: pin("n0")}),
    "preempted": Admission(state=State.PREEMPTED, reason="preempted by default/urgent"),
}


class QueuedWorld(World):
    """Told something else in each round; a preemption is over once it is written, as it is for a provider."""

    def step(self, *, shuffle: random.Random | None = None) -> bool:
        before = set(self.pods)
        changed = super().step(shuffle=shuffle)
        if self.admission is ANSWERS["preempted"] and self.job.status.phase == "Queued":
            self.admission = ANSWERS["waits"]
        new = set(self.pods) - before
        assert not new or self.admission is ANSWERS["admitted"] or len(before & self.current()) == WORKERS - 1
        return changed

    def current(self) -> set[str]:
        return {name for name in self.pods if f"-a{self.job.attempt}-" in name}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(ANSWERS)), fates | st.just(["suspend"])), min_size=1, max_size=6))
def test_whatever_a_provider_says_planning_comes_to_rest_and_no_gang_stays_in_part(rounds: list[tuple[str, list[str]]]) -> None:
    world = QueuedWorld()
    for answer, fates in rounds:
        world.admission = ANSWERS[answer]
        world.settle()
        world.meet(fates)
    world.admission = ANSWERS["waits"]
    world.settle()
    assert not world.step()
    status = world.job.status
    assert len(world.current()) in (0, WORKERS) or status.finished, "a gang is whole, or it is not there"
    assert status.restarts.failure <= 2
    if status.phase == "Queued":
        assert status.reason
    queued = {one.type: one.status for one in status.conditions}.get("Queued")
    if status.finished or status.phase == "Suspended":
        assert queued in (None, "False")
