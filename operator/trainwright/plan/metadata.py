"""Metadata of everything made for a job: labels to find it by, the owner it goes with, the hash of what was asked for."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from trainwright.api.job import KIND, TrainingJob
from trainwright.api.names import API_VERSION, HASH_ANNOTATION, JOB_LABEL, MANAGED_BY_LABEL, MANAGER


def labels(job: TrainingJob) -> dict[str, str]:
    return {MANAGED_BY_LABEL: MANAGER, JOB_LABEL: job.name}


def owner(job: TrainingJob) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def with_hash(obj: dict[str, Any]) -> dict[str, Any]:
    """The object, carrying a hash of itself: a difference to what stands in the cluster shows without reading it whole."""
    digest = hashlib.sha256(json.dumps(obj, sort_keys=True).encode()).hexdigest()[:16]
    metadata = {**obj["metadata"], "annotations": {**obj["metadata"].get("annotations", {}), HASH_ANNOTATION: digest}}
    return {**obj, "metadata": metadata}
