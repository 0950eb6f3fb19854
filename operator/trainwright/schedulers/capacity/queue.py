"""Who goes first: one decision over all gangs that hold room or wait for it. Deciding again changes nothing.

1. Who holds room keeps it; workers whose pods are missing get places before anybody who waits.
2. The others in the order of their priority, then of their age. Each gang that fits is admitted.
3. The first that doesn't fit has places kept for it: those it will have when gangs have ended in the order in which they were
   admitted. Whoever is behind it may use what is not kept. So it starts no later than when these gangs have ended: who is
   admitted meanwhile is not among them, and leaves it its places.
4. If it may, and gangs of lower priority hold the room, these are told to make it (`preemption`).

There is a first for each set of nodes: gangs that may only go to other nodes than the first have a first of their own. A gang
that would not fit if everybody's room were free has nothing kept, and holds up nobody; nor has one whose namespace's quotas leave
too little for its pods: room would not help it. Who has places kept has what it needs of these quotas kept, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trainwright.schedulers.capacity import lines
from trainwright.schedulers.capacity.amounts import Amounts
from trainwright.schedulers.capacity.fit import Rooms, fits, places, slots
from trainwright.schedulers.capacity.nodes import Node, Shape, refusal
from trainwright.schedulers.capacity.preemption import cheapest
from trainwright.schedulers.capacity.quotas import Allowance, Charge, Demand, Quota, Shortage

NO_CHARGE = Charge()
JUST_NOW = "~"
"""Later than any time that the API writes."""
TOLD_IN_FULL = 10
"""How many of those that wait are told what exactly is lacking: of a thousand, each that goes would change the lines of all."""


@dataclass(frozen=True, kw_only=True)
class Gang:
    """One attempt of a job. `name`: namespace/name. `created` and `since` (when it was admitted): as the API writes times.

    `holding`: whether its room is its own. `there`: workers that need no place, because they have a pod, and its node (empty: it
    has ended, or has none). `held`: what the gang's pods, those of earlier attempts included, take on each node. `kept`: nodes
    where an earlier pod of a worker that is missing still has its room. `hints`: where missing workers were, or were about to be.
    `unsaved`: GPU seconds that would be lost if it ended now. `evicted`: why it makes room, if it has been told to. `charge`:
    what a pod of it counts for in quotas.
    """

    uid: str
    name: str
    shape: Shape
    created: str
    attempt: int = 1
    queue: str = ""
    priority: int = 0
    preempts: bool = True
    holding: bool = False
    since: str = ""
    there: Mapping[int, str] = field(default_factory=dict)
    held: Mapping[str, Amounts] = field(default_factory=dict)
    kept: Mapping[int, str] = field(default_factory=dict)
    hints: Mapping[int, str] = field(default_factory=dict)
    unsaved: float = 0.0
    evicted: str = ""
    charge: Charge = NO_CHARGE

    @property
    def missing(self) -> list[int]:
        return [index for index in range(self.shape.workers) if index not in self.there]

    @property
    def demand(self) -> Demand:
        """What it needs of quotas beyond what its pods count for: an earlier one has ended when its worker's next is made."""
        count = sum(index not in self.kept for index in self.missing)
        return Demand(namespace=self.name.partition("/")[0], charge=self.charge, count=count)

    @property
    def order(self) -> tuple[int, str, str]:
        return -self.priority, self.created, self.uid


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`places`: the node of each worker that is missing. `reason`: why it waits. `evicted`: who takes its room, and why it may.

    `preempting`: names of gangs that make room for it.
    """

    admitted: bool
    places: Mapping[int, str] = field(default_factory=dict)
    reason: str = ""
    evicted: str = ""
    preempting: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`waiting`: uids of those that wait, the first first."""

    answers: Mapping[str, Answer]
    waiting: tuple[str, ...]


def decide(nodes: Iterable[Node], used: Rooms, going: Rooms, gangs: Iterable[Gang], quotas: Iterable[Quota] = ()) -> Decision:
    """What is to become of each gang. `used`: what pods take on each node, those of gangs included; `going`: the part of it whose
    pods are about to end. `quotas`: of all namespaces, and what pods that can be seen count for in each.
    """
    round_ = _Round(list(nodes), used, going, quotas)
    ordered = sorted(gangs, key=lambda gang: gang.order)
    waiting = [gang for gang in ordered if not (gang.holding and round_.keep(gang))]
    for gang in waiting:
        round_.consider(gang)
    return round_.decision()


@dataclass(frozen=True)
class _Waiting:
    """`kept`: what had been kept of quotas, by then, for those ahead of it."""

    gang: Gang
    kept: Mapping[tuple[str, str, str], int]
    preempting: tuple[str, ...] = ()
    note: str = ""


class _Round:
    """The state of one decision. `free`: what is left of each node; `open`: what of it is kept for nobody."""

    def __init__(self, nodes: Sequence[Node], used: Rooms, going: Rooms, quotas: Iterable[Quota]) -> None:
        self.answers: dict[str, Answer] = {}
        self._waiting: list[_Waiting] = []
        self._parts: list[Gang] = []
        self._nodes = sorted(nodes, key=lambda node: node.name)
        self._free = {node.name: _less(node.allocatable, used.get(node.name, {})) for node in self._nodes}
        self._open = {name: dict(room) for name, room in self._free.items()}
        self._going: dict[str, Amounts] = dict(going)
        self._holders: list[Gang] = []
        self._charged: dict[str, dict[str, dict[str, int]]] = {}
        self._eligible: dict[Shape, list[Node]] = {}
        self._refused: set[Shape] = set()
        self._hopeless: set[Shape] = set()
        self._kept_for: dict[str, Gang] = {}
        self._allowance = Allowance(quotas)

    # --- who holds room -------------------------------------------------------------------------------------------------------

    def keep(self, gang: Gang) -> bool:
        """Let a gang keep its room; False when it has to queue for it."""
        if gang.evicted:
            self._going = _with(self._going, gang.held)
            self.answers[gang.uid] = Answer(admitted=False, evicted=gang.evicted)
            return True
        found = self._places_of(gang)
        if found is None:
            if not gang.there:
                return False
            self._parts.append(gang)
            return True
        self._admit(gang, *found)
        return True

    def _places_of(self, gang: Gang) -> tuple[dict[int, str], list[str]] | None:
        """Where the missing workers of a gang go, and at which nodes they need room that is not theirs yet."""
        missing = gang.missing
        if not missing:
            return {}, []
        eligible = {node.name: node for node in self._nodes_for(gang.shape)}
        kept = {index: name for index in missing if (name := gang.kept.get(index, "")) in eligible}
        others = [index for index in missing if index not in kept]
        hinted = [gang.hints.get(index, "") for index in others]
        if all(name in eligible for name in hinted) and self._room_for(gang.shape, hinted):
            return kept | dict(zip(others, hinted, strict=True)), hinted
        near = self._domain_of(gang, kept.values(), eligible)
        if (found := places(gang.shape, len(others), near, self._free)) is not None:
            return kept | dict(zip(others, found, strict=True)), found
        near = self._domain_of(gang, (), eligible)
        found = places(gang.shape, len(missing), near, self._free) if kept else None
        return None if found is None else (dict(zip(missing, found, strict=True)), found)

    def _domain_of(self, gang: Gang, kept: Iterable[str], eligible: Mapping[str, Node]) -> list[Node]:
        """Nodes for workers that are missing: where the gang is to be together, near those that are there or keep their room."""
        key = gang.shape.topology_key
        if key is None:
            return list(eligible.values())
        there = {*kept, *gang.there.values()}
        values = {node.labels.get(key) for node in self._nodes if node.name in there}
        return [node for node in eligible.values() if not values or node.labels.get(key) in values]

    def _room_for(self, shape: Shape, names: Sequence[str]) -> bool:
        return all(slots(shape, self._free[name]) >= names.count(name) for name in set(names))

    # --- who waits ------------------------------------------------------------------------------------------------------------

    def consider(self, gang: Gang) -> None:
        """Admit the next gang in the queue, or keep places for it, or let it wait."""
        kept = self._allowance.kept
        if self._allowance.short(gang.demand, kept):
            self._waiting.append(_Waiting(gang, kept))
            return
        eligible = self._nodes_for(gang.shape)
        missing = gang.missing
        found = None if gang.shape in self._refused else places(gang.shape, len(missing), eligible, self._open)
        if found is not None:
            self._admit(gang, dict(zip(missing, found, strict=True)), found)
            return
        self._refused.add(gang.shape)
        preempting: tuple[str, ...] = ()
        note = ""
        if gang.shape not in self._hopeless and not any(node.name in self._kept_for for node in eligible):
            preempting, note = self._keep_places(gang, eligible)
        self._waiting.append(_Waiting(gang, kept, preempting, note))

    def _keep_places(self, gang: Gang, eligible: Sequence[Node]) -> tuple[tuple[str, ...], str]:
        """Keep places for the first that doesn't fit. Returns who makes room for it, and a remark for its line."""
        admitted = sorted(self._holders, key=lambda one: (one.since, one.order))
        holders = [one for one in admitted if self._touches(one, eligible)]
        victims: tuple[Gang, ...] = ()
        soon = self._freed(eligible, self._going, ())
        if not fits(gang.shape, eligible, soon):
            lower = [one for one in holders if one.priority < gang.priority] if gang.preempts else []
            victims = cheapest(lower, lambda some: fits(gang.shape, eligible, self._freed(eligible, self._going, some)))
            note = f"preempts {lines.names([one.name for one in victims])}: their workers save and end" if victims else ""
        else:
            note = "waits for pods that are ending"
        for one in victims:
            why = f"preempted by {gang.name} (priority {gang.priority}, this job's {one.priority})"
            self.answers[one.uid] = Answer(admitted=False, evicted=why)
        # Who makes room ends first; then the others, in the order in which they were admitted.
        ending = [*victims, *(one for one in holders if one not in victims)]
        counts = range(len(victims), len(ending) + 1)
        enough = bisect_left(
            counts, True, key=lambda count: fits(gang.shape, eligible, self._freed(eligible, self._going, ending[:count]))
        )
        if enough == len(counts):
            self._hopeless.add(gang.shape)
            return (), note
        freed = self._freed(eligible, self._going, ending[: counts[enough]])
        found = places(gang.shape, gang.shape.workers, eligible, freed)
        assert found is not None  # noqa: S101 - it fits, and a gang that waits has no pods
        request = dict(gang.shape.request)
        for node in eligible:
            self._kept_for[node.name] = gang
            left = _less(freed[node.name], {name: amount * found.count(node.name) for name, amount in request.items()})
            self._open[node.name] = {name: min(amount, left.get(name, 0)) for name, amount in self._open[node.name].items()}
        self._allowance.keep(gang.demand, gang.name)
        return tuple(one.name for one in victims), note

    def decision(self) -> Decision:
        """What came of it. Lines are made last: they tell of what is left of room and quotas."""
        for ahead, one in enumerate(self._waiting):
            self.answers[one.gang.uid] = Answer(admitted=False, reason=self._line(one, ahead), preempting=one.preempting)
        for gang in self._parts:
            reason = lines.lacking(gang.shape, self._nodes, self._free)
            self.answers[gang.uid] = Answer(admitted=False, reason=reason)
        return Decision(answers=self.answers, waiting=tuple(one.gang.uid for one in self._waiting))

    def _line(self, one: _Waiting, ahead: int) -> str:
        """Why a gang waits."""
        gang = one.gang
        queue = f" in queue {gang.queue}" if gang.queue else ""
        short = self._allowance.short(gang.demand, one.kept)
        if ahead >= TOLD_IN_FULL:
            beyond = "; quotas of its namespace leave less" if short else ""
            return f"{lines.needs(gang.shape)}{beyond}; {TOLD_IN_FULL} jobs or more ahead{queue}"
        why = self._beyond(gang, short[0]) if short else lines.lacking(gang.shape, self._nodes, self._free)
        if not why:
            first = next(self._kept_for[node.name] for node in self._nodes_for(gang.shape) if node.name in self._kept_for)
            why = f"{lines.needs(gang.shape)}; what is free is kept for {first.name}, which is ahead"
        behind = f"{ahead} job{'s' if ahead > 1 else ''} ahead{queue}" if ahead else ""
        return "; ".join(part for part in (why, one.note, behind) if part)

    def _beyond(self, gang: Gang, short: Shortage) -> str:
        """Which quotas are in its way, or whom they are kept for."""
        if shortages := self._allowance.short(gang.demand, {}):
            return lines.beyond(shortages)
        first = self._allowance.kept_for(short)
        left = f"what is left of quota {short.quota.name} of namespace {short.quota.namespace}"
        return f"{lines.needs(gang.shape)}; {left} is kept for {first}, which is ahead"

    # --- room -----------------------------------------------------------------------------------------------------------------

    def _admit(self, gang: Gang, where: Mapping[int, str], charged: Iterable[str]) -> None:
        request = dict(gang.shape.request)
        takes: dict[str, dict[str, int]] = {}
        for name in charged:
            takes[name] = _sum(takes.get(name, {}), request)
        for name, amounts in takes.items():
            self._free[name] = _less(self._free[name], amounts)
            self._open[name] = _less(self._open[name], amounts)
        self._charged[gang.uid] = takes
        self._allowance.take(gang.demand)
        # Who has been admitted just now is the last to end, as far as anybody knows.
        self._holders.append(gang if gang.holding else replace(gang, since=JUST_NOW))
        self.answers[gang.uid] = Answer(admitted=True, places=where)

    def _nodes_for(self, shape: Shape) -> list[Node]:
        found = self._eligible.get(shape)
        if found is None:
            found = self._eligible[shape] = [node for node in self._nodes if not refusal(shape, node)]
        return found

    def _touches(self, gang: Gang, nodes: Sequence[Node]) -> bool:
        takes = self._charged[gang.uid]
        return any(node.name in gang.held or node.name in takes for node in nodes)

    def _freed(self, nodes: Sequence[Node], going: Rooms, ended: Iterable[Gang]) -> dict[str, dict[str, int]]:
        """What would be free on these nodes once what goes has gone and these gangs have ended."""
        rooms = {node.name: _sum(self._free[node.name], going.get(node.name, {})) for node in nodes}
        for gang in ended:
            for takes in (gang.held, self._charged[gang.uid]):
                for name, amounts in takes.items():
                    if name in rooms:
                        rooms[name] = _sum(rooms[name], amounts)
        return rooms


def _sum(one: Amounts, other: Amounts) -> dict[str, int]:
    result = dict(one)
    for name, amount in other.items():
        result[name] = result.get(name, 0) + amount
    return result


def _less(one: Amounts, other: Amounts) -> dict[str, int]:
    result = dict(one)
    for name, amount in other.items():
        result[name] = result.get(name, 0) - amount
    return result


def _with(rooms: Rooms, more: Rooms) -> dict[str, Amounts]:
    result: dict[str, Amounts] = dict(rooms)
    for name, amounts in more.items():
        result[name] = _sum(result.get(name, {}), amounts)
    return result
