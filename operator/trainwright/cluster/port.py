"""The seam between Trainwright and a cluster: what may be asked of it, and nothing of how.

Objects are plain JSON dictionaries exactly as the Kubernetes API gives them. Two adapters stand behind the port:
`kube` (a real API server) and `memory` (one process, for `trainwright run` and for tests); one contract suite
runs unchanged against both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

Object: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """One kind of object and where the API serves it. `group` is empty for the core group."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, of one object, or of its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


PODS = Resource("Pod", "pods")
SERVICES = Resource("Service", "services")
CONFIG_MAPS = Resource("ConfigMap", "configmaps")
CLAIMS = Resource("PersistentVolumeClaim", "persistentvolumeclaims")
VOLUMES = Resource("PersistentVolume", "persistentvolumes", namespaced=False)
NODES = Resource("Node", "nodes", namespaced=False)
NAMESPACES = Resource("Namespace", "namespaces", namespaced=False)
RESOURCE_QUOTAS = Resource("ResourceQuota", "resourcequotas")
SECRETS = Resource("Secret", "secrets")
EVENTS = Resource("Event", "events")
PRIORITY_CLASSES = Resource("PriorityClass", "priorityclasses", "scheduling.k8s.io", namespaced=False)
LEASES = Resource("Lease", "leases", "coordination.k8s.io")
STORAGE_CLASSES = Resource("StorageClass", "storageclasses", "storage.k8s.io", namespaced=False)
DEPLOYMENTS = Resource("Deployment", "deployments", "apps")
CRDS = Resource("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io", namespaced=False)
JOBS = Resource("Job", "jobs", "batch")
SERVICE_ACCOUNTS = Resource("ServiceAccount", "serviceaccounts")
NETWORK_POLICIES = Resource("NetworkPolicy", "networkpolicies", "networking.k8s.io")
HTTP_ROUTES = Resource("HTTPRoute", "httproutes", "gateway.networking.k8s.io")
MODEL_DEPLOYMENTS = Resource("ModelDeployment", "modeldeployments", "trainwright.dev", "v1alpha1")
TRAINING_JOBS = Resource("TrainingJob", "trainingjobs", "trainwright.dev", "v1alpha1")


class WatchType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True)
class WatchEvent:
    type: WatchType
    object: Object


@dataclass(frozen=True)
class ObjectList:
    items: list[Object]
    resource_version: str


class ClusterError(Exception):
    """An answer of the API other than success. `status` is the HTTP code, 0 when there was no answer at all."""

    status: int = 0

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        if status is not None:
            self.status = status


class NotFound(ClusterError):
    status = 404


class AlreadyExists(ClusterError):
    """409 on create: an object of that name is there."""

    status = 409


class Conflict(ClusterError):
    """409 on a write: the object is not at the resource version (or uid) that the caller named."""

    status = 409


class Gone(ClusterError):
    """410: the resource version to watch from is too old; list again."""

    status = 410


class Invalid(ClusterError):
    """422 or 400: the object was refused; the message is the API server's own."""

    status = 422


class Forbidden(ClusterError):
    """403: RBAC, a quota or an admission policy said no; the message is the API server's own."""

    status = 403


class Cluster(Protocol):
    """Every call may raise `ClusterError`. Objects have all of `labels`, each with its value, and none of `without`."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """One object. Raises `NotFound`."""
        ...

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        without: Mapping[str, str] | None = None,
    ) -> ObjectList:
        """All objects of a kind, in one namespace or (None) in all, and the resource version to watch from."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        without: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `resource_version`. Ends when the server closes the watch; raises `Gone` when too old."""
        ...

    async def create(self, resource: Resource, obj: Object) -> Object:
        """The object as stored. Raises `AlreadyExists`."""
        ...

    async def apply(self, resource: Resource, obj: Object, *, manager: str = "trainwright") -> Object:
        """Server-side apply with force: creates the object, or makes the fields that `obj` names as it says."""
        ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        patch: Object,
        *,
        subresource: str | None = None,
    ) -> Object:
        """JSON merge patch (null removes). With `metadata.resourceVersion` in it a stale write raises `Conflict`.

        `subresource="status"` changes status alone; without it status is left as it is on kinds that have the
        subresource.
        """
        ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Ask for deletion; with `uid` only if it is still that object (else `Conflict`). Raises `NotFound`.

        A pod bound to a node stays, with a deletionTimestamp, until its node confirms with grace 0.
        """
        ...

    async def logs(self, name: str, namespace: str, *, container: str | None = None, tail_lines: int | None = None) -> str:
        """The end of a pod's log. Raises `NotFound`, or `ClusterError` when its node does not answer."""
        ...

    async def close(self) -> None:
        """Let go of connections; no call may follow."""
        ...


class Inspectable(Cluster, Protocol):
    """A cluster that also tells of itself, for whoever looks into what is wrong with it. Every call may raise `ClusterError`."""

    namespace: str
    """Where we work unless told otherwise."""

    async def version(self) -> str:
        """The API server's version, such as `v1.36.3`."""
        ...

    async def discover(self, group: str) -> dict[str, tuple[str, ...]]:
        """Kinds of an API group by version, the preferred version first; empty when the group is not served."""
        ...

    async def may(self, verb: str, resource: Resource, namespace: str | None = None, *, subresource: str = "") -> bool:
        """Whether we are allowed this, in one namespace or (None) in all of them."""
        ...
