"""What `doctor` looks at in a cluster. Every check asks through the port and gives findings; none changes anything.

A check that is not allowed to look says so, as a warning: that something can't be seen doesn't mean that it is broken.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from trainwright.api import crd
from trainwright.api.kinds import KINDS, Kind
from trainwright.api.names import OPERATOR_NAME
from trainwright.cli.errors import CRD_FILES, INSTALL_CRD, advice
from trainwright.cli.findings import Finding, ok, problem, warning
from trainwright.cli.overview import Gpus
from trainwright.cluster.port import (
    CRDS,
    DEPLOYMENTS,
    NODES,
    PODS,
    STORAGE_CLASSES,
    TRAINING_JOBS,
    ClusterError,
    Forbidden,
    Inspectable,
    NotFound,
    Object,
    Resource,
)
from trainwright.local.storage import STORAGE_CLASS
from trainwright.observe.times import seconds

OLDEST = (1, 31)
# An operator looks at a new job within a second; this leaves it time to be restarted.
UNSEEN_SECONDS = 30.0
OPERATOR_LABELS = {"app.kubernetes.io/name": "trainwright"}
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
# Provisioners of block devices or of one node's directories: a file system of theirs is for one node.
ONE_NODE = ("ebs.csi.aws.com", "pd.csi.storage.gke.io", "disk.csi.azure.com", "cinder.csi.openstack.org", "rancher.io/local-path")
# API group -> kind that tells it, and what it is to people.
SCHEDULERS = {
    "kueue.x-k8s.io": ("Workload", "Kueue"),
    "scheduling.volcano.sh": ("PodGroup", "Volcano"),
    "scheduling.x-k8s.io": ("PodGroup", "coscheduling (scheduler-plugins)"),
    "scheduling.run.ai": ("PodGroup", "KAI"),
    "scheduling.k8s.io": ("PodGroup", "Kubernetes' own PodGroup"),
}

TwinOperator = Callable[[], Awaitable[bool]]
"""Whether the operator of the local twin, when that is the cluster, is healthy."""


async def inspect(cluster: Inspectable, namespace: str, *, twin_operator: TwinOperator | None = None) -> list[Finding]:
    """All findings; only the first where the cluster doesn't answer."""
    try:
        version = await cluster.version()
    except ClusterError as error:
        return [problem("cluster", str(error), advice(error) or "look at the API server's own log")]
    parts = await asyncio.gather(
        _guarded("crd", definition(cluster)),
        _guarded("operator", operator(cluster, twin_operator)),
        _guarded("rights", rights(cluster, namespace)),
        _guarded("gpus", gpus(cluster)),
        _guarded("storage", storage(cluster)),
        _guarded("schedulers", schedulers(cluster)),
    )
    return [_version(version), *(finding for part in parts for finding in part)]


async def _guarded(check: str, findings: Awaitable[Sequence[Finding]]) -> Sequence[Finding]:
    try:
        return await findings
    except Forbidden:
        return [warning(check, "you may not look at what tells", "ask whoever runs the cluster, or look with other rights")]
    except ClusterError as error:
        return [problem(check, str(error), advice(error) or "try again; if it stays, look at the API server's log")]


def _version(version: str) -> Finding:
    found = re.match(r"v(\d+)\.(\d+)", version)
    oldest = ".".join(map(str, OLDEST))
    if found and (int(found[1]), int(found[2])) < OLDEST:
        return problem("cluster", f"Kubernetes {version} is too old", f"upgrade the cluster to {oldest} or newer")
    return ok("cluster", f"Kubernetes {version} answers")


async def definition(cluster: Inspectable) -> list[Finding]:
    """Whether our kinds are there, served, and this version's."""
    wrong = [found for kind in KINDS.values() if (found := await _definition(cluster, kind)) is not None]
    return wrong or [ok("crd", f"{' and '.join(f'{name}s' for name in KINDS)} are defined as this version defines them")]


async def _definition(cluster: Inspectable, kind: Kind) -> Finding | None:
    ours = crd.definition(kind)
    what = f"{kind.name}s"
    try:
        there = await cluster.get(CRDS, ours["metadata"]["name"])
    except NotFound:
        return problem("crd", f"this cluster has no {what}", INSTALL_CRD)
    conditions = {one["type"]: one["status"] for one in there.get("status", {}).get("conditions") or []}
    if conditions.get("Established") != "True":
        return problem("crd", f"{what} are defined and not served", f"kubectl describe crd {ours['metadata']['name']}")
    differs = [name for name in ("versions", "names", "scope") if not _says(there["spec"].get(name), ours["spec"][name])]
    if differs:
        return warning(
            "crd",
            f"{what} are defined by another version of Trainwright than this command's ({', '.join(differs)} differ)",
            f"if this version is the newer one: kubectl apply --server-side --force-conflicts -f {CRD_FILES}",
        )
    return None


def _says(there: Any, ours: Any) -> bool:
    """Whether an object of the API says all that we say; it may add defaults of its own, but none within a schema."""
    if isinstance(ours, dict) and isinstance(there, dict):
        if "openAPIV3Schema" in ours:
            return bool(there.get("openAPIV3Schema") == ours["openAPIV3Schema"])
        return all(_says(there.get(key), value) for key, value in ours.items())
    if isinstance(ours, list) and isinstance(there, list):
        return len(there) == len(ours) and all(_says(one, other) for one, other in zip(there, ours, strict=True))
    return bool(there == ours)


async def operator(cluster: Inspectable, twin_operator: TwinOperator | None = None) -> list[Finding]:
    """Whether somebody looks after the jobs: by jobs that nobody has looked at, the twin's process, a Deployment."""
    try:
        jobs = (await cluster.list(TRAINING_JOBS)).items
    except (NotFound, Forbidden):
        jobs = []
    unseen = sorted(f"{job['metadata']['namespace']}/{job['metadata']['name']}" for job in jobs if _unseen(job))
    healthy = await twin_operator() if twin_operator else None
    if healthy is False:
        return [problem("operator", "the twin's operator does not answer", "start it again: trainwright up")]
    if unseen:
        names = ", ".join(unseen[:3]) + (" …" if len(unseen) > 3 else "")
        return [
            problem(
                "operator",
                f"nobody has looked at {names} in {UNSEEN_SECONDS:.0f} s",
                "start the operator, or see in its log whether it watches this namespace (--namespace)",
            )
        ]
    if healthy:
        return [ok("operator", "the twin's operator is healthy")]
    return await _deployed(cluster)


def _unseen(job: Object) -> bool:
    created = seconds(job["metadata"].get("creationTimestamp"))
    ours = job["spec"].get("runPolicy", {}).get("managedBy") in (None, OPERATOR_NAME)
    return ours and not job.get("status") and created is not None and time.time() - created > UNSEEN_SECONDS


async def _deployed(cluster: Inspectable) -> list[Finding]:
    labels = ", ".join(f"{key}={value}" for key, value in OPERATOR_LABELS.items())
    try:
        found = (await cluster.list(DEPLOYMENTS, labels=OPERATOR_LABELS)).items
    except Forbidden:
        return [warning("operator", "you may not list Deployments, so it can't be told whether it runs", "submit a job and see")]
    if not found:
        return [
            warning(
                "operator",
                f"no Deployment with the label {labels}; it may run elsewhere, and no job waits for it",
                "if nobody runs one: python -m trainwright.controller, with this kubeconfig in KUBECONFIG",
            )
        ]
    findings = []
    for one in found:
        name, space = one["metadata"]["name"], one["metadata"]["namespace"]
        if one.get("status", {}).get("availableReplicas", 0) >= 1:
            findings.append(ok("operator", f"Deployment {space}/{name} is available"))
        else:
            fix = f"kubectl describe deployment {name} -n {space}; kubectl logs deployment/{name} -n {space}"
            findings.append(problem("operator", f"Deployment {space}/{name} has no available replica", fix))
    return findings


async def rights(cluster: Inspectable, namespace: str) -> list[Finding]:
    """What the user may do here, purpose by purpose."""
    maps, claims, events = (
        Resource("", "configmaps"), Resource("", "persistentvolumeclaims"), Resource("", "events")
    )  # fmt: skip
    here: dict[str, list[tuple[str, Resource, str]]] = {
        "submit jobs": [("create", TRAINING_JOBS, ""), ("patch", TRAINING_JOBS, "")],
        "watch jobs": [("get", TRAINING_JOBS, ""), ("list", TRAINING_JOBS, ""), ("watch", TRAINING_JOBS, "")],
        "delete jobs": [("delete", TRAINING_JOBS, "")],
        "read logs": [("list", PODS, ""), ("get", PODS, ""), ("get", PODS, "log")],
        "see what happened to a job": [("list", events, "")],
        "submit code and claims with a job": [("create", maps, ""), ("patch", maps, ""), ("create", claims, "")],
    }
    everywhere = {"see all GPUs in `trainwright top`": [("list", NODES, ""), ("list", PODS, "")]}
    needed = {"submit jobs", "watch jobs", "delete jobs", "read logs"}
    findings = []
    for purposes, where in ((here, namespace), (everywhere, None)):
        for purpose, asked in purposes.items():
            answers = await asyncio.gather(*(cluster.may(verb, kind, where, subresource=sub) for verb, kind, sub in asked))
            if missing := [one for one, allowed in zip(asked, answers, strict=True) if not allowed]:
                say = problem if purpose in needed else warning
                findings.append(say("rights", f"you may not {purpose}{_in(where)}", _grant(missing, where)))
    return findings or [ok("rights", f"you may submit, watch, read and delete jobs{_in(namespace)}")]


def _in(namespace: str | None) -> str:
    return f" in namespace {namespace}" if namespace else ""


def _grant(missing: list[tuple[str, Resource, str]], namespace: str | None) -> str:
    verbs = ", ".join(dict.fromkeys(verb for verb, _, _ in missing))
    resources = dict.fromkeys(
        f"{kind.plural}{f'.{kind.group}' if kind.group else ''}{f'/{sub}' if sub else ''}" for _, kind, sub in missing
    )
    role = f"a Role in {namespace}" if namespace else "a ClusterRole"
    return f"an administrator grants it: {role} with {verbs} on {', '.join(resources)}"


async def gpus(cluster: Inspectable) -> list[Finding]:
    """Nodes that take work, and their GPUs."""
    nodes = (await cluster.list(NODES)).items
    try:
        pods = (await cluster.list(PODS)).items
    except Forbidden:
        pods = None
    found = Gpus.count(nodes, pods or [])
    findings = []
    if found.not_ready:
        names = ", ".join(found.not_ready)
        findings.append(warning("nodes", f"not ready: {names}", f"kubectl describe node {found.not_ready[0]}"))
    if len(found.not_ready) == len(nodes):
        fix = "twin: trainwright up --nodes N; elsewhere: kubectl get nodes"
        return [*findings, problem("gpus", "no node is ready, so nothing can run", fix)]
    if not found.capacity:
        fix = (
            "twin: trainwright up --gpus-per-node N; elsewhere: the NVIDIA device plugin or GPU operator on nodes that have some"
        )
        return [*findings, warning("gpus", "no nvidia.com/gpu on any ready node: jobs that ask for GPUs would wait", fix)]
    used = f"{found.in_use} in use" if pods is not None else "how many are in use you may not see"
    return [*findings, ok("gpus", f"{found.capacity} allocatable, {used}")]


async def storage(cluster: Inspectable) -> list[Finding]:
    """The class that workspaces are made from."""
    classes = (await cluster.list(STORAGE_CLASSES)).items
    default = [one for one in classes if one["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"]
    names = ", ".join(one["metadata"]["name"] for one in classes)
    if not default:
        there = f"the classes {names} are there" if names else "there is no class at all"
        fix = f"kubectl annotate storageclass NAME {DEFAULT_CLASS}=true; or name a claim of yours: spec.workspace.claim"
        return [warning("storage", f"no default storage class ({there}): jobs without spec.workspace.claim would wait", fix)]
    name, provisioner = default[0]["metadata"]["name"], default[0].get("provisioner", "")
    if provisioner in ONE_NODE:
        message = f"default class {name} ({provisioner}) is for one node; jobs of several workers ask for ReadWriteMany"
        return [warning("storage", message, "name a ReadWriteMany claim for those: spec.workspace.claim")]
    if name == STORAGE_CLASS:
        return [ok("storage", f"default class {name}, directories of this machine")]
    return [ok("storage", f"default class {name} ({provisioner}); for jobs of several workers it must offer ReadWriteMany")]


async def schedulers(cluster: Inspectable) -> list[Finding]:
    """Queue systems and gang schedulers, by the kinds that the API serves."""
    served = await asyncio.gather(*(cluster.discover(group) for group in SCHEDULERS))
    found = [
        f"{title} {version}"
        for (kind, title), versions in zip(SCHEDULERS.values(), served, strict=True)
        for version in [version for version, kinds in versions.items() if kind in kinds][:1]
    ]
    if found:
        return [ok("schedulers", f"found: {', '.join(found)}")]
    return [ok("schedulers", "none beside the cluster's own: no queues and no gang scheduling to be had here")]
