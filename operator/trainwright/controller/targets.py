"""The workers that can be scraped, as Prometheus' HTTP service discovery reads them.

So a Prometheus needs no rights in the cluster, and each series says of which job it is by the same words as the operator's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainwright.api.names import ATTEMPT_LABEL, INDEX_LABEL, JOB_LABEL, SCRAPE_ANNOTATIONS
from trainwright.cluster.port import Object


def targets(pods: Iterable[Object]) -> list[dict[str, Any]]:
    """An entry for each running worker with our launcher: address, and the labels of its series."""
    found = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status", {})
        annotations, labels = metadata.get("annotations", {}), metadata.get("labels", {})
        is_asked_for = annotations.get(f"{SCRAPE_ANNOTATIONS}scrape") == "true"
        if not is_asked_for or status.get("phase") != "Running" or not status.get("podIP"):
            continue
        of = {
            "namespace": metadata["namespace"],
            "pod": metadata["name"],
            "job": labels.get(JOB_LABEL, ""),
            "worker": labels.get(INDEX_LABEL, ""),
            "attempt": labels.get(ATTEMPT_LABEL, ""),
        }
        found.append({"targets": [f"{status['podIP']}:{annotations[f'{SCRAPE_ANNOTATIONS}port']}"], "labels": of})
    return found
