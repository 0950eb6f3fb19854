"""A copy of one kind of object, kept fresh by list and watch; what we write ourselves is put in at once.

The list replaces the copy: what vanished while nobody watched is gone from it, and its key is woken. Versions only go
forward, so a watch event older than our own write never brings the past back.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from trainwright.cluster.port import Cluster, ClusterError, Gone, Object, ObjectList, Resource, WatchType

log = logging.getLogger(__name__)

T = TypeVar("T")
_Key = tuple[str, str]
MAX_DEPARTED = 200
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Store:
    """Objects of one kind with the given labels, and none of those `without`. `on_change` is told each object that came, changed
    or went. `keep` says what of an object is worth its memory; it must leave name, namespace, uid, version and the index label.

    `heard` is when (`time.monotonic`) the API server last said anything about them; `trouble`: why it gave no list or watch, as
    long as it gives none.
    """

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        without: Mapping[str, str] | None = None,
        index: str | None = None,
        on_change: Callable[[Object], None] = lambda _: None,
        keep: Callable[[Object], Object] = lambda obj: obj,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.heard = time.monotonic()
        self.trouble = ""
        self._cluster = cluster
        self._namespace = namespace
        self._labels = labels
        self.without = without
        self._keep = keep
        self._index = index
        self._on_change = on_change
        self._objects: dict[_Key, Object] = {}
        self._by_label: dict[tuple[str, str], set[_Key]] = {}
        self._gone: dict[_Key, int] = {}
        self._departed: dict[_Key, Object] = {}

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def all(self) -> list[Object]:
        return list(self._objects.values())

    def labelled(self, namespace: str, value: str) -> list[Object]:
        """Objects of a namespace whose index label has this value."""
        return [self._objects[key] for key in sorted(self._by_label.get((namespace, value), ()))]

    def departed(self, namespace: str, value: str) -> list[Object]:
        """Objects with this index label that are gone, as they were last seen. Only a memory: a new process has none."""
        return [
            obj
            for (space, _), obj in self._departed.items()
            if space == namespace and obj["metadata"].get("labels", {}).get(self._index) == value
        ]

    def put(self, obj: Object) -> bool:
        """Take an object over unless the copy is as new already; whether it was taken."""
        self.heard = time.monotonic()
        key, version = _key(obj), _version(obj)
        old = self._objects.get(key)
        if (old is not None and _version(old) >= version) or self._gone.get(key, -1) >= version:
            return False
        self._gone.pop(key, None)
        self._departed.pop(key, None)
        obj = self._keep(obj)
        self._objects[key] = obj
        self._note(key, old, obj)
        return True

    def remove(self, obj: Object) -> None:
        """Forget an object that was deleted."""
        key = _key(obj)
        old = self._objects.get(key)
        if old is not None and old["metadata"].get("uid") in (None, obj["metadata"].get("uid")):
            del self._objects[key]
            self._note(key, old, None)
            self._gone[key] = _version(obj)
            if len(self._gone) > 10_000:
                self._gone.clear()
            if self._index is not None:
                self._departed[key] = obj
                while len(self._departed) > MAX_DEPARTED:
                    del self._departed[next(iter(self._departed))]

    def drop(self, namespace: str, name: str) -> None:
        """Forget the object of that name, if there is one: the API said that it is gone."""
        there = self.get(namespace, name)
        if there is not None:
            self.remove(there)

    async def run(self) -> None:
        """List, watch, resume; again and again, until cancelled. Errors of the API are waited out."""
        failures = 0
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self.relist()
                    failures = 0
                async for event in self._cluster.watch(
                    self.resource, self._namespace, labels=self._labels, without=self.without, resource_version=version
                ):
                    failures = 0
                    version = event.object["metadata"]["resourceVersion"]
                    self.heard = time.monotonic()
                    if event.type is WatchType.BOOKMARK:
                        continue
                    if event.type is WatchType.DELETED:
                        self.remove(event.object)
                        self._on_change(event.object)
                    elif self.put(event.object):
                        self._on_change(event.object)
            except Gone:
                version = None
            except ClusterError as error:
                self.trouble = str(error)
                delay = error.retry_after or RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                # A watch that broke for an unknown reason may have lost its place: after repeated trouble start from a list.
                version = version if failures < 3 else None
                log.warning("watch of %s: %s; again in %.1f s", self.resource.plural, error, delay)
                await asyncio.sleep(delay)

    async def first_list(self) -> None:
        """Return once a list has been had, for a store that is fed by somebody else. Errors of the API are waited out."""
        await answered(self.relist, f"list of {self.resource.plural}")

    async def relist(self) -> str:
        """Make the copy what a list says; the version that it is of. Raises `ClusterError`."""
        listed = await self._cluster.list(self.resource, self._namespace, labels=self._labels, without=self.without)
        self.replace(listed)
        self.trouble = ""
        self.synced.set()
        return listed.resource_version

    def replace(self, listed: ObjectList) -> None:
        """Make the copy what a fresh list says; what is newer than the list is none of its business."""
        self.heard = time.monotonic()
        fresh = {_key(obj): obj for obj in listed.items}
        for key, old in list(self._objects.items()):
            if key not in fresh and _version(old) <= int(listed.resource_version):
                del self._objects[key]
                self._note(key, old, None)
                self._on_change(old)
        for obj in fresh.values():
            if self.put(obj):
                self._on_change(obj)

    def _note(self, key: _Key, old: Object | None, new: Object | None) -> None:
        if self._index is None:
            return
        for obj, add in ((old, False), (new, True)):
            value = (obj or {"metadata": {}})["metadata"].get("labels", {}).get(self._index)
            if value is not None:
                keys = self._by_label.setdefault((key[0], value), set())
                if add:
                    keys.add(key)
                else:
                    keys.discard(key)
                    if not keys:
                        del self._by_label[key[0], value]


async def answered(ask: Callable[[], Awaitable[T]], what: str) -> T:
    """The API server's answer, once it gives one: its errors are waited out."""
    for delay in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
        try:
            return await ask()
        except ClusterError as error:
            wait = error.retry_after or delay
            log.warning("%s: %s; again in %.1f s", what, error, wait)
            await asyncio.sleep(wait)
    raise AssertionError("it is asked for ever")


def _key(obj: Object) -> _Key:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(obj: Object) -> int:
    """Versions are opaque by the letter; since Kubernetes 1.35 they are documented to compare as numbers."""
    return int(obj["metadata"].get("resourceVersion", "0"))
