"""The port's adapter that keeps a cluster in one process's memory.

It stands in for the API server and its garbage collector, nothing more: pods are bound and run by whoever watches them.
`trainwright run` and many tests live on it, so it must not lie: the contract suite in `tests/contract` runs unchanged against it
and against a real API server. Everything happens in one event loop; objects are copied on their way in and out.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from trainwright.cluster.port import (
    CRDS,
    DEPLOYMENTS,
    JOBS,
    LEASES,
    MODEL_DEPLOYMENTS,
    PODS,
    STORAGE_CLASSES,
    TRAINING_JOBS,
    AlreadyExists,
    ClusterError,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    Object,
    ObjectList,
    Resource,
    WatchEvent,
    WatchType,
)
from trainwright.observe.times import rfc3339

Admission = Callable[[Object, Object | None], Object]
"""Given the new object and the stored one (None on create): the object to store, defaulted and pruned; raises `Invalid`."""

Access = Callable[[str, str, str | None], bool]
"""Given a verb, a plural (`pods`, `pods/log`) and a namespace (None: all): whether the user may."""

LogSource = Callable[[str, str, int | None], Awaitable[str]]
"""Given namespace, pod and how many last lines (None: all): the pod's log."""

HISTORY = 10_000
# The API server that this adapter behaves like.
VERSION = "v1.36.0"
_SERVED = (TRAINING_JOBS, MODEL_DEPLOYMENTS, CRDS, STORAGE_CLASSES, LEASES, DEPLOYMENTS, JOBS)
_WITH_STATUS = {
    "Pod",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "TrainingJob",
    "ModelDeployment",
    "Deployment",
    "Job",
    "CustomResourceDefinition",
    "Namespace",
    "ResourceQuota",
}
# Of groups that have a kind of that name with the subresource, and others that have one without.
_STATUS_OF = {
    ("scheduling.k8s.io", "PodGroup"),
    ("scheduling.x-k8s.io", "PodGroup"),
    ("scheduling.run.ai", "PodGroup"),
    ("kueue.x-k8s.io", "Workload"),
}
_Key = tuple[str, str, str]


def _has_status(resource: Resource) -> bool:
    """Whether status is written apart from all else."""
    return resource.kind in _WITH_STATUS or (resource.group, resource.kind) in _STATUS_OF


class MemoryCluster:
    """An empty cluster. `admission` maps a kind to what its API server would do to a new object before storing it.

    Objects of any kind are taken; `serves` only adds to what discovery tells. `access` only answers access reviews: calls are
    never refused.
    """

    def __init__(
        self,
        *,
        admission: Mapping[str, Admission] | None = None,
        serves: Sequence[Resource] = (),
        access: Access = lambda *_: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self.namespace = "default"
        self._served = (*_SERVED, *serves)
        self._access = access
        self._admission = dict(admission or {})
        self._objects: dict[_Key, Object] = {}
        self._applied: dict[tuple[_Key, str], Object] = {}
        self._versions = itertools.count(1)
        self._version = 0
        self._history: list[tuple[int, WatchEvent]] = []
        self._dropped = 0
        self._changed = asyncio.Event()
        self._log_source: LogSource | None = None

    def serve_logs(self, source: LogSource) -> None:
        """Let `logs` ask the node that runs the pods."""
        self._log_source = source

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return copied(self._find(resource, name, namespace))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        without: Mapping[str, str] | None = None,
    ) -> ObjectList:
        items = [copied(obj) for obj in self._of(resource, namespace) if _selected(obj, labels, without)]
        return ObjectList(items=items, resource_version=str(self._version))

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        without: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncIterator[WatchEvent]:
        seen = int(resource_version)
        while True:
            if seen < self._dropped:
                raise Gone(f"too old resource version: {seen} ({self._dropped + 1})")
            changed = self._changed
            for version, event in self._after(seen):
                seen = version
                obj = event.object
                if obj["kind"] != resource.kind or obj["apiVersion"] != resource.api_version:
                    continue
                if namespace is not None and obj["metadata"].get("namespace") != namespace:
                    continue
                if _selected(obj, labels, without):
                    yield WatchEvent(event.type, copied(obj))
            if changed is self._changed:
                await changed.wait()

    async def create(self, resource: Resource, obj: Object) -> Object:
        obj = copied(obj)
        if not obj["metadata"].get("name") and obj["metadata"].get("generateName"):
            obj["metadata"]["name"] = f"{obj['metadata']['generateName']}{uuid.uuid4().hex[:5]}"
        key = self._key(resource, obj["metadata"]["name"], obj["metadata"].get("namespace"))
        if key in self._objects:
            raise AlreadyExists(f'{resource.plural} "{key[2]}" already exists')
        return copied(self._insert(resource, key, obj))

    async def apply(self, resource: Resource, obj: Object, *, manager: str = "trainwright") -> Object:
        obj = copied(obj)
        key = self._key(resource, obj["metadata"]["name"], obj["metadata"].get("namespace"))
        before = self._applied.get((key, manager), {})
        if key not in self._objects:
            stored = self._insert(resource, key, copied(obj))
        else:
            current = self._objects[key]
            merged = _without(copied(current), _gone(before, obj))
            if _has_status(resource):
                obj.pop("status", None)
            stored = self._replace(resource, key, _overlay(merged, obj))
        self._applied[key, manager] = obj
        return copied(stored)

    async def patch(
        self, resource: Resource, name: str, namespace: str | None, patch: Object, *, subresource: str | None = None
    ) -> Object:
        current = self._find(resource, name, namespace)
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != current["metadata"]["resourceVersion"]:
            raise Conflict(f'Operation cannot be fulfilled on {resource.plural} "{name}": the object has been modified')
        if patch.get("metadata", {}).get("uid") not in (None, current["metadata"]["uid"]):
            raise Conflict(f'Operation cannot be fulfilled on {resource.plural} "{name}": uid mismatch')
        if subresource == "status":
            patch = {"status": patch.get("status")}
        elif _has_status(resource):
            patch = {key: value for key, value in patch.items() if key != "status"}
        new = merge_patch(copied(current), patch)
        key = self._key(resource, name, namespace)
        return copied(self._replace(resource, key, new, status_only=subresource == "status"))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        current = self._find(resource, name, namespace)
        metadata = current["metadata"]
        if uid is not None and uid != metadata["uid"]:
            raise Conflict(f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']})")
        grace = self._grace(resource, current, grace_seconds)
        key = self._key(resource, name, namespace)
        if grace == 0 and not metadata.get("finalizers"):
            self._remove(key)
            return
        if "deletionTimestamp" not in metadata or grace < metadata.get("deletionGracePeriodSeconds", 0):
            new = copied(current)
            new["metadata"] |= {"deletionTimestamp": rfc3339(self._clock()), "deletionGracePeriodSeconds": grace}
            self._store(key, new, WatchType.MODIFIED)

    async def logs(self, name: str, namespace: str, *, container: str | None = None, tail_lines: int | None = None) -> str:
        pod = self._find(PODS, name, namespace)
        if container is not None and container not in [one["name"] for one in pod["spec"]["containers"]]:
            raise Invalid(f"container {container} is not valid for pod {name}")
        if self._log_source is None:
            raise ClusterError("no node serves logs")
        return await self._log_source(namespace, name, tail_lines)

    async def version(self) -> str:
        return VERSION

    async def discover(self, group: str) -> dict[str, tuple[str, ...]]:
        kinds: dict[str, tuple[str, ...]] = {}
        for resource in self._served:
            if resource.group == group:
                kinds[resource.version] = tuple(sorted((*kinds.get(resource.version, ()), resource.kind)))
        return kinds

    async def may(self, verb: str, resource: Resource, namespace: str | None = None, *, subresource: str = "") -> bool:
        return self._access(verb, f"{resource.plural}/{subresource}" if subresource else resource.plural, namespace)

    async def close(self) -> None:
        return None

    def _after(self, version: int) -> Sequence[tuple[int, WatchEvent]]:
        # Versions are consecutive and one event has one version, so the first unseen event is found by arithmetic.
        return self._history[max(0, version - self._dropped) :]

    def _key(self, resource: Resource, name: str, namespace: str | None) -> _Key:
        if resource.namespaced and not namespace:
            raise Invalid(f"{resource.kind} {name}: an empty namespace may not be set during creation")
        return f"{resource.api_version}/{resource.kind}", namespace or "", name

    def _find(self, resource: Resource, name: str, namespace: str | None) -> Object:
        try:
            return self._objects[self._key(resource, name, namespace)]
        except KeyError:
            raise NotFound(f'{resource.plural} "{name}" not found') from None

    def _of(self, resource: Resource, namespace: str | None) -> Iterator[Object]:
        group = f"{resource.api_version}/{resource.kind}"
        for key in sorted(key for key in self._objects if key[0] == group and namespace in (None, key[1])):
            yield self._objects[key]

    def _insert(self, resource: Resource, key: _Key, obj: Object) -> Object:
        obj |= {"apiVersion": resource.api_version, "kind": resource.kind}
        if _has_status(resource):
            obj.pop("status", None)
        obj = self._admit(resource, obj, None)
        obj["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": rfc3339(self._clock()), "generation": 1}
        if resource.kind == "Pod":
            obj["status"] = {"phase": "Pending", "qosClass": "Burstable"}
        elif resource.kind == "PersistentVolumeClaim":
            obj["status"] = {"phase": "Pending"}
        return self._store(key, obj, WatchType.ADDED)

    def _replace(self, resource: Resource, key: _Key, new: Object, *, status_only: bool = False) -> Object:
        current = self._objects[key]
        for field in ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp"):
            if field in current["metadata"]:
                new["metadata"][field] = current["metadata"][field]
        if not status_only:
            new = self._admit(resource, new, current)
        if new == current:
            return current
        if new.get("spec") != current.get("spec"):
            new["metadata"]["generation"] += 1
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers") and resource.kind != "Pod":
            self._remove(key)
            return new
        return self._store(key, new, WatchType.MODIFIED)

    def _admit(self, resource: Resource, new: Object, current: Object | None) -> Object:
        admit = self._admission.get(resource.kind)
        return admit(new, current) if admit else new

    def _store(self, key: _Key, obj: Object, change: WatchType) -> Object:
        self._objects[key] = obj
        self._record(change, obj)
        return obj

    def _record(self, change: WatchType, obj: Object) -> None:
        self._version = next(self._versions)
        obj["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, WatchEvent(change, copied(obj))))
        if len(self._history) > HISTORY:
            keep = HISTORY // 2
            self._dropped += len(self._history) - keep
            self._history = self._history[-keep:]
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _grace(self, resource: Resource, obj: Object, asked: int | None) -> int:
        """Only a bound, unfinished pod is given time: its node confirms the end."""
        unfinished = obj.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        if resource.kind != "Pod" or not obj["spec"].get("nodeName") or not unfinished:
            return 0
        return asked if asked is not None else int(obj["spec"].get("terminationGracePeriodSeconds", 30))

    def _remove(self, key: _Key) -> None:
        obj = self._objects.pop(key)
        for owner in [owned for owned in self._applied if owned[0] == key]:
            del self._applied[owner]
        self._record(WatchType.DELETED, copied(obj))
        self._collect(obj["metadata"]["uid"])

    def _collect(self, uid: str) -> None:
        """What the garbage collector does when an owner is gone."""
        for key, obj in list(self._objects.items()):
            owners = obj["metadata"].get("ownerReferences", [])
            if not any(owner["uid"] == uid for owner in owners) or key not in self._objects:
                continue
            resource = Resource(obj["kind"], "", *_group_version(obj["apiVersion"]))
            grace = self._grace(resource, obj, None)
            if grace == 0 and not obj["metadata"].get("finalizers"):
                self._remove(key)
            elif "deletionTimestamp" not in obj["metadata"]:
                new = copied(obj)
                new["metadata"] |= {"deletionTimestamp": rfc3339(self._clock()), "deletionGracePeriodSeconds": grace}
                self._store(key, new, WatchType.MODIFIED)


def copied(obj: Object) -> Object:
    """A copy of plain JSON that shares nothing which can change. `copy.deepcopy` looks for more, and takes four times as long."""
    return {key: _copied(below) if isinstance(below, (dict, list)) else below for key, below in obj.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return copied(value)
    return [_copied(below) for below in value] if isinstance(value, list) else value


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects merge, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return _copied(patch)
    result = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _selected(obj: Object, labels: Mapping[str, str] | None, without: Mapping[str, str] | None) -> bool:
    own = obj["metadata"].get("labels", {})
    unwanted = any(own.get(key) == value for key, value in (without or {}).items())
    return not unwanted and all(own.get(key) == value for key, value in (labels or {}).items())


def _group_version(api_version: str) -> tuple[str, str]:
    group, _, version = api_version.rpartition("/")
    return group, version


def _overlay(target: Any, applied: Any) -> Any:
    if isinstance(target, dict) and isinstance(applied, dict):
        for key, value in applied.items():
            target[key] = _overlay(target.get(key), value)
        return target
    return _copied(applied)


def _gone(before: Any, now: Any) -> Any:
    """The fields that a manager applied before and no longer names, as a tree whose leaves are None."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return {}
    gone: Object = {key: None for key in before if key not in now}
    for key in before.keys() & now.keys():
        if below := _gone(before[key], now[key]):
            gone[key] = below
    return gone


def _without(target: Any, gone: Any) -> Any:
    for key, below in (gone or {}).items():
        if below is None:
            target.pop(key, None)
        elif isinstance(target.get(key), dict):
            _without(target[key], below)
    return target
