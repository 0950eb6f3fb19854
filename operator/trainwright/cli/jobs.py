"""Commands that change jobs of a cluster: `submit`, `suspend`, `resume`, `delete`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from trainwright.api.job import KIND, parse
from trainwright.api.kinds import KINDS
from trainwright.api.names import claim_name, remote_folder
from trainwright.cli.app import Output, UserError, emit, note, out, whole
from trainwright.cli.connect import connected
from trainwright.cli.files import read_objects
from trainwright.cli.follow import follow_job, get_job
from trainwright.cluster.port import CLAIMS, CONFIG_MAPS, MODEL_DEPLOYMENTS, TRAINING_JOBS, Invalid, NotFound, Object

_SUBMITTABLE = {resource.kind: resource for resource in (TRAINING_JOBS, MODEL_DEPLOYMENTS, CONFIG_MAPS, CLAIMS)}


def submit(
    file: Path, namespace: str | None, kubeconfig: Path | None, context: str | None, *, follow: bool, output: Output
) -> None:
    if follow and output is not Output.TABLE:
        raise UserError("--follow and --output exclude each other; `trainwright status JOB --output json` tells how it ended")
    objects = read_objects(file)
    asyncio.run(_submit(objects, namespace, kubeconfig, context, follow=follow, output=output))


async def _submit(
    objects: list[Object], namespace: str | None, kubeconfig: Path | None, context: str | None, *, follow: bool, output: Output
) -> None:
    jobs = [obj for obj in objects if obj["kind"] == KIND]
    if follow and not jobs:
        raise UserError("--follow follows a TrainingJob, and the file holds none")
    if not any(obj["kind"] in KINDS for obj in objects):
        raise UserError(f"the file holds no {' and no '.join(KINDS)}")
    for obj in objects:
        if obj["kind"] not in _SUBMITTABLE:
            raise UserError(
                f"a {obj['kind']} can't be submitted; accepted are {', '.join(_SUBMITTABLE)}. Use kubectl apply for the rest"
            )
    async with connected(kubeconfig, context) as cluster:
        stored = []
        for obj in objects:
            # One that was asked for by name wins over the context's, and the file over both.
            there = obj["metadata"].setdefault("namespace", namespace or cluster.namespace)
            if namespace is not None and there != namespace:
                raise UserError(
                    f"the file puts {obj['metadata']['name']} into namespace {there}, and --namespace says {namespace}"
                )
        for obj in objects:
            try:
                stored.append(await cluster.apply(_SUBMITTABLE[obj["kind"]], obj, manager="trainwright-cli"))
            except Invalid as error:
                raise UserError(error.message) from None
            except NotFound as error:
                if "namespaces" not in error.message:
                    raise
                where = obj["metadata"]["namespace"]
                raise UserError(f"there is no namespace {where}; make it: kubectl create namespace {where}") from None
            if output is Output.TABLE:
                out.print(f"{obj['kind'].lower()} {obj['metadata']['name']} submitted", soft_wrap=True)
        if output is not Output.TABLE:
            emit({"apiVersion": "v1", "kind": "List", "items": [whole(raw) for raw in stored]}, output)
            return
        if not jobs:
            return
        first = jobs[0]["metadata"]
        if not follow:
            note(f"follow it with: trainwright status {first['name']} -n {first['namespace']} --follow")
            return
        if not await follow_job(cluster, first["name"], first["namespace"]):
            raise typer.Exit(1)


def set_suspend(name: str, namespace: str | None, kubeconfig: Path | None, context: str | None, *, suspend: bool) -> None:
    asyncio.run(_set_suspend(name, namespace, kubeconfig, context, suspend=suspend))


async def _set_suspend(name: str, namespace: str | None, kubeconfig: Path | None, context: str | None, *, suspend: bool) -> None:
    async with connected(kubeconfig, context) as cluster:
        namespace = namespace or cluster.namespace
        job = parse(await get_job(cluster, name, namespace))
        if job.status.finished:
            raise UserError(f"job {name} has ended ({job.status.phase}); only one that has not can be suspended or resumed")
        if job.spec.run_policy.suspend == suspend:
            out.print(f"{name} is {'suspended' if suspend else 'not suspended'} already")
            return
        await cluster.patch(TRAINING_JOBS, name, namespace, {"spec": {"runPolicy": {"suspend": suspend}}})
        out.print(f"{name} {'is being suspended' if suspend else 'goes on'}")


def delete(name: str, namespace: str | None, kubeconfig: Path | None, context: str | None) -> None:
    asyncio.run(_delete(name, namespace, kubeconfig, context))


async def _delete(name: str, namespace: str | None, kubeconfig: Path | None, context: str | None) -> None:
    async with connected(kubeconfig, context) as cluster:
        namespace = namespace or cluster.namespace
        job = parse(await get_job(cluster, name, namespace))
        await cluster.delete(TRAINING_JOBS, name, namespace, uid=job.uid)
        kept = job.spec.workspace
        claim = f"the claim {kept.claim or claim_name(name)}"
        place = remote_folder(kept.uri, job.namespace, name) if kept.uri else claim
        out.print(f"{name} deleted; its results stay in {place}", soft_wrap=True)
