"""A ModelDeployment's operator without its loop, over a cluster whose publisher, servers and gateways do what a test says.

Like `support.driver`: one pass after another on a clock of the test's, so that a test can kill the operator at each of its calls.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.builders import job
from support.driver import NAMESPACE, START, Killed, View
from trainwright.api.names import DEPLOYMENT_LABEL, UID_LABEL
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import DEPLOYMENTS, JOBS, MODEL_DEPLOYMENTS, PODS, TRAINING_JOBS, ClusterError, Object
from trainwright.controller.metrics import Metrics
from trainwright.controller.serving import Serving
from trainwright.controller.store import Store
from trainwright.observe.gateway import GatewayReport, read_report
from trainwright.observe.times import rfc3339
from trainwright.plan.types import Settings

DEPLOYMENT = "digits"
BOUNDS = [0.001 * 1.5**power for power in range(30)]


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def deployment(name: str = DEPLOYMENT, **spec: Any) -> Object:
    """As a user would write it: TorchServe, two short canary steps."""
    steps = [{"weight": 20, "holdSeconds": 10, "minRequests": 50}, {"weight": 50, "holdSeconds": 10, "minRequests": 50}]
    return {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"server": "torchserve", "canary": {"steps": steps}, **spec},
    }


@dataclass
class Traffic:
    """What clients see of a version in a window. `latency`: seconds of every answer."""

    requests: int = 200
    errors: int = 0
    not_finite: int = 0
    latency: float = 0.01
    predictions: dict[str, int] = field(default_factory=lambda: {"0": 100, "1": 100})

    def window(self, name: str) -> dict[str, Any]:
        counts = [0] * (len(BOUNDS) + 1)
        counts[next(index for index, bound in enumerate([*BOUNDS, float("inf")]) if self.latency <= bound)] = self.requests
        return {
            "id": name,
            "requests": self.requests,
            "errors": self.errors,
            "notFinite": self.not_finite,
            "latency": {"bounds": BOUNDS, "counts": counts},
            "predictions": {"kind": "categorical", "counts": self.predictions},
        }


class ScriptedGateways:
    """What gateways answer: by what they were told, and by what `world` says of each version."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.told: dict[str, Any] = {}

    def tell(self, key: str, wanted: Any) -> None:
        self.told[key] = copy.deepcopy(wanted)

    def forget(self, key: str) -> None:
        self.told.pop(key, None)

    def reports(self, key: str) -> dict[str, GatewayReport]:
        wanted = self.told.get(key)
        if wanted is None or not self._world.gateways_answer:
            return {}
        answer = {"instance": "g", "versions": {}, "monitoring": self._world.monitoring}
        for version in wanted.body["versions"]:
            number = version["version"]
            smoke = self._world.smoke.get(number, "passed")
            answer["versions"][str(number)] = {
                "available": bool(version["addresses"]),
                "why": None,
                "warmed": bool(version["addresses"]),
                "smoke": {"state": smoke if version["addresses"] else "waiting", "message": f"{smoke} by script"},
                "window": self._world.traffic.get(number, Traffic()).window(version["window"]),
            }
        report = read_report(answer)
        assert report is not None
        return dict.fromkeys(wanted.addresses, report)


class World:
    """Everything around the operator: `publisher` answers tasks (None: not yet), servers come up unless `broken`."""

    def __init__(self, interfere: Callable[[str], None] = lambda _: None) -> None:
        self.cluster = MemoryCluster(admission=ADMISSION)
        self.now = START
        self.kills = self.errors = 0
        self.interfere = interfere
        self.gateways_answer = True
        self.monitoring: dict[str, Any] = {}
        self.smoke: dict[int, str] = {}
        self.traffic: dict[int, Traffic] = {}
        self.broken: set[int] = set()
        self.files: set[int] = set()
        self.metrics: dict[int, dict[str, float]] = {}
        self.words: Callable[[str, int], dict[str, Any] | None] = self.says
        self._begin()

    def says(self, task: str, version: int) -> dict[str, Any] | None:
        """A publisher that does what it is asked."""
        if task == "verify":
            metrics = self.metrics.get(version, {"accuracy": 0.95})
            return {"ok": True, "digest": digest(f"model {version}"), "metrics": metrics, "test": "t", "bytes": 1000, "files": 4}
        if task == "publish":
            self.files.add(version)
            return {"ok": True, "record": digest(f"record {version}"), "bytes": 900}
        self.files.discard(version)
        return {"ok": True, "removed": [version]}

    def _begin(self) -> None:
        view = View(self.cluster, self._asked)
        self._listed = -1
        self.jobs = Store(view, TRAINING_JOBS)
        self.woken: list[str] = []
        self.serving = Serving(
            view,
            namespace=None,
            jobs=self.jobs,
            settings=Settings(gateway_key=b"0" * 32),
            metrics=Metrics(),
            wake=lambda _: None,
            wake_job=self.woken.append,
            clock=lambda: self.now,
        )
        self.serving.gateways = ScriptedGateways(self)  # type: ignore[assignment]

    def _asked(self, moment: str) -> None:
        self.interfere(moment)

    async def apply(self, raw: Object) -> None:
        await self.cluster.create(MODEL_DEPLOYMENTS, raw)

    async def change(self, **spec: Any) -> None:
        await self.cluster.patch(MODEL_DEPLOYMENTS, DEPLOYMENT, NAMESPACE, {"spec": spec})

    async def train(self, name: str, **publish: Any) -> None:
        """A job that has succeeded and publishes."""
        self.now += 1
        raw = job(name).spec(publish={"deployment": DEPLOYMENT, **publish}).build()
        await self.cluster.create(TRAINING_JOBS, raw)
        status = {"phase": "Succeeded", "completionTime": rfc3339(self.now)}
        await self.cluster.patch(TRAINING_JOBS, name, NAMESPACE, {"status": status}, subresource="status")

    async def settle(self, *, patience: float = 120.0) -> None:
        """Passes until nothing more is to be done, with the world moving on between them."""
        for _ in range(400):
            await self._move()
            before = self.cluster._version
            if before != self._listed:
                for store in (self.jobs, self.serving._pods, *self.serving._children, self.serving.deployments):
                    store.replace(await self.cluster.list(store.resource, labels=store._labels))
                self._listed = before
            key = f"{NAMESPACE}/{DEPLOYMENT}"
            heard = self.serving.gateways.reports(key)
            try:
                later = await self.serving.reconcile(key)
            except Killed:
                self.kills += 1
                self._begin()
                continue
            except ClusterError:
                self.errors += 1
                continue
            # What gateways have to say that is new wakes the operator, too.
            if self.cluster._version != before or later == 0 or self.serving.gateways.reports(key) != heard:
                continue
            if later is None or later > patience:
                await self._move()
                if self.cluster._version == before:
                    return
                continue
            patience -= later
            self.now += later
        raise AssertionError("the operator never comes to rest")

    async def _move(self) -> None:
        """The controllers of the cluster, its nodes and the publisher."""
        for made in (await self.cluster.list(JOBS)).items:
            await self._run_task(made)
        for made in (await self.cluster.list(DEPLOYMENTS)).items:
            await self._scale(made)
        owners = {one["metadata"]["uid"] for kind in (JOBS, DEPLOYMENTS) for one in (await self.cluster.list(kind)).items}
        for pod in (await self.cluster.list(PODS)).items:
            if pod["metadata"]["ownerReferences"][0]["uid"] not in owners:
                await self.cluster.delete(PODS, pod["metadata"]["name"], NAMESPACE, grace_seconds=0)

    async def _run_task(self, made: Object) -> None:
        name = made["metadata"]["name"]
        if made.get("status", {}).get("conditions"):
            return
        number, task = name.removeprefix(f"{DEPLOYMENT}-v").split("-")
        words = self.words(task, int(number))
        if words is None:
            return
        code = 0 if words.get("ok") else 3
        await self._pod(
            made, f"{name}-pod", made["spec"]["template"], {"batch.kubernetes.io/job-name": name}, words=words, code=code
        )
        kind = "Complete" if code == 0 else "Failed"
        status = {"conditions": [{"type": kind, "status": "True"}]}
        await self.cluster.patch(JOBS, name, NAMESPACE, {"status": status}, subresource="status")

    async def _scale(self, made: Object) -> None:
        labels = made["spec"]["template"]["metadata"]["labels"]
        version = int(labels.get("trainwright.dev/version", 0))
        there = (await self.cluster.list(PODS, labels=labels)).items
        for number in range(len(there), made["spec"]["replicas"]):
            await self._pod(
                made, f"{made['metadata']['name']}-{number}", made["spec"]["template"], {}, ready=version not in self.broken
            )

    async def _pod(
        self,
        owner: Object,
        name: str,
        template: Object,
        labels: dict[str, str],
        *,
        words: dict[str, Any] | None = None,
        code: int = 0,
        ready: bool = False,
    ) -> None:
        metadata: Object = {"name": name, "namespace": NAMESPACE, "labels": {**template["metadata"]["labels"], **labels}}
        metadata["annotations"] = template["metadata"].get("annotations", {})
        metadata["ownerReferences"] = [
            {"uid": owner["metadata"]["uid"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
        ]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        await self.cluster.create(PODS, pod)
        container: dict[str, Any] = {"name": template["spec"]["containers"][0]["name"]}
        if words is None:
            container["state"] = {"running": {"startedAt": rfc3339(self.now)}}
            phase = "Running"
        else:
            container["state"] = {"terminated": {"exitCode": code, "message": json.dumps(words)}}
            phase = "Failed" if code else "Succeeded"
        address = f"10.0.{sum(name.encode()) % 250}.{len(name)}"
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        status = {"phase": phase, "podIP": address, "containerStatuses": [container], "conditions": [condition]}
        await self.cluster.patch(PODS, name, NAMESPACE, {"status": status}, subresource="status")

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.cluster.get(MODEL_DEPLOYMENTS, DEPLOYMENT, NAMESPACE)).get("status", {})
        return found

    async def states(self) -> dict[int, str]:
        return {one["version"]: one["state"] for one in (await self.status())["versions"]}

    async def servers(self) -> set[int]:
        """Versions that servers run for."""
        pods = (await self.cluster.list(PODS, labels={DEPLOYMENT_LABEL: DEPLOYMENT})).items
        assert all(UID_LABEL in pod["metadata"]["labels"] for pod in pods)
        roles = [pod["metadata"]["labels"] for pod in pods if pod["metadata"]["labels"]["trainwright.dev/role"] == "server"]
        return {int(labels["trainwright.dev/version"]) for labels in roles}

    @property
    def body(self) -> dict[str, Any]:
        """What the gateways were told last."""
        return self.serving.gateways.told[f"{NAMESPACE}/{DEPLOYMENT}"].body  # type: ignore[attr-defined]

    @property
    def weights(self) -> dict[int, int]:
        return {one["version"]: one["weight"] for one in self.body["versions"]}
