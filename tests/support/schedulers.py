"""Other schedulers, played by a test: their definitions, and what they write into the objects that they are told by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from support.twin import ROOT
from support.waiting import eventually
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import CRDS, AlreadyExists, Cluster, NotFound, Object, Resource
from trainwright.schedulers.told import providers

FOLDERS = {
    ProviderName.VOLCANO: "volcano",
    ProviderName.COSCHEDULING: "coscheduling",
    ProviderName.KAI: "kai",
    ProviderName.KUEUE: "kueue",
}
"""Where each provider's definitions are, below a folder that is no part of the project."""


def definitions_folder() -> Path:
    """Where definitions of other schedulers are looked for. Raises `FileNotFoundError` that says what is missing."""
    places = [Path(named)] if (named := os.environ.get("TRAINWRIGHT_CRDS")) else []
    places += [ROOT.parent / "shared" / "crds", ROOT.parent.parent / "shared" / "crds"]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"no definitions of other schedulers in {' or '.join(map(str, places))} (TRAINWRIGHT_CRDS names another)"
    )


def definitions(provider: ProviderName) -> Iterator[Object]:
    """Definitions as the project's own chart installs them. Raises `FileNotFoundError`."""
    folder = definitions_folder() / FOLDERS[provider]
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise FileNotFoundError(f"no definitions in {folder}")
    for file in files:
        yield from (one for one in yaml.safe_load_all(file.read_text()) if one)


async def install(cluster: Cluster, provider: ProviderName) -> None:
    """Have a real API server serve a provider's kinds."""
    for one in definitions(provider):
        try:
            await cluster.create(CRDS, one)
        except AlreadyExists:
            continue

    async def established() -> bool:
        names = [one["metadata"]["name"] for one in definitions(provider)]
        found = [await cluster.get(CRDS, name) for name in names]
        said = [{c["type"]: c["status"] for c in one.get("status", {}).get("conditions", [])} for one in found]
        return all(one.get("Established") == "True" for one in said)

    await eventually(established, within=20, what=f"the kinds of {provider}")


def kind(provider: ProviderName, name: str = "PodGroup", version: str = "") -> Resource:
    """A provider's kind in the version that is played here."""
    api = providers({})[provider].api
    return Resource(name, api.kinds[name], api.group, version or api.versions[-1])


def kinds(provider: ProviderName) -> list[Resource]:
    return [kind(provider, name) for name in providers({})[provider].api.kinds]


FLAVORS = Resource("ResourceFlavor", "resourceflavors", "kueue.x-k8s.io", "v1beta2", namespaced=False)


class ScriptedKueue:
    """Kueue's part for one job, through any adapter of the port."""

    def __init__(self, cluster: Cluster, namespace: str, job: str = "digits") -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = f"trainingjob-{job}"
        self.workloads = kind(ProviderName.KUEUE, "Workload")

    async def there(self) -> Object | None:
        try:
            return await self.cluster.get(self.workloads, self.name, self.namespace)
        except NotFound:
            return None

    async def workload(self) -> Object:
        found: Object = await eventually(self.there, within=20, what=f"Workload {self.name}")
        return found

    async def says(self, kind: str, status: bool, reason: str = "") -> Object:
        """The Workload, as soon as a condition of it is so."""

        async def so() -> Object | None:
            found = await self.there()
            conditions = {c["type"]: c for c in (found or {}).get("status", {}).get("conditions", [])}
            held = conditions.get(kind, {"status": "", "reason": ""})
            return found if held["status"] == str(status) and reason in ("", held["reason"]) else None

        found: Object = await eventually(so, within=20, what=f"{kind} {status} {reason}")
        return found

    async def flavor(self, name: str) -> None:
        """Nodes of a kind, which a quota is for."""
        spec = {
            "nodeLabels": {"gpu-type": name},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        }
        made = {"apiVersion": FLAVORS.api_version, "kind": FLAVORS.kind, "metadata": {"name": name}, "spec": spec}
        try:
            await self.cluster.create(FLAVORS, made)
        except AlreadyExists:
            return

    async def admit(self, flavor: str = "fast", *, checks: bool = False) -> None:
        """Give quota of a flavor, and admit."""
        workload = await self.workload()
        (pod_set,) = workload["spec"]["podSets"]
        assigned = {"name": pod_set["name"], "count": pod_set["count"], "flavors": {"cpu": flavor}}
        update = {"name": pod_set["name"], "nodeSelector": {"checked": "yes"}, "labels": {"checked": "yes"}}
        now = "2026-11-21T09:00:00Z"
        check = {"name": "prov", "state": "Ready", "message": "", "lastTransitionTime": now, "podSetUpdates": [update]}
        await self.write(
            {"QuotaReserved": (True, "QuotaReserved", "quota"), "Admitted": (True, "Admitted", "admitted"), "Evicted": None},
            admission={"clusterQueue": "all", "podSetAssignments": [assigned]},
            **({"admissionChecks": [check]} if checks else {}),
        )

    async def refuse(self, why: str) -> None:
        await self.write({"QuotaReserved": (False, "Pending", why)})

    async def evict(self, reason: str, message: str) -> None:
        await self.write({"Evicted": (True, reason, message)})

    async def write(self, conditions: dict[str, tuple[bool, str, str] | None], **status: Any) -> None:
        """Set conditions (None removes one) and fields of the status."""
        workload = await self.workload()
        kept = [c for c in workload.get("status", {}).get("conditions", []) if c["type"] not in conditions]
        kept += [
            {
                "type": name,
                "status": str(said[0]),
                "reason": said[1],
                "message": said[2],
                "lastTransitionTime": "2026-11-21T09:00:00Z",
            }
            for name, said in conditions.items()
            if said is not None
        ]
        body = {"status": {"conditions": kept, **status}}
        await self.cluster.patch(self.workloads, self.name, self.namespace, body, subresource="status")


class ScriptedScheduler:
    """One scheduler's part, through any adapter of the port."""

    def __init__(self, cluster: Cluster, provider: ProviderName, namespace: str) -> None:
        self.cluster = cluster
        self.provider = provider
        self.namespace = namespace
        self.groups = kinds(provider)[-1]

    async def names(self) -> list[str]:
        return [one["metadata"]["name"] for one in (await self.cluster.list(self.groups, self.namespace)).items]

    async def group(self, name: str) -> Object:
        """The group, as soon as it is there."""

        async def there() -> Object | None:
            try:
                return await self.cluster.get(self.groups, name, self.namespace)
            except NotFound:
                return None

        found: Object = await eventually(there, within=20, what=f"PodGroup {name}")
        return found

    async def admit(self, name: str) -> None:
        """Say that a gang's pods may come, where the scheduler is one that says so."""
        await self.group(name)
        if self.provider is ProviderName.VOLCANO:
            await self.write(name, {"phase": "Inqueue", "conditions": []})

    async def refuse(self, name: str, why: str) -> None:
        """Say why a gang gets no nodes."""
        await self.group(name)
        now = "2026-11-21T09:00:00Z"
        said = {"status": "True", "reason": "NotEnoughResources", "message": why, "lastTransitionTime": now}
        match self.provider:
            case ProviderName.VOLCANO:
                status: Object = {"phase": "Pending", "conditions": [{**said, "type": "Unschedulable"}]}
            case ProviderName.KAI:
                status = {"schedulingConditions": [{**said, "type": "UnschedulableOnNodePool", "nodePool": "default"}]}
            case ProviderName.NATIVE:
                status = {"conditions": [{**said, "type": "PodGroupScheduled", "status": "False", "reason": "Unschedulable"}]}
            case _:
                status = {"phase": "Scheduling"}
        await self.write(name, status)

    async def preempt(self, name: str, why: str) -> None:
        """Take a native gang's room."""
        now = "2026-11-21T09:00:00Z"
        said = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": why}
        await self.write(name, {"conditions": [{**said, "lastTransitionTime": now}]})

    async def write(self, name: str, status: Object) -> None:
        """Volcano's PodGroup has no subresource for it."""
        subresource = None if self.provider is ProviderName.VOLCANO else "status"
        await self.cluster.patch(self.groups, name, self.namespace, {"status": status}, subresource=subresource)

    async def delete(self, name: str) -> None:
        await self.cluster.delete(self.groups, name, self.namespace)


def policy(provider: ProviderName, **fields: Any) -> dict[str, Any]:
    """A run policy that names the provider."""
    return {"schedulingPolicy": {"provider": str(provider), "queue": "team-a"}, **fields}
