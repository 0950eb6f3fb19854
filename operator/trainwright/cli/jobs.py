"""Commands on jobs of a cluster: `submit`, `status JOB`, `logs`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from trainwright.api.job import KIND, TrainingJob, parse, read_status
from trainwright.api.names import ATTEMPT_LABEL, CONTAINER, INDEX_LABEL, JOB_LABEL, claim_name
from trainwright.api.status import Phase
from trainwright.cli.app import UserError, app, err, out
from trainwright.cli.connect import Context, Kubeconfig, Namespace, connected
from trainwright.cli.files import read_objects
from trainwright.cli.render import as_json, job_view
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import (
    CLAIMS,
    CONFIG_MAPS,
    EVENTS,
    PODS,
    TRAINING_JOBS,
    ClusterError,
    Gone,
    NotFound,
    Object,
    WatchType,
)
from trainwright.observe.workers import WorkerState, observe_worker

_SUBMITTABLE = {resource.kind: resource for resource in (TRAINING_JOBS, CONFIG_MAPS, CLAIMS)}
START_POLL_SECONDS = 0.3
Job = Annotated[str, typer.Argument(help="Name of the job.", show_default=False)]


@app.command()
def submit(
    file: Annotated[
        Path, typer.Argument(help="YAML file with a TrainingJob and what it needs; - for stdin.", show_default=False)
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and show progress until the job ends.")] = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Check a job and send it to the cluster."""
    objects = read_objects(file)
    asyncio.run(_submit(objects, namespace, kubeconfig, context, follow=follow))


async def _submit(objects: list[Object], namespace: str, kubeconfig: Path | None, context: str | None, *, follow: bool) -> None:
    jobs = [obj for obj in objects if obj["kind"] == KIND]
    if not jobs:
        raise UserError("the file holds no TrainingJob")
    for obj in objects:
        if obj["kind"] not in _SUBMITTABLE:
            raise UserError(
                f"a {obj['kind']} can't be submitted; accepted are {', '.join(_SUBMITTABLE)}. Use kubectl apply for the rest"
            )
    async with connected(kubeconfig, context) as cluster:
        for obj in objects:
            obj["metadata"].setdefault("namespace", namespace)
            await cluster.apply(_SUBMITTABLE[obj["kind"]], obj, manager="trainwright-cli")
            out.print(f"{obj['kind'].lower()} {obj['metadata']['name']} submitted")
        first = jobs[0]["metadata"]
        if not follow:
            err.print(
                f"[dim]follow it with: trainwright status {first['name']} -n {first['namespace']} --follow[/]", soft_wrap=True
            )
            return
        if not await _follow(cluster, first["name"], first["namespace"]):
            raise typer.Exit(1)


@app.command()
def suspend(job: Job, namespace: Namespace = "default", kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Set a job aside: its workers save a checkpoint and end."""
    asyncio.run(_set_suspend(job, namespace, kubeconfig, context, suspend=True))


@app.command()
def resume(job: Job, namespace: Namespace = "default", kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Let a suspended job go on from its checkpoint."""
    asyncio.run(_set_suspend(job, namespace, kubeconfig, context, suspend=False))


async def _set_suspend(name: str, namespace: str, kubeconfig: Path | None, context: str | None, *, suspend: bool) -> None:
    async with connected(kubeconfig, context) as cluster:
        job = parse(await _get(cluster, name, namespace))
        if job.status.finished:
            raise UserError(f"job {name} has ended ({job.status.phase}); only one that has not can be suspended or resumed")
        if job.spec.run_policy.suspend == suspend:
            out.print(f"{name} is {'suspended' if suspend else 'not suspended'} already")
            return
        await cluster.patch(TRAINING_JOBS, name, namespace, {"spec": {"runPolicy": {"suspend": suspend}}})
        out.print(f"{name} {'is being suspended' if suspend else 'goes on'}")


@app.command()
def delete(job: Job, namespace: Namespace = "default", kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Delete a job and its pods. Its workspace stays."""
    asyncio.run(_delete(job, namespace, kubeconfig, context))


async def _delete(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    async with connected(kubeconfig, context) as cluster:
        job = parse(await _get(cluster, name, namespace))
        await cluster.delete(TRAINING_JOBS, name, namespace, uid=job.uid)
        out.print(f"{name} deleted; its results stay in the claim {job.spec.workspace.claim or claim_name(name)}")


@app.command()
def logs(
    job: Job,
    rank: Annotated[int | None, typer.Option("--rank", "-r", help="The worker with this rank (default: rank 0).", min=0)] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="All workers, each line with its worker's index.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and print what comes.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", help="Only the last N lines.", min=0)] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print what workers wrote."""
    if every and rank is not None:
        raise UserError("--rank and --all exclude each other")
    asyncio.run(_logs(job, rank, every=every, follow=follow, tail=tail, namespace=namespace, where=(kubeconfig, context)))


async def _logs(
    name: str,
    rank: int | None,
    *,
    every: bool,
    follow: bool,
    tail: int | None,
    namespace: str,
    where: tuple[Path | None, str | None],
) -> None:
    async with connected(*where) as cluster:
        job = parse(await _get(cluster, name, namespace))
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
            err.print(f"[dim]{name} has not started: {worker.waiting or 'its container is being made'}[/]", soft_wrap=True)
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


async def show_job(name: str, namespace: str, kubeconfig: Path | None, context: str | None, *, follow: bool, output: str) -> bool:
    """Print one job; with `follow` until it ends. Whether it has not failed."""
    async with connected(kubeconfig, context) as cluster:
        raw = await _get(cluster, name, namespace)
        if output == "json":
            sys.stdout.write(as_json(raw) + "\n")
        elif follow:
            return await _follow(cluster, name, namespace)
        else:
            out.print(job_view(raw, await _events(cluster, raw)))
        return read_status(raw).phase is not Phase.FAILED


async def _get(cluster: KubeCluster, name: str, namespace: str) -> Object:
    try:
        return await cluster.get(TRAINING_JOBS, name, namespace)
    except NotFound:
        names = [raw["metadata"]["name"] for raw in (await cluster.list(TRAINING_JOBS, namespace)).items]
        there = f"there are: {', '.join(names[:10])}" if names else "there are none"
        raise UserError(f"no TrainingJob {name} in namespace {namespace}; {there}") from None


async def _events(cluster: KubeCluster, raw: Object) -> list[Object]:
    uid = raw["metadata"]["uid"]
    try:
        listed = await cluster.list(EVENTS, raw["metadata"]["namespace"])
    except ClusterError:
        return []
    return [event for event in listed.items if event.get("involvedObject", {}).get("uid") == uid]


async def changes(cluster: KubeCluster, name: str, namespace: str) -> AsyncIterator[Object]:
    """A job now and at every change, until it is deleted."""
    while True:
        listed = await cluster.list(TRAINING_JOBS, namespace)
        now = next((raw for raw in listed.items if raw["metadata"]["name"] == name), None)
        if now is None:
            return
        yield now
        version = listed.resource_version
        try:
            async for event in cluster.watch(TRAINING_JOBS, namespace, resource_version=version):
                if event.object["metadata"].get("name") != name or event.type is WatchType.BOOKMARK:
                    continue
                if event.type is WatchType.DELETED:
                    return
                yield event.object
        except Gone:
            continue


async def _follow(cluster: KubeCluster, name: str, namespace: str) -> bool:
    """Show a job until it ends; whether it succeeded. Without a terminal: a line for every change of phase or reason."""
    phase: Phase | None = None
    said = ""
    with Live(console=out, refresh_per_second=8, transient=False) if out.is_terminal else _Quiet() as live:
        async for raw in changes(cluster, name, namespace):
            status = read_status(raw)
            phase = status.phase
            live.update(job_view(raw))
            line = f"{phase or 'New'}: {status.reason or ''}".rstrip(": ")
            if isinstance(live, _Quiet) and line != said:
                _write(f"{name} {line}\n")
                said = line
            if status.finished:
                break
        else:
            raise UserError(f"job {name} was deleted")
    return phase is Phase.SUCCEEDED


class _Quiet:
    """Stands in for a live display where there is no terminal."""

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, _: Any) -> None:
        return None
