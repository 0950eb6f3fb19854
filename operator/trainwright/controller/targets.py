"""The pods that can be scraped (workers, servers, gateways), as Prometheus' HTTP service discovery reads them.

So a Prometheus needs no rights in the cluster, and each series says whose it is by the same words as the operator's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainwright.api.names import (
    ATTEMPT_LABEL,
    DEPLOYMENT_LABEL,
    INDEX_LABEL,
    JOB_LABEL,
    ROLE_LABEL,
    SCRAPE_ANNOTATIONS,
    VERSION_LABEL,
)
from trainwright.cluster.port import Object

_TRAINING = {"job": JOB_LABEL, "worker": INDEX_LABEL, "attempt": ATTEMPT_LABEL}
_SERVING = {"deployment": DEPLOYMENT_LABEL, "role": ROLE_LABEL, "version": VERSION_LABEL}


def targets(pods: Iterable[Object]) -> list[dict[str, Any]]:
    """An entry for each running pod that asks to be scraped: address, and the labels of its series."""
    found = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status", {})
        annotations, labels = metadata.get("annotations", {}), metadata.get("labels", {})
        is_asked_for = annotations.get(f"{SCRAPE_ANNOTATIONS}scrape") == "true"
        if not is_asked_for or status.get("phase") != "Running" or not status.get("podIP"):
            continue
        of = {"namespace": metadata["namespace"], "pod": metadata["name"]}
        known = _SERVING if DEPLOYMENT_LABEL in labels else _TRAINING
        of |= {name: labels.get(label, "") for name, label in known.items()}
        if (path := annotations.get(f"{SCRAPE_ANNOTATIONS}path", "/metrics")) != "/metrics":
            of["__metrics_path__"] = path
        found.append({"targets": [f"{status['podIP']}:{annotations[f'{SCRAPE_ANNOTATIONS}port']}"], "labels": of})
    return found
