"""Properties of the queue of `capacity`, over random clusters and jobs.

What is shown: no gang is admitted in part, and no node and no quota is promised twice; deciding again, or seeing things in another
order, changes nothing; when all jobs end, all have run; the first that waits starts no later than when those have ended which had been admitted
before it became the first, and enough of them in that order; where jobs end in the order in which they were admitted, it starts just
when it would if nobody were let past it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.gangs import GPU, decided, gang, gpus, holding, node, quota, used_by
from trainwright.schedulers.capacity.fit import fits
from trainwright.schedulers.capacity.nodes import Node, Taint, refusal
from trainwright.schedulers.capacity.queue import Decision, Gang
from trainwright.schedulers.capacity.quotas import Quota, Scope, counts

TAINT = (Taint("gpu", "reserved", "NoSchedule"),)
PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def clusters(draw: st.DrawFn) -> list[Node]:
    count = draw(st.integers(1, 5))
    return [
        node(
            f"n{number}",
            draw(st.integers(0, 8)),
            taints=draw(st.sampled_from([(), (), (), TAINT])),
            away=draw(st.sampled_from(["", "", "", "not ready"])),
            pods=draw(st.sampled_from([110, 110, 2])),
            zone=draw(st.sampled_from("ab")),
        )
        for number in range(count)
    ]


@st.composite
def queues(draw: st.DrawFn, *, priorities: int = 2, most: int = 8) -> list[Gang]:
    return [
        gang(
            f"{draw(st.sampled_from('xy'))}/g{number}",
            draw(st.integers(1, 4)),
            draw(st.integers(0, 4)),
            at=draw(st.integers(0, 3)),
            priority=draw(st.integers(0, priorities)),
            preempts=draw(st.booleans()),
            unsaved=float(draw(st.integers(0, 5))),
            topology_key=draw(st.sampled_from([None, None, "zone"])),
            selector=draw(st.sampled_from([{}, {}, {"zone": "a"}])),
        )
        for number in range(draw(st.integers(1, most)))
    ]


@st.composite
def all_quotas(draw: st.DrawFn) -> list[Quota]:
    return [
        quota(
            draw(st.sampled_from("xy")),
            draw(st.integers(0, 10)),
            name=f"q{number}",
            key=draw(st.sampled_from([f"requests.{GPU}", "pods"])),
            scopes=draw(st.sampled_from([(), (), (Scope("NotTerminating"),), (Scope("Terminating"),)])),
        )
        for number in range(draw(st.integers(0, 3)))
    ]


def for_gang(one: Gang, quotas: list[Quota]) -> list[tuple[Quota, str, int]]:
    """The quotas that a gang's pods count for, and how much for each of them."""
    of_it = [known for known in quotas if known.namespace == one.demand.namespace and counts(known, one.charge)]
    return [(known, key, each) for known in of_it for key in known.hard if (each := one.charge.amounts.get(key, 0))]


def counted(quotas: list[Quota], gangs: list[Gang]) -> list[Quota]:
    """Quotas as their status says once the pods of these gangs are counted."""
    used = {known.name: dict(known.used) for known in quotas}
    for one in gangs:
        for known, key, each in for_gang(one, quotas):
            used[known.name][key] += each * len(one.there)
    return [replace(known, used=used[known.name]) for known in quotas]


def running(one: Gang, decision: Decision, *, since: int = 0) -> Gang:
    """An admitted gang once its pods are there."""
    places = {**one.there, **decision.answers[one.uid].places}
    return holding(one, *(places[index] for index in range(one.shape.workers)), since=since)


def check(nodes: list[Node], gangs: list[Gang], decision: Decision, quotas: Sequence[Quota] = ()) -> None:
    """Whole gangs only, on nodes that will do, and no more than there is, or than quotas let them have."""
    check_quotas(gangs, decision, list(quotas))
    known = {one.name: one for one in nodes}
    after = []
    for one in gangs:
        answer = decision.answers[one.uid]
        if not answer.admitted:
            assert answer.places == {}
            assert bool(answer.reason) != bool(answer.evicted), "nobody waits without a reason"
            assert "\n" not in answer.reason
            after.append(one)
            continue
        assert sorted(answer.places) == one.missing
        after.append(running(one, decision))
        for name in answer.places.values():
            assert refusal(one.shape, known[name]) == ""
        if one.shape.topology_key:
            assert len({known[name].labels["zone"] for name in answer.places.values()}) <= 1
    for name, takes in used_by(after).items():
        for resource, amount in takes.items():
            assert amount <= known[name].allocatable.get(resource, 0), (name, resource)


def check_quotas(gangs: list[Gang], decision: Decision, quotas: list[Quota]) -> None:
    """What is admitted is within what the quotas leave; nobody makes room for a gang that they keep from its pods."""
    for one in gangs:
        answer = decision.answers[one.uid]
        for known, key, each in for_gang(one, quotas):
            left = known.hard[key] - known.used[key]
            if answer.preempting:
                assert each * one.demand.count <= left
            if answer.admitted and not one.holding:
                admitted = [other for other in gangs if decision.answers[other.uid].admitted]
                takes = [(other, *limit) for other in admitted for limit in for_gang(other, [known]) if limit[1] == key]
                assert sum(amount * other.demand.count for other, _, _, amount in takes) <= left


@PATIENT
@given(clusters(), queues(), all_quotas())
def test_gangs_are_admitted_whole_and_no_node_and_no_quota_is_promised_twice(
    nodes: list[Node], gangs: list[Gang], quotas: list[Quota]
) -> None:
    check(nodes, gangs, decided(nodes, gangs, quotas=quotas), quotas)


@PATIENT
@given(clusters(), queues(), all_quotas(), st.integers())
def test_the_order_in_which_things_are_seen_does_not_matter(
    nodes: list[Node], gangs: list[Gang], quotas: list[Quota], seed: int
) -> None:
    chance = random.Random(seed)
    shuffled = (chance.sample(nodes, len(nodes)), chance.sample(gangs, len(gangs)))
    assert decided(nodes, gangs, quotas=quotas) == decided(*shuffled, quotas=chance.sample(quotas, len(quotas)))


@PATIENT
@given(clusters(), queues(), all_quotas())
def test_deciding_again_changes_nothing(nodes: list[Node], gangs: list[Gang], quotas: list[Quota]) -> None:
    first = decided(nodes, gangs, quotas=quotas)
    promised = [
        replace(one, holding=True, hints=first.answers[one.uid].places, since="~") if first.answers[one.uid].admitted else one
        for one in gangs
    ]
    again = decided(nodes, promised, quotas=quotas)
    assert {uid: (a.admitted, a.places, a.reason) for uid, a in again.answers.items()} == {
        uid: (a.admitted, a.places, a.reason) for uid, a in first.answers.items()
    }
    there = [running(one, first) if first.answers[one.uid].admitted else one for one in gangs]
    later = decided(nodes, there, quotas=counted(quotas, there))
    assert {uid: (a.admitted, a.reason) for uid, a in later.answers.items()} == {
        uid: (a.admitted, a.reason) for uid, a in first.answers.items()
    }


def contested(nodes: list[Node], gangs: list[Gang]) -> list[Gang]:
    """Some gangs hold the room, and those that wait for it are mostly of higher priority."""
    first = decided(nodes, [replace(one, priority=0) for one in gangs])
    return [running(one, first) if first.answers[one.uid].admitted else replace(one, priority=one.priority + 1) for one in gangs]


@PATIENT
@given(clusters(), queues(), all_quotas())
def test_victims_have_lower_priority_and_make_room(nodes: list[Node], gangs: list[Gang], quotas: list[Quota]) -> None:
    there = contested(nodes, gangs)
    known_quotas = counted(quotas, there)
    decision = decided(nodes, there, quotas=known_quotas)
    check(nodes, there, decision, known_quotas)
    known = {one.name: one for one in there}
    for one in there:
        answer = decision.answers[one.uid]
        if not answer.preempting:
            continue
        assert one.preempts
        victims = [known[name] for name in answer.preempting]
        assert all(victim.priority < one.priority and victim.holding for victim in victims)
        after = [running(other, decision) if decision.answers[other.uid].admitted else other for other in there]
        left = [other for other in after if other.uid not in {victim.uid for victim in victims}]
        eligible = [other for other in nodes if not refusal(one.shape, other)]
        free = _free(nodes, left)
        assert fits(one.shape, eligible, free)
        for spared in victims:
            still = _free(nodes, [*left, spared])
            assert not fits(one.shape, eligible, still) or spared.unsaved == 0, "nobody goes who need not"


def _free(nodes: list[Node], gangs: list[Gang]) -> dict[str, dict[str, int]]:
    used = used_by(gangs)
    return {
        one.name: {name: amount - used.get(one.name, {}).get(name, 0) for name, amount in one.allocatable.items()}
        for one in nodes
    }


# --- simulations ---------------------------------------------------------------------------------------------------------


class World:
    """A cluster in which every gang that is admitted has its pods at once, and ends when a rule says so."""

    def __init__(
        self,
        nodes: list[Node],
        gangs: list[Gang],
        choose: Callable[[list[Gang]], Gang],
        *,
        past: bool = True,
        quotas: Sequence[Quota] = (),
    ) -> None:
        self.nodes = nodes
        self.quotas = list(quotas)
        self.gangs = {one.uid: one for one in gangs}
        self.choose = choose
        self.past = past
        self.started: dict[str, int] = {}
        self.first: dict[str, set[str]] = {}
        self.ended: list[str] = []
        self.count = 0

    def run(self) -> None:
        while self.gangs:
            decision = self.decide()
            evicted = [uid for uid, answer in decision.answers.items() if answer.evicted]
            for uid in evicted:
                self.gangs[uid] = replace(self.gangs[uid], holding=False, there={}, held={}, since="", unsaved=0.0)
                self.started.pop(uid, None)
            if evicted:
                continue
            holders = [one for one in self.gangs.values() if one.holding]
            if not holders:
                break
            done = self.choose(sorted(holders, key=lambda one: (one.since, one.uid)))
            del self.gangs[done.uid]
            self.ended.append(done.uid)

    def decide(self) -> Decision:
        gangs = list(self.gangs.values())
        quotas = counted(self.quotas, gangs)
        decision = decided(self.nodes, gangs, quotas=quotas)
        check(self.nodes, gangs, decision, quotas)
        new = [one for one in sorted(gangs, key=lambda one: one.order) if decision.answers[one.uid].admitted and not one.holding]
        waiting = [self.gangs[uid] for uid in decision.waiting]
        if not self.past and waiting:
            # Nobody is let past the first that waits and could ever run.
            first = next((one for one in waiting if self.possible(one)), None)
            new = [one for one in new if first is None or one.order < first.order]
        before = {one.uid for one in gangs if one.holding}
        for one in new:
            self.count += 1
            self.started[one.uid] = len(self.ended)
            self.gangs[one.uid] = running(one, decision, since=self.count)
        for one in waiting:
            if decision.answers[one.uid].reason.startswith("quota "):
                # Who waits for a quota is passed by, and may be the first later.
                if self.possible(one):
                    break
            elif self.possible(one):
                ahead = {other.uid for other in new if other.order < one.order}
                self.first.setdefault(one.uid, before | ahead)
                break
        return decision

    def possible(self, one: Gang) -> bool:
        eligible = [other for other in self.nodes if not refusal(one.shape, other)]
        if any(each * one.shape.workers > known.hard[key] for known, key, each in for_gang(one, self.quotas)):
            return False
        return fits(one.shape, eligible, {other.name: other.allocatable for other in eligible})


@PATIENT
@given(clusters(), queues(), all_quotas(), st.integers())
def test_when_all_jobs_end_all_have_run_that_ever_could(
    nodes: list[Node], gangs: list[Gang], quotas: list[Quota], seed: int
) -> None:
    chance = random.Random(seed)
    world = World(nodes, gangs, chance.choice, quotas=quotas)
    world.run()
    assert set(world.ended) == {one.uid for one in gangs if world.possible(one)}


@PATIENT
@given(clusters(), queues(priorities=0, most=10), all_quotas(), st.integers())
def test_the_first_that_waits_waits_for_nobody_who_came_after_it(
    nodes: list[Node], gangs: list[Gang], quotas: list[Quota], seed: int
) -> None:
    """Whatever the order in which jobs end: once those have ended that were admitted before it became the first, it has started."""
    chance = random.Random(seed)
    world = World(nodes, gangs, chance.choice, quotas=quotas)
    world.run()
    for uid, before in world.first.items():
        over = max((world.ended.index(other) + 1 for other in before), default=0)
        assert world.started[uid] <= over, (uid, before, world.ended)


@PATIENT
@given(clusters(), queues(priorities=0, most=10))
def test_where_jobs_end_in_their_order_nobody_let_past_delays_the_first(nodes: list[Node], gangs: list[Gang]) -> None:
    """Time is counted in jobs that ended of those which were there when it became the first."""
    world = World(nodes, gangs, lambda holders: holders[0])
    world.run()
    strict = World(nodes, gangs, lambda holders: holders[0], past=False)
    strict.run()
    assert set(world.ended) == set(strict.ended)
    head = next(iter(strict.first), None)
    if head is not None:
        assert world.started[head] == strict.started[head]


def test_random_worlds_have_gangs_that_wait_and_gangs_that_preempt() -> None:
    """Or the properties would say little."""
    seen: dict[str, int] = {"waits": 0, "preempts": 0, "goes past": 0, "waits for a quota": 0}

    @settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(clusters(), queues(), all_quotas())
    def look(nodes: list[Node], gangs: list[Gang], quotas: list[Quota]) -> None:
        first = decided(nodes, [replace(one, priority=0) for one in gangs])
        decision = decided(nodes, contested(nodes, gangs))
        limited = decided(nodes, gangs, quotas=quotas)
        seen["waits for a quota"] += any(answer.reason.startswith("quota ") for answer in limited.answers.values())
        seen["waits"] += bool(first.waiting)
        seen["preempts"] += any(answer.preempting for answer in decision.answers.values())
        waiting = [one for one in gangs if one.uid in first.waiting]
        seen["goes past"] += any(one.order > waiting[0].order for one in gangs if waiting and first.answers[one.uid].admitted)

    look()
    assert all(count >= 20 for count in seen.values()), seen


@PATIENT
@given(clusters(), queues(), st.integers(0, 4))
def test_what_others_use_is_not_promised(nodes: list[Node], gangs: list[Gang], foreign: int) -> None:
    decision = decided(nodes, gangs, foreign={one.name: gpus(foreign) for one in nodes})
    smaller = [
        replace(one, allocatable={**one.allocatable, **gpus(max(0, int(one.allocatable["nvidia.com/gpu"]) // 1000 - foreign))})
        for one in nodes
    ]
    check(smaller, gangs, decision)
