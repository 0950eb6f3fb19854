"""Metadata of everything made: labels to find it by, the owner it goes with, the hash of what was asked for; and what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainwright.api.job import KIND, TrainingJob
from trainwright.api.names import API_VERSION, HASH_ANNOTATION, JOB_LABEL, MANAGED_BY_LABEL, MANAGER
from trainwright.observe.observed import Child

_IMMUTABLE = ("PersistentVolumeClaim",)


def labels(job: TrainingJob) -> dict[str, str]:
    return {MANAGED_BY_LABEL: MANAGER, JOB_LABEL: job.name}


def owner(job: TrainingJob) -> dict[str, Any]:
    return owner_reference(KIND, job.name, job.uid)


def owner_reference(kind: str, name: str, uid: str) -> dict[str, Any]:
    """What is made for one of our objects goes when it goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def with_hash(obj: dict[str, Any]) -> dict[str, Any]:
    """The object, carrying a hash of itself: a difference to what stands in the cluster shows without reading it whole."""
    digest = hashlib.sha256(json.dumps(obj, sort_keys=True).encode()).hexdigest()[:16]
    metadata = {**obj["metadata"], "annotations": {**obj["metadata"].get("annotations", {}), HASH_ANNOTATION: digest}}
    return {**obj, "metadata": metadata}


def difference(
    wanted: Iterable[dict[str, Any]], there: Mapping[tuple[str, str], Child]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Objects (with their hash) to make, and objects to change. A claim that is there is taken as it is."""
    missing, different = [], []
    for one in wanted:
        metadata = one["metadata"]
        found = there.get((one["kind"], metadata["name"]))
        if found is None:
            missing.append(one)
        elif found.hash != metadata["annotations"][HASH_ANNOTATION] and one["kind"] not in _IMMUTABLE:
            different.append(one)
    return missing, different
