"""Making an object under a name that somebody else may have taken."""

from __future__ import annotations

from dataclasses import dataclass

from trainwright.cluster.port import CLAIMS, AlreadyExists, Cluster, ClusterError, Object, Resource


@dataclass(frozen=True)
class Maker:
    """Whom an object is made for: `what` it is in an error, and the label that its objects have with its name."""

    what: str
    name: str
    uid: str
    label: str

    def owns(self, obj: Object) -> bool:
        """A claim outlives its maker and is known by its label; all else is known by its owner."""
        metadata = obj["metadata"]
        if obj["kind"] == CLAIMS.kind:
            return bool(metadata.get("labels", {}).get(self.label) == self.name)
        return any(owner.get("uid") == self.uid for owner in metadata.get("ownerReferences", []))


class NameTaken(ClusterError):
    """Something that isn't the maker's has the name."""

    def __init__(self, taken: Object, maker: Maker) -> None:
        what = f"{taken['kind']} {taken['metadata']['name']}"
        if taken["metadata"].get("labels", {}).get(maker.label) == maker.name:
            super().__init__(f"{what} of an earlier {maker.what} of this name is still there; waiting until it is gone")
        else:
            super().__init__(f"{what} exists and belongs to something else; rename it or the {maker.what}")


async def make(cluster: Cluster, resource: Resource, wanted: Object, maker: Maker) -> Object:
    """The object as the API has it; one that is there already will do if it is the maker's. Raises `NameTaken`."""
    try:
        return await cluster.create(resource, wanted)
    except AlreadyExists:
        there = await cluster.get(resource, wanted["metadata"]["name"], wanted["metadata"]["namespace"])
        if not maker.owns(there):
            raise NameTaken(there, maker) from None
        return there
