"""`capacity` at work: copies of nodes and of everybody's pods, one decision whenever one of them changed in a way that matters.

All that decides is in `trainwright.schedulers.capacity`. What is remembered here bridges the moment until it can be seen: a gang
that was admitted, until its pods are there; one that was told to make room, until its status says so. A process that dies in
between loses nothing: no pod was made, none was stopped, and the next decides anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trainwright.api.errors import InvalidSpec
from trainwright.api.job import TrainingJob, parse
from trainwright.api.names import MANAGED_BY_LABEL, MANAGER
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import NODES, PODS, PRIORITY_CLASSES, Cluster, Object
from trainwright.controller.default_provider import DefaultProvider
from trainwright.controller.metrics import Metrics
from trainwright.controller.quotas import Quotas
from trainwright.controller.store import Store
from trainwright.observe.times import seconds
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright.schedulers.base import UNDECIDED, Admission, State
from trainwright.schedulers.capacity.facts import (
    Memory,
    PodFacts,
    Wish,
    places_of,
    read_gang,
    read_pod,
    read_priorities,
    read_wish,
    wants_room,
)
from trainwright.schedulers.capacity.nodes import Node, read_node
from trainwright.schedulers.capacity.pins import pin
from trainwright.schedulers.capacity.queue import Answer, Decision, Gang, decide

log = logging.getLogger(__name__)

# Events come in swarms: one decision for all of a moment. After a long one the others get twice its time.
COALESCE_SECONDS = 0.02
# How often jobs are told what is in the way of a first look.
TROUBLE_SECONDS = 1.0
FAILED_RETRY_SECONDS = 5.0
# A gang whose pods the API server refuses is set aside, ever longer, so that the room goes to others meanwhile.
ASIDE_SECONDS, MAX_ASIDE_SECONDS = 5.0, 300.0


@dataclass(frozen=True)
class _Aside:
    until: float
    times: int
    why: str


class Capacity:
    """`wake` is called with the key of a job whose answer has changed. `unavailable`: why nobody can be admitted, if so.

    All `jobs` must have been listed before it runs: who holds room, or was there first, is known before anybody is let in.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        jobs: Store,
        pods: Store,
        settings: Settings,
        default: DefaultProvider,
        metrics: Metrics,
        wake: Callable[[str], None],
        unavailable: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs, self._pods, self._default = jobs, pods, default
        self._settings, self._metrics, self._wake, self._clock = settings, metrics, wake, clock
        self._unavailable = unavailable
        without = {MANAGED_BY_LABEL: MANAGER}
        self.nodes = Store(cluster, NODES, on_change=self._node_changed)
        self.others = Store(cluster, PODS, without=without, on_change=self._other_changed, keep=_slim)
        self.classes = Store(cluster, PRIORITY_CLASSES, on_change=lambda _: self.touch())
        self.quotas = Quotas(cluster, on_change=self.touch)
        self._wanted, self._touched = asyncio.Event(), asyncio.Event()
        # Who has asked before anything could be looked at.
        self._asked: set[str] | None = None if unavailable else set()
        self._signs: dict[tuple[str, str], object] = {}
        self._wishes: dict[str, Wish | None] = {}
        self._read: dict[str, tuple[str, PodFacts]] = {}
        self._nodes_read: list[Node] | None = None
        self._others_use: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] | None = None
        self._answers: dict[str, tuple[int, Answer]] = {}
        self._places: dict[str, dict[int, str]] = {}
        self._granted: dict[str, int] = {}
        self._evicted: dict[str, tuple[int, str]] = {}
        self._aside: dict[str, _Aside] = {}
        self._waiting: Counter[str] = Counter()
        metrics.follow_queue(lambda: {(ProviderName.CAPACITY.value, queue): count for queue, count in self._waiting.items()})

    @property
    def stores(self) -> tuple[Store, ...]:
        return self.nodes, self.others, self.classes

    def heard(self) -> dict[str, float]:
        """When something was last heard of each kind of object that is watched."""
        return {store.resource.plural: store.heard for store in (*self.stores, self.quotas.store) if store.synced.is_set()}

    # --- what the planner asks ------------------------------------------------------------------------------------------------

    def answer(self, job: TrainingJob) -> Admission:
        """What is to become of the job, by the last decision."""
        self._wanted.set()
        if self._asked is not None:
            self._asked.add(f"{job.namespace}/{job.name}")
        if self._unavailable:
            return Admission(state=State.WAITING, reason=self._unavailable)
        aside = self._aside.get(job.uid)
        if aside is not None and aside.until > self._clock():
            return Admission(state=State.WAITING, reason=aside.why)
        attempt, answer = self._answers.get(job.uid, (0, None))
        if answer is None or attempt != job.attempt:
            self.touch()
            return UNDECIDED
        if answer.evicted:
            return Admission(state=State.PREEMPTED, reason=answer.evicted)
        if not answer.admitted:
            return Admission(state=State.WAITING, reason=answer.reason, preempting=answer.preempting)
        return Admission(
            state=State.ADMITTED,
            pods={index: pin(node) for index, node in answer.places.items()},
            timeout=float(job.spec.run_policy.scheduling.schedule_timeout_seconds),
        )

    def refused(self, job: TrainingJob, why: str) -> None:
        """The API server would not take the job's pods, for a quota say: others may have the room meanwhile."""
        times = self._aside[job.uid].times + 1 if job.uid in self._aside else 0
        pause = min(MAX_ASIDE_SECONDS, ASIDE_SECONDS * 2.0 ** min(times, 16))
        self._aside[job.uid] = _Aside(self._clock() + pause, times, why)
        self._granted.pop(job.uid, None)
        self.touch()

    # --- what happens ---------------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Something may call for another decision."""
        self._touched.set()

    def job_changed(self, raw: Object) -> None:
        """A job came, changed or went; what a decision doesn't go by is not news."""
        metadata, status = raw["metadata"], raw.get("status") or {}
        key = (metadata.get("namespace", ""), metadata["name"])
        queued = next((one.get("status") for one in status.get("conditions") or () if one.get("type") == "Queued"), None)
        there = self._jobs.get(*key) is not None
        sign = metadata.get("uid"), wants_room(raw), status.get("phase"), status.get("attempt"), queued
        self._news(key, sign if there else None)

    def pod_changed(self, raw: Object) -> None:
        """A pod of ours came, changed or went."""
        metadata = raw["metadata"]
        there = self._pods.get(metadata.get("namespace", ""), metadata["name"]) is not None
        self._news((metadata.get("uid", ""), ""), _part(self._facts(raw)) if there else None)

    def _other_changed(self, raw: Object) -> None:
        there = self.others.get(raw["metadata"].get("namespace", ""), raw["metadata"]["name"])
        sign = _part(there["facts"]) if there is not None and there["facts"].node and there["facts"].alive else None
        if self._news((raw["metadata"].get("uid", ""), ""), sign):
            self._others_use = None

    def _node_changed(self, raw: Object) -> None:
        name = raw["metadata"]["name"]
        there = self.nodes.get("", name)
        if self._news(("", name), None if there is None else _essence(there)):
            self._nodes_read = None

    def _news(self, key: tuple[str, str], sign: object) -> bool:
        """Whether this is other than what was last seen of it; `sign` is None for what is not there."""
        if self._signs.get(key) == sign:
            return False
        if sign is None:
            del self._signs[key]
        else:
            self._signs[key] = sign
        self.touch()
        return True

    # --- work -----------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled; nothing is watched before the first job asks."""
        await self._wanted.wait()
        if self._unavailable:
            return
        async with asyncio.TaskGroup() as group:
            for store in self.stores:
                group.create_task(store.run())
            group.create_task(self.quotas.run())
            await self._seen()
            await self.quotas.asked.wait()
            self.touch()
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._touched.wait(), self._until_due())
                self._touched.clear()
                started = time.monotonic()
                try:
                    self.decide()
                except Exception:
                    # Jobs of other providers go on; those of this one keep the answers that they have.
                    log.exception("capacity: no decision")
                    self.touch()
                    await asyncio.sleep(FAILED_RETRY_SECONDS)
                await asyncio.sleep(max(COALESCE_SECONDS, 2 * (time.monotonic() - started)))

    async def relist(self) -> None:
        """Compare with a list. Raises `ClusterError`."""
        for store in self.stores:
            if store.synced.is_set():
                await store.relist()
        await self.quotas.relist()

    async def _seen(self) -> None:
        """Wait until all has been listed once; meanwhile every job is told what is in the way."""
        while not all(store.synced.is_set() for store in self.stores):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(store.synced.wait() for store in self.stores)), TROUBLE_SECONDS)
            trouble = next((store.trouble for store in self.stores if store.trouble), "")
            self._unavailable = trouble and f"provider capacity looks at nodes, pods and priority classes, and can't: {trouble}"
            for key in list(self._asked or ()):
                self._wake(key)
        self._asked = None

    def _until_due(self) -> float | None:
        """Seconds until somebody who was set aside may try again."""
        now = self._clock()
        return min((max(0.0, one.until - now) for one in self._aside.values() if one.until > now), default=None)

    def decide(self) -> None:
        """One decision over all that is seen; jobs with another answer than before are woken."""
        now = self._clock()
        pods = self._own_pods()
        gangs = {gang.uid: gang for gang in self._gangs(pods, now)}
        used, going = self._use(pods, gangs)
        decision = decide(self._known_nodes(), used, going, gangs.values(), self.quotas.all())
        self._remember(gangs, decision, now)
        before = self._answers
        self._answers = {uid: (gangs[uid].attempt, answer) for uid, answer in decision.answers.items()}
        for uid, given in self._answers.items():
            if before.get(uid) != given:
                self._wake(gangs[uid].name)

    def _remember(self, gangs: dict[str, Gang], decision: Decision, now: float) -> None:
        """Bridge what was decided until it is seen, and forget what is over."""
        self._places = {uid: one for uid, one in self._places.items() if uid in gangs}
        self._granted = {uid: one for uid, one in self._granted.items() if uid in gangs}
        self._evicted = {uid: one for uid, one in self._evicted.items() if uid in gangs}
        self._aside = {uid: one for uid, one in self._aside.items() if uid not in gangs or gangs[uid].missing}
        for uid, gang in gangs.items():
            answer = decision.answers[uid]
            if answer.admitted:
                self._places[uid] = {**gang.hints, **{index: node for index, node in gang.there.items() if node}, **answer.places}
                if not gang.holding:
                    self._metrics.admitted_seconds.observe(max(0.0, now - (seconds(gang.created) or now)))
            if answer.places:
                self._granted[uid] = gang.attempt
            else:
                self._granted.pop(uid, None)
            if answer.evicted:
                if not gang.evicted:
                    self._metrics.preemptions.inc()
                self._evicted[uid] = (gang.attempt, answer.evicted)
        self._waiting = Counter(gangs[uid].queue for uid in decision.waiting)

    def _gangs(self, pods: dict[str, list[PodFacts]], now: float) -> Iterable[Gang]:
        priorities = read_priorities(self.classes.all())
        alive = set()
        for raw in self._jobs.all():
            uid = raw["metadata"].get("uid", "")
            alive.add(uid)
            if not wants_room(raw) or (wish := self._wish(raw)) is None:
                continue
            if uid in self._aside and self._aside[uid].until > now:
                continue
            attempt = (raw.get("status") or {}).get("attempt") or 1
            evicted_at, why = self._evicted.get(uid, (0, ""))
            memory = Memory(
                places=self._places.get(uid) or places_of(pods.get(uid, ()), attempt - 1),
                granted=self._granted.get(uid) == attempt,
                evicted=why if evicted_at == attempt else "",
            )
            priority = priorities.get(wish.priority_class) or priorities[None]
            yield read_gang(raw, wish, priority, pods.get(uid, ()), memory, now)
        self._wishes = {uid: wish for uid, wish in self._wishes.items() if uid in alive}
        self._aside = {uid: one for uid, one in self._aside.items() if uid in alive}

    def _wish(self, raw: Object) -> Wish | None:
        """What a job asks for; None for one that is not for us to decide on."""
        uid = raw["metadata"].get("uid", "")
        if uid not in self._wishes:
            try:
                job = parse(raw)
            except InvalidSpec:
                self._wishes[uid] = None
                return None
            mine = self._default.of(job) is ProviderName.CAPACITY
            self._wishes[uid] = read_wish(job, worker_pod(job, 0, self._settings)) if mine else None
        return self._wishes[uid]

    def _facts(self, raw: Object) -> PodFacts:
        metadata = raw["metadata"]
        version, facts = self._read.get(metadata["uid"], ("", None))
        if facts is None or version != metadata["resourceVersion"]:
            facts = read_pod(raw)
            self._read[metadata["uid"]] = (metadata["resourceVersion"], facts)
        return facts

    def _own_pods(self) -> dict[str, list[PodFacts]]:
        """Pods that we made, by the uid of their owner."""
        found: dict[str, list[PodFacts]] = {}
        there = set()
        for raw in self._pods.all():
            there.add(raw["metadata"]["uid"])
            facts = self._facts(raw)
            for owner in facts.owners or ("",):
                found.setdefault(owner, []).append(facts)
        if len(self._read) > 2 * len(there) + 100:
            self._read = {uid: read for uid, read in self._read.items() if uid in there}
        return found

    def _use(
        self, pods: dict[str, list[PodFacts]], gangs: dict[str, Gang]
    ) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
        """What pods take on each node, and the part of it that is about to be free."""
        if self._others_use is None:
            self._others_use = ({}, {})
            for raw in self.others.all():
                _count(raw["facts"], self._others_use[0])
                if raw["facts"].going:
                    _count(raw["facts"], self._others_use[1])
        used, going = ({node: dict(amounts) for node, amounts in one.items()} for one in self._others_use)
        for owner, owned in pods.items():
            gang = gangs.get(owner)
            for facts in owned:
                _count(facts, used)
                # What a gang that waits still has are pods of an attempt that is over; they have been told to go.
                if (gang is not None and not gang.holding) or (gang is None and facts.going):
                    _count(facts, going)
        return used, going

    def _known_nodes(self) -> list[Node]:
        if self._nodes_read is None:
            self._nodes_read = [read_node(raw) for raw in self.nodes.all()]
        return self._nodes_read


def _slim(raw: Object) -> Object:
    """What is kept of a pod of somebody else's: there may be ten thousands."""
    metadata = raw["metadata"]
    kept = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in metadata}
    return {"metadata": kept, "facts": read_pod(raw)}


def _essence(node: Object) -> str:
    """What of a node is news; its heartbeats are not."""
    metadata, status = node["metadata"], node.get("status") or {}
    ready = [one.get("status") for one in status.get("conditions") or () if one.get("type") == "Ready"]
    going = "deletionTimestamp" in metadata
    return repr((metadata.get("labels"), going, node.get("spec"), status.get("allocatable"), ready))


def _part(facts: PodFacts) -> tuple[object, ...]:
    return facts.node, facts.alive, facts.going


def _count(facts: PodFacts, rooms: dict[str, dict[str, int]]) -> None:
    if facts.node and facts.alive:
        room = rooms.setdefault(facts.node, {})
        for name, amount in facts.request.items():
            room[name] = room.get(name, 0) + amount
