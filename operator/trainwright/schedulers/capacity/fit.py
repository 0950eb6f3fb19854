"""Where the workers of a gang go: all of them at once, on few nodes, into the smallest hole that takes them.

Workers of a gang are alike, so whether they fit is plain arithmetic: each node takes so many, and together they take enough or
not. More room never makes a gang fit less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainwright.schedulers.capacity.amounts import Amounts
from trainwright.schedulers.capacity.nodes import Node, Shape

Rooms = Mapping[str, Amounts]
"""What each node has left, by its name."""


def slots(shape: Shape, room: Amounts) -> int:
    """How many such workers fit into this room, those of other gangs of the shape included."""
    return max(0, min(room.get(name, 0) // asked for name, asked in shape.request))


def domains(shape: Shape, nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """The groups of nodes that a gang has to choose one of: by the values of its topology label, else all in one."""
    if shape.topology_key is None:
        return {"": list(nodes)}
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.labels[shape.topology_key], []).append(node)
    return groups


def fits(shape: Shape, nodes: Sequence[Node], rooms: Rooms) -> bool:
    """Whether the whole gang fits on these nodes, which its workers may go to."""
    for group in domains(shape, nodes).values():
        left = shape.workers
        for node in group:
            left -= slots(shape, rooms[node.name])
            if left <= 0:
                return True
    return False


def places(shape: Shape, count: int, nodes: Sequence[Node], rooms: Rooms) -> list[str] | None:
    """A node's name for each of `count` workers, neighbours together; None when they don't all fit.

    Of several topology domains the one with the least room that will do.
    """
    best: tuple[int, str] | None = None
    chosen: dict[str, int] = {}
    groups = domains(shape, nodes)
    for value, group in groups.items():
        room = {node.name: taken for node in group if (taken := slots(shape, rooms[node.name]))}
        size = sum(room.values())
        if size >= count and (best is None or (size, value) < best):
            best, chosen = (size, value), room
    return None if best is None else _filled(shape, count, groups[best[1]], chosen)


def _filled(shape: Shape, count: int, nodes: Sequence[Node], room: dict[str, int]) -> list[str]:
    """Nodes with nothing that the workers don't need come first; of those the tightest that takes all that are left, else the
    roomiest and then the others.
    """
    wanted = {name for name, _ in shape.request}
    spare = {
        node.name: sum("/" in name and name not in wanted and amount > 0 for name, amount in node.allocatable.items())
        for node in nodes
        if node.name in room
    }
    found: list[str] = []
    while len(found) < count:
        left = count - len(found)
        least = min(spare[name] for name in room)
        group = sorted((taken, name) for name, taken in room.items() if spare[name] == least)
        roomiest = min(group, key=lambda one: (-one[0], one[1]))
        taken, name = next((one for one in group if one[0] >= left), roomiest)
        found += [name] * min(taken, left)
        del room[name]
    return found
