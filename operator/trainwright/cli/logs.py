"""`logs`: what workers wrote, of one rank or of all."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rich.markup import escape

from trainwright.api.job import TrainingJob, parse
from trainwright.api.names import ATTEMPT_LABEL, CONTAINER, INDEX_LABEL, JOB_LABEL
from trainwright.cli.app import UserError, note
from trainwright.cli.connect import connected
from trainwright.cli.follow import get_job
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, Object
from trainwright.observe.workers import WorkerState, observe_worker

START_POLL_SECONDS = 0.3


def logs(
    job: str,
    rank: int | None,
    *,
    every: bool,
    follow: bool,
    tail: int | None,
    namespace: str | None,
    where: tuple[Path | None, str | None],
) -> None:
    if every and rank is not None:
        raise UserError("--rank and --all exclude each other")
    asyncio.run(_logs(job, rank, every=every, follow=follow, tail=tail, namespace=namespace, where=where))


async def _logs(
    name: str,
    rank: int | None,
    *,
    every: bool,
    follow: bool,
    tail: int | None,
    namespace: str | None,
    where: tuple[Path | None, str | None],
) -> None:
    async with connected(*where) as cluster:
        namespace = namespace or cluster.namespace
        job = parse(await get_job(cluster, name, namespace))
        index = _worker_of(job, rank) if rank is not None else 0
        pods = (await cluster.list(PODS, namespace, labels={JOB_LABEL: name, ATTEMPT_LABEL: str(job.attempt)})).items
        if not every:
            pods = [pod for pod in pods if pod["metadata"]["labels"].get(INDEX_LABEL) == str(index)]
        if not pods:
            raise UserError(f"job {name} has no such pod now: {job.status.reason or 'it has not started yet'}")
        width = len(str(job.spec.workers - 1))
        prefixes = [f"[{pod['metadata']['labels'][INDEX_LABEL]:>{width}}] " if every else "" for pod in pods]
        logs = [
            _print_log(cluster, pod, follow=follow, tail=tail, prefix=prefix) for pod, prefix in zip(pods, prefixes, strict=True)
        ]
        await asyncio.gather(*logs)


def _worker_of(job: TrainingJob, rank: int) -> int:
    """The worker whose pod's log is this rank's. Raises `UserError` for a rank that has no pod to itself."""
    per_pod = 1 if job.spec.command else max(1, job.spec.resources.gpus)
    if rank >= job.spec.workers * per_pod:
        raise UserError(f"--rank {rank}: job {job.name} has ranks 0 to {job.spec.workers * per_pod - 1}")
    if rank % per_pod:
        lowest = rank - rank % per_pod
        place = f"logs/attempt-{job.attempt}/rank-{rank}.log"
        raise UserError(
            f"--rank {rank} shares a pod with rank {lowest}, whose output the pod's log is; its own is {place} in the workspace"
        )
    return rank // per_pod


async def _print_log(cluster: KubeCluster, pod: Object, *, follow: bool, tail: int | None, prefix: str) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    while (worker := observe_worker(pod)) is not None and worker.state is WorkerState.PENDING:
        if not follow:
            note(escape(f"{name} has not started: {worker.waiting or 'its container is being made'}"))
            return
        await asyncio.sleep(START_POLL_SECONDS)
        pod = await cluster.get(PODS, name, namespace)
    if not follow:
        text = await cluster.logs(name, namespace, container=CONTAINER, tail_lines=tail)
        _write("".join(f"{prefix}{line}\n" for line in text.splitlines()))
        return
    rest = b""
    async for chunk in cluster.stream_logs(name, namespace, tail_lines=tail):
        *lines, rest = (rest + chunk).split(b"\n")
        _write("".join(f"{prefix}{line.decode(errors='replace')}\n" for line in lines))
    if rest:
        _write(f"{prefix}{rest.decode(errors='replace')}\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
