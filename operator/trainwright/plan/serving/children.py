"""Objects that a deployment should have, and those that it no longer needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import ModelDeploymentStatus, Version
from trainwright.api.names import CLIENT_PORT, gateway_name, models_claim_name, server_name
from trainwright.observe.serving import Role, Served
from trainwright.plan import isolation
from trainwright.plan.metadata import with_hash
from trainwright.plan.serving.metadata import metadata, pod_labels
from trainwright.plan.serving.pods import (
    ROUTES_FILE,
    config_name,
    gateway_deployment,
    launch_of,
    routes_name,
    server_deployment,
)
from trainwright.plan.serving.routes import routed
from trainwright.plan.serving.tasks import service_account
from trainwright.plan.serving.types import Removal
from trainwright.plan.types import Settings
from trainwright.servers import server

Object = dict[str, Any]
DEFAULT_SIZE = "10Gi"
GATEWAY_API = "gateway.networking.k8s.io"
ROUTE_HEADER = "x-trainwright-route"


def wanted(deployment: ModelDeployment, status: ModelDeploymentStatus, sync: Object, settings: Settings) -> list[Object]:
    """What the deployment should have beside the publisher's tasks."""
    spec = deployment.spec
    made = [
        service_account(deployment, settings),
        _routes(deployment, sync),
        gateway_deployment(deployment, settings),
        _service(deployment),
    ]
    if settings.isolated_from is not None:
        made += isolation.of_deployment(deployment, settings.isolated_from)
    if not spec.storage.claim:
        made.append(_claim(deployment))
    if files := server(spec.server).files(launch_of(deployment, None)):
        made.append(_config_map(deployment, config_name(deployment), files))
    for version in _served(deployment, status):
        made.append(server_deployment(deployment, version, settings))
    if spec.gateway.http_route:
        made.append(_route(deployment, status))
    return [with_hash(one) for one in made]


def unneeded(deployment: ModelDeployment, status: ModelDeploymentStatus, served: Served, draining: set[int]) -> list[Removal]:
    """Servers of versions that get no requests any more, once every gateway has let go of them; a route that is not asked for."""
    removed = [
        Removal(kind=child.kind, name=child.name, uid=child.uid)
        for (kind, _), child in sorted(served.children.items())
        if kind == "HTTPRoute" and deployment.spec.gateway.http_route is None
    ]
    if not server(deployment.spec.server).a_version_each:
        return removed
    keep = {version.version for version, _, _ in routed(status)} | draining
    kept = {server_name(deployment.name, number) for number in keep}
    servers = {server_name(deployment.name, version.version) for version in status.versions}
    return removed + [
        Removal(kind=child.kind, name=child.name, uid=child.uid)
        for (kind, name), child in sorted(served.children.items())
        if kind == "Deployment" and name in servers - kept
    ]


def _served(deployment: ModelDeployment, status: ModelDeploymentStatus) -> Iterable[Version | None]:
    versions = [version for version, _, _ in routed(status)]
    if server(deployment.spec.server).a_version_each:
        return versions
    return [None] if versions else []


def _routes(deployment: ModelDeployment, sync: Object) -> Object:
    """What gateways start with when the operator is away: what they were last told."""
    return _config_map(deployment, routes_name(deployment), {ROUTES_FILE: json.dumps(sync, sort_keys=True)})


def _config_map(deployment: ModelDeployment, name: str, data: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(deployment, name), "data": data}


def _service(deployment: ModelDeployment) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(deployment, gateway_name(deployment.name)),
        "spec": {
            "selector": pod_labels(deployment, Role.GATEWAY),
            "ports": [{"name": "http", "port": 80, "targetPort": CLIENT_PORT}],
        },
    }


def _claim(deployment: ModelDeployment) -> Object:
    """Owned by nobody: deleting the deployment must not delete its models."""
    storage = deployment.spec.storage
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(deployment, models_claim_name(deployment.name), owned=False),
        "spec": {
            "accessModes": [storage.access_mode.value],
            "resources": {"requests": {"storage": storage.size or DEFAULT_SIZE}},
        },
    }


def _route(deployment: ModelDeployment, status: ModelDeploymentStatus) -> Object:
    """An HTTPRoute that splits by weight and says to the gateway which version it chose: so all is measured in one place.

    What it says is a wish: a Gateway's configuration lags behind, and a version that has no share any more must not be asked.
    """
    asked = deployment.spec.gateway.http_route
    assert asked is not None  # noqa: S101 - asked before
    parent = {"name": asked.parent.name} | ({"namespace": asked.parent.namespace} if asked.parent.namespace else {})
    backends = [
        {
            "name": gateway_name(deployment.name),
            "port": 80,
            "weight": weight,
            "filters": [
                {
                    "type": "RequestHeaderModifier",
                    "requestHeaderModifier": {"set": [{"name": ROUTE_HEADER, "value": str(version.version)}]},
                }
            ],
        }
        for version, _, weight in routed(status)
        if weight
    ]
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(deployment, gateway_name(deployment.name)),
        "spec": {
            "parentRefs": [parent],
            **({"hostnames": asked.hostnames} if asked.hostnames else {}),
            "rules": [{"backendRefs": backends or [{"name": gateway_name(deployment.name), "port": 80}]}],
        },
    }
