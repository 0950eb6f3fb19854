"""All of kopf: objects of our kinds come in as events and leave as keys. No handler decides, waits, or writes."""

from __future__ import annotations

from typing import Any

import kopf

from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import MODEL_DEPLOYMENTS, TRAINING_JOBS
from trainwright.controller.operator import Operator


def registry_for(operator: Operator, cluster: KubeCluster) -> kopf.OperatorRegistry:
    """A registry whose handlers feed this operator, and which reaches the API server as `cluster` does."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        access = await cluster.access()
        return kopf.ConnectionInfo(
            server=access.server,
            ca_path=access.ca_file,
            insecure=access.insecure,
            certificate_path=access.certificate_file,
            private_key_path=access.key_file,
            scheme=access.scheme,
            token=access.token,
        )

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 10
        settings.watching.server_timeout = 240
        settings.watching.client_timeout = 255
        settings.watching.connect_timeout = 10
        settings.persistence.finalizer = "trainwright.dev/kopf"

    @kopf.on.event(TRAINING_JOBS.group, TRAINING_JOBS.version, TRAINING_JOBS.plural, registry=registry)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        raw: dict[str, Any] = dict(event["object"])
        if event["type"] == "DELETED":
            operator.job_deleted(raw)
        else:
            operator.job_changed(raw)

    @kopf.on.event(MODEL_DEPLOYMENTS.group, MODEL_DEPLOYMENTS.version, MODEL_DEPLOYMENTS.plural, registry=registry)
    async def deployment_changed(event: kopf.RawEvent, **_: Any) -> None:
        raw: dict[str, Any] = dict(event["object"])
        if operator.serving is None:
            return
        if event["type"] == "DELETED":
            operator.serving.deleted(raw)
        else:
            operator.serving.changed(raw)

    return registry
