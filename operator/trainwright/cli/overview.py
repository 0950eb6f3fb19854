"""All jobs and the GPUs behind them as plain facts: what `top` shows, and what its JSON says. No clock, no I/O, no colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainwright.api.job import read_status
from trainwright.api.names import JOB_LABEL, is_gpu
from trainwright.api.status import Phase
from trainwright.cluster.port import Object
from trainwright.observe.times import seconds
from trainwright.plan.accounting import goodput, held_so_far, so_far

NOT_SEEN = "no operator has looked at it yet; `trainwright doctor` says whether one runs"
_ACTIVE = (Phase.RUNNING, Phase.RESTARTING, Phase.STARTING, Phase.QUEUED, None, Phase.SUSPENDED)


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """`capacity`: allocatable on nodes that are Ready. `in_use`: asked for by pods that have such a node and have not ended."""

    capacity: int
    in_use: int
    not_ready: tuple[str, ...]

    @classmethod
    def count(cls, nodes: Iterable[Object], pods: Iterable[Object]) -> Gpus:
        ready = {node["metadata"]["name"]: node for node in nodes if node_ready(node)}
        return cls(
            capacity=sum(_gpus(node.get("status", {}).get("allocatable")) for node in ready.values()),
            in_use=sum(pod_gpus(pod) for pod in pods if pod.get("spec", {}).get("nodeName") in ready),
            not_ready=tuple(sorted(node["metadata"]["name"] for node in nodes if not node_ready(node))),
        )

    def wire(self) -> dict[str, Any]:
        return {"capacity": self.capacity, "inUse": self.in_use, "notReadyNodes": list(self.not_ready)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job. `goodput` is in percent, the time so far included, as it is in `lost_seconds` and `gpu_hours`; `gpus`: those that
    its pods hold now; `age_seconds` counts from creation, `checkpoint_age` from when the newest checkpoint was complete.
    """

    namespace: str
    name: str
    phase: Phase | None
    reason: str
    ready: int
    desired: int
    gpus: int
    progress: str
    percent: float | None
    samples_per_second: float | None
    metric: str
    step: int | None
    total_steps: int | None
    checkpoint_step: int | None
    checkpoint_age: int | None
    goodput: float | None
    lost_seconds: int
    gpu_hours: float | None
    restarts: int
    age_seconds: int | None

    @property
    def waits(self) -> bool:
        """Whether it would train and can't yet."""
        return self.phase in (None, Phase.QUEUED) or (bool(self.reason) and self.phase in (Phase.STARTING, Phase.RESTARTING))

    @property
    def finished(self) -> bool:
        return self.phase is not None and self.phase.finished

    def wire(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "name": self.name,
            "phase": self.phase.value if self.phase else None,
            "reason": self.reason or None,
            "waits": self.waits,
            "workers": {"ready": self.ready, "desired": self.desired},
            "gpus": self.gpus,
            "progress": self.progress or None,
            "percent": self.percent,
            "step": self.step,
            "totalSteps": self.total_steps,
            "samplesPerSecond": self.samples_per_second,
            "metric": self.metric or None,
            "checkpoint": None
            if self.checkpoint_step is None
            else {"step": self.checkpoint_step, "ageSeconds": self.checkpoint_age},
            "goodput": self.goodput,
            "lostSeconds": self.lost_seconds,
            "gpuHours": self.gpu_hours,
            "restarts": self.restarts,
            "ageSeconds": self.age_seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Overview:
    """`rows`: the active first, in order of their phase, then those that ended, newest first. `gpus`: None where nodes or pods
    of the cluster may not be listed.
    """

    rows: tuple[Row, ...]
    gpus: Gpus | None

    @property
    def queue(self) -> list[Row]:
        """Those that wait, the oldest first."""
        return sorted((row for row in self.rows if row.waits), key=lambda row: -(row.age_seconds or 0))

    def wire(self) -> dict[str, Any]:
        queue = [{"namespace": row.namespace, "name": row.name, "reason": row.reason or None} for row in self.queue]
        return {"gpus": self.gpus.wire() if self.gpus else None, "queue": queue, "jobs": [row.wire() for row in self.rows]}


def overview(jobs: Iterable[Object], nodes: Iterable[Object] | None, pods: Iterable[Object] | None, now: float) -> Overview:
    """The facts at `now`, in seconds since the epoch."""
    pods = None if pods is None else list(pods)
    held: Counter[tuple[str, str]] = Counter()
    for pod in pods or ():
        if (job := pod["metadata"].get("labels", {}).get(JOB_LABEL)) is not None:
            held[pod["metadata"].get("namespace", ""), job] += pod_gpus(pod)
    rows = [row_of(raw, held, now) for raw in jobs]
    rows.sort(key=_order)
    known = nodes is not None and pods is not None
    return Overview(rows=tuple(rows), gpus=Gpus.count(list(nodes or ()), pods or []) if known else None)


def row_of(raw: Object, held: Mapping[tuple[str, str], int], now: float) -> Row:
    """One job; `held` counts the GPUs of pods by namespace and job."""
    status, metadata = read_status(raw), raw["metadata"]
    space, name = metadata.get("namespace", "default"), metadata["name"]
    progress, workers, saved = status.progress, status.workers, status.checkpoint
    asked = int(raw["spec"].get("workers", 1)) * _whole((raw["spec"].get("resources") or {}).get("gpus"))
    spent = so_far(status, now)
    return Row(
        namespace=space,
        name=name,
        phase=status.phase,
        reason=status.reason or ("" if status.phase else NOT_SEEN),
        ready=workers.running + workers.succeeded if workers else 0,
        desired=int(raw["spec"].get("workers", 1)),
        gpus=held.get((space, name), 0),
        progress=(progress.summary if progress else None) or "",
        percent=progress.percent if progress else None,
        samples_per_second=progress.samples_per_second if progress and status.phase is Phase.RUNNING else None,
        metric=status.main_metric or "",
        step=progress.step if progress else None,
        total_steps=progress.total_steps if progress else None,
        checkpoint_step=saved.step if saved else None,
        checkpoint_age=_ago(saved.time, now) if saved else None,
        goodput=goodput(spent) if status.phase else None,
        lost_seconds=spent.lost_seconds,
        gpu_hours=round(asked * held_so_far(status, now) / 3600, 4) if asked and status.phase else None,
        restarts=status.restarts.total,
        age_seconds=_ago(metadata.get("creationTimestamp"), now),
    )


def node_ready(node: Object) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node.get("status", {}).get("conditions", []))


def pod_gpus(pod: Object) -> int:
    """GPUs that a pod holds on its node: 0 before it has one, and once it has ended."""
    if not pod.get("spec", {}).get("nodeName") or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    spec = pod["spec"]
    asked = [
        [_gpus(one.get("resources", {}).get("limits")) for one in spec.get(kind) or []]
        for kind in ("containers", "initContainers")
    ]
    # Init containers run one after another, before the others.
    return max(sum(asked[0]), max(asked[1], default=0))


def _order(row: Row) -> tuple[int, int, str, str]:
    rank = _ACTIVE.index(row.phase) if row.phase in _ACTIVE else len(_ACTIVE)
    age = row.age_seconds or 0
    return rank, age if row.finished else -age, row.namespace, row.name


def _ago(time: str | None, now: float) -> int | None:
    at = seconds(time)
    return None if at is None else max(0, int(now - at))


def _gpus(amounts: Mapping[str, Any] | None) -> int:
    """GPUs, and parts of them that are given out as such, each as one."""
    return sum(_whole(amount) for name, amount in (amounts or {}).items() if is_gpu(name))


def _whole(quantity: Any) -> int:
    """A count as the API writes it; what is no plain number counts as none."""
    text = str(quantity or 0)
    return int(text) if text.isdigit() else 0
