"""A worker's pod. It satisfies the restricted Pod Security Standard and takes nothing verbatim from the user but words."""

from __future__ import annotations

import json
from typing import Any

import yaml

from trainwright.api.job import TrainingJob
from trainwright.api.model import whole_cores
from trainwright.api.names import (
    ATTEMPT_LABEL,
    CODE_DIR,
    CONFIG_ANNOTATION,
    CONFIG_DIR,
    CONFIG_FILE,
    CONTAINER,
    FETCH_CONTAINER,
    INDEX_LABEL,
    JOB_LABEL,
    METRICS_PORT,
    SCRAPE_ANNOTATIONS,
    TERMINATION_LOG,
    WORKSPACE_DIR,
    hostname,
    pod_name,
    remote_folder,
    service_name,
)
from trainwright.api.spec import FrameworkName, TrainingJobSpec
from trainwright.frameworks import Identity, framework
from trainwright.plan.catalogue import FETCH
from trainwright.plan.confined import confined
from trainwright.plan.metadata import labels, owner
from trainwright.plan.types import Settings
from trainwright.plan.volumes import data_place, volumes, workspace_mount

GRACE_SECONDS = 30
UPLOAD_GRACE_SECONDS = 120
"""Grace of a worker whose last checkpoint must reach object storage first."""
DEFAULT_CHECKPOINT_SECONDS = 300
_NODE_AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def worker_pod(job: TrainingJob, index: int, settings: Settings) -> dict[str, Any]:
    """The pod of one worker of the job's current attempt."""
    spec = job.spec
    chosen = framework(spec.framework)
    nproc = max(1, spec.resources.gpus) if chosen.rank_a_gpu else 1
    who = Identity(
        job=job.name,
        namespace=job.namespace,
        uid=job.uid,
        attempt=job.attempt,
        workers=spec.workers,
        index=index,
        nproc=nproc,
        gpus=spec.resources.gpus,
        threads=max(1, whole_cores(spec.resources.cpu) // nproc) if spec.resources.cpu else None,
    )
    pod_volumes, mounts = volumes(job)
    environment = _environment(job, who)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job.name, job.attempt, index),
            "namespace": job.namespace,
            "labels": {**labels(job), ATTEMPT_LABEL: str(job.attempt), INDEX_LABEL: str(index)},
            "ownerReferences": [owner(job)],
            **_annotations(job),
        },
        "spec": confined(
            {
                "hostname": hostname(job.name, index),
                "subdomain": service_name(job.name),
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": UPLOAD_GRACE_SECONDS if spec.workspace.uri else GRACE_SECONDS,
                "containers": [
                    {
                        "name": CONTAINER,
                        "image": spec.image or settings.image(chosen.image),
                        "command": chosen.command(spec),
                        "workingDir": CODE_DIR if spec.code and not spec.recipe else WORKSPACE_DIR,
                        "env": environment,
                        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
                        "resources": _resources(job, settings),
                        "volumeMounts": mounts,
                    }
                ],
                **_fetch(job, settings, environment),
                "volumes": pod_volumes,
                **_placement(job, settings),
            }
        ),
    }


def _together(job: TrainingJob, topology_key: str) -> dict[str, Any]:
    """Where the first worker of an attempt goes, all others follow; what is left of an earlier attempt draws nobody."""
    gang = {"matchLabels": {JOB_LABEL: job.name, ATTEMPT_LABEL: str(job.attempt)}}
    term = {"labelSelector": gang, "topologyKey": topology_key}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _annotations(job: TrainingJob) -> dict[str, Any]:
    """Where the worker's port is, for a Prometheus that goes by annotations. And the recipe's configuration: it can't change
    under a pod that carries it, and costs no object of its own.
    """
    annotations = {}
    if has_launcher(job.spec):
        port = {"scrape": "true", "port": str(METRICS_PORT), "path": "/metrics"}
        annotations = {f"{SCRAPE_ANNOTATIONS}{name}": value for name, value in port.items()}
    if job.spec.recipe:
        annotations[CONFIG_ANNOTATION] = yaml.safe_dump(job.spec.recipe.config, sort_keys=True, allow_unicode=True)
    return {"annotations": annotations} if annotations else {}


def has_launcher(spec: TrainingJobSpec) -> bool:
    """Whether our launcher is the worker's first process; it isn't in an image of the user's that runs a command."""
    return spec.framework is not FrameworkName.NONE and not (spec.command and spec.image)


def _fetch(job: TrainingJob, settings: Settings, environment: list[dict[str, Any]]) -> dict[str, Any]:
    """The step before the worker that brings into the workspace what must be there: data, and what object storage keeps."""
    spec = job.spec
    wanted = [f"{entry.name}={entry.uri}" for entry in spec.data if entry.uri]
    if not wanted and not spec.workspace.uri:
        return {}
    # An image made from ours can fetch, and may carry the user's own file systems; a foreign one can't.
    ours = has_launcher(spec)
    image = spec.image or settings.image(framework(spec.framework).image) if ours else settings.image(FETCH)
    container = {
        "name": FETCH_CONTAINER,
        "image": image,
        "command": ["trainwright-fetch", *wanted],
        "workingDir": WORKSPACE_DIR,
        "env": environment,
        "volumeMounts": [workspace_mount(job)],
    }
    return {"initContainers": [container]}


def _placement(job: TrainingJob, settings: Settings) -> dict[str, Any]:
    """The fields of a pod's spec that say where it may run, and for how long without news of its node."""
    placement = {name: value for name, value in job.spec.placement.wire().items() if value}
    if important := job.spec.run_policy.scheduling.priority_class:
        placement["priorityClassName"] = important
    own = placement.pop("tolerations", [])
    if together := placement.pop("topologyKey", None):
        placement["affinity"] = _together(job, together)
    spoken_for = {one.get("key") for one in own if one.get("effect", "NoExecute") == "NoExecute"}
    patience = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": settings.node_lost_after}
        for key in _NODE_AWAY
        if spoken_for.isdisjoint((key, None))
    ]
    return {**placement, "tolerations": [*own, *_for_gpus(job, own), *patience]}


def _for_gpus(job: TrainingJob, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nodes with GPUs are tainted by the name of the resource, so that only pods come which ask for it; as these do."""
    asked = job.spec.resources
    if not asked.gpus:
        return []
    # Parts of a GPU are on nodes that are tainted as those with whole ones.
    keys = dict.fromkeys((asked.gpu_resource, f"{asked.gpu_resource.partition('/')[0]}/gpu"))
    spoken_for = {one.get("key") for one in own if one.get("effect", "NoSchedule") == "NoSchedule"}
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys if spoken_for.isdisjoint((key, None))]


def _environment(job: TrainingJob, who: Identity) -> list[dict[str, Any]]:
    spec = job.spec
    checkpoint = spec.checkpoint
    values = {
        "TRAINWRIGHT_JOB": who.job,
        "TRAINWRIGHT_NAMESPACE": who.namespace,
        "TRAINWRIGHT_UID": who.uid,
        "TRAINWRIGHT_ATTEMPT": str(who.attempt),
        "TRAINWRIGHT_WORKERS": str(who.workers),
        "TRAINWRIGHT_WORKER_INDEX": str(who.index),
        "TRAINWRIGHT_NPROC": str(who.nproc),
        "TRAINWRIGHT_WORKSPACE": WORKSPACE_DIR,
        "TRAINWRIGHT_CHECKPOINT_DIR": f"{WORKSPACE_DIR}/checkpoints",
        "TRAINWRIGHT_ARTIFACT_DIR": f"{WORKSPACE_DIR}/artifacts",
        "TRAINWRIGHT_CHECKPOINT_KEEP": str(checkpoint.keep),
        "TRAINWRIGHT_RESUME": checkpoint.resume.value,
        "TRAINWRIGHT_PROGRESS_DEADLINE": str(spec.run_policy.progress_deadline_seconds),
        "TRAINWRIGHT_METRICS_PORT": str(METRICS_PORT),
        "TRAINWRIGHT_DATA": json.dumps(_data(job), sort_keys=True),
        "TRAINWRIGHT_TERMINATION_LOG": TERMINATION_LOG,
    }
    if checkpoint.every_steps is not None:
        values["TRAINWRIGHT_CHECKPOINT_EVERY_STEPS"] = str(checkpoint.every_steps)
    else:
        values["TRAINWRIGHT_CHECKPOINT_EVERY_SECONDS"] = str(checkpoint.every_seconds or DEFAULT_CHECKPOINT_SECONDS)
    if spec.workspace.uri:
        values["TRAINWRIGHT_WORKSPACE_URI"] = remote_folder(spec.workspace.uri, job.namespace, job.name)
    if spec.recipe:
        values["TRAINWRIGHT_CONFIG"] = f"{CONFIG_DIR}/{CONFIG_FILE}"
    if who.threads is not None:
        values |= dict.fromkeys(_THREADS, str(who.threads))
    if spec.code:
        values["PYTHONPATH"] = CODE_DIR
    values |= framework(spec.framework).environment(who)
    address = {"name": "TRAINWRIGHT_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    # The user's own come first where both may be set (thread counts, PYTHONPATH), so ours are left out then.
    own = [variable.wire() for variable in spec.env]
    named = {variable.name for variable in spec.env}
    return [address, *({"name": name, "value": value} for name, value in values.items() if name not in named), *own]


def _data(job: TrainingJob) -> dict[str, dict[str, str]]:
    return {
        entry.name: {"builtin": entry.builtin.value} if entry.builtin else {"path": data_place(entry)} for entry in job.spec.data
    }


def _resources(job: TrainingJob, settings: Settings) -> dict[str, Any]:
    """What the job asks for is its limit, too; what it gets by default is not: nobody has said that it needs no more."""
    asked = job.spec.resources
    limits = {name: value for name, value in (("cpu", asked.cpu), ("memory", asked.memory)) if value}
    if asked.gpus:
        limits[asked.gpu_resource] = str(asked.gpus)
    defaults = (("cpu", settings.default_cpu), ("memory", settings.default_memory))
    requests = {name: value for name, value in defaults if value} | limits
    return {name: amounts for name, amounts in (("requests", requests), ("limits", limits)) if amounts}
