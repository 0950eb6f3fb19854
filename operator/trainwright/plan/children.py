"""Children of a job other than its pods: the headless Service, the claim of its workspace, who may reach its workers."""

from __future__ import annotations

from typing import Any

from trainwright.api.job import TrainingJob
from trainwright.api.names import JOB_LABEL, claim_name, service_name
from trainwright.plan import isolation
from trainwright.plan.metadata import labels, owner, with_hash
from trainwright.plan.types import Settings


def wanted(job: TrainingJob, settings: Settings) -> list[dict[str, Any]]:
    """The children a job should have."""
    children = [_service(job)]
    if settings.isolated_from is not None:
        children.append(isolation.of_job(job, settings.isolated_from))
    if job.spec.workspace.size:
        children.append(_claim(job))
    return [with_hash(child) for child in children]


def _metadata(job: TrainingJob, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": job.namespace, "labels": labels(job), "ownerReferences": [owner(job)]}


def _service(job: TrainingJob) -> dict[str, Any]:
    """Gives every worker a name. Workers find each other before they are ready, hence publishNotReadyAddresses."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job, service_name(job.name)),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {JOB_LABEL: job.name}},
    }


def _claim(job: TrainingJob) -> dict[str, Any]:
    """Owned by nobody: deleting the job must not delete its model. Several workers may be on several nodes."""
    metadata = _metadata(job, claim_name(job.name))
    del metadata["ownerReferences"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {
            "accessModes": ["ReadWriteMany" if job.spec.workers > 1 else "ReadWriteOnce"],
            "resources": {"requests": {"storage": job.spec.workspace.size}},
        },
    }
