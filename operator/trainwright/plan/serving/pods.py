"""Pods of servers and gateways, as templates of Deployments; and what all pods of a deployment share."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_spec import ServingResources
from trainwright.api.deployment_status import Version
from trainwright.api.names import (
    CLIENT_PORT,
    GPU,
    METRICS_PORT,
    MODELS_DIR,
    SCRAPE_ANNOTATIONS,
    gateway_name,
    models_claim_name,
    server_name,
)
from trainwright.observe.serving import Role
from trainwright.plan.catalogue import GATEWAY, server_image
from trainwright.plan.confined import confined
from trainwright.plan.serving.metadata import metadata, pod_labels
from trainwright.plan.types import Settings
from trainwright.servers import CONFIG_DIR, Launch, server
from trainwright.servers.base import http_get

Object = dict[str, Any]
ROUTES_DIR = "/etc/trainwright"
ROUTES_FILE = "routes.json"
# A model may take long to load; until then it is not ready, and that is no reason to kill it.
START_SECONDS = 600
PROBE_SECONDS = 2


def token(deployment: ModelDeployment, settings: Settings) -> str | None:
    """By which the gateways of a deployment know their operator. They are told its hash alone."""
    if settings.gateway_key is None:
        return None
    return hmac.new(settings.gateway_key, deployment.uid.encode(), hashlib.sha256).hexdigest()


def server_deployment(deployment: ModelDeployment, version: Version | None, settings: Settings) -> Object:
    """Servers of one version, or (None) of all."""
    spec = deployment.spec
    chosen = server(spec.server)
    number = version.version if version else None
    launch = launch_of(deployment, version)
    environment = {
        "TRAINWRIGHT_MODEL_NAME": deployment.name,
        "TRAINWRIGHT_MODELS": MODELS_DIR,
        **({"TRAINWRIGHT_VERSION": str(number), "TRAINWRIGHT_RECORD": version.record or ""} if version else {}),
        **chosen.environment(launch),
    }
    volumes, mounts = [models_volume(deployment)], [models_mount(deployment)]
    if chosen.files(launch):
        volumes.append({"name": "config", "configMap": {"name": config_name(deployment)}})
        mounts.append({"name": "config", "mountPath": CONFIG_DIR, "readOnly": True})
    ready = http_get(chosen.ready_path(deployment.name), chosen.port)
    container = {
        "name": Role.SERVER.value,
        "image": spec.image or server_image(spec.server, settings),
        "command": chosen.command(launch),
        "env": with_pod_address(environment),
        "ports": [{"name": "http", "containerPort": chosen.port}]
        + ([{"name": "metrics", "containerPort": chosen.metrics_port}] if chosen.metrics_port != chosen.port else []),
        "resources": _resources(spec.resources),
        "volumeMounts": mounts,
        "readinessProbe": {**ready, "periodSeconds": PROBE_SECONDS, "timeoutSeconds": 5, "failureThreshold": 3},
        "startupProbe": {**ready, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": START_SECONDS},
        "livenessProbe": {**ready, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }
    scrape = (chosen.metrics_port, chosen.metrics_path)
    placement = {name: value for name, value in spec.placement.wire().items() if value and name != "topologyKey"}
    return _deployment(
        deployment,
        server_name(deployment.name, number),
        pod_labels(deployment, Role.SERVER, number),
        spec.replicas,
        container,
        volumes,
        scrape,
        **placement,
    )


def gateway_deployment(deployment: ModelDeployment, settings: Settings) -> Object:
    """What stands between clients and servers."""
    gateway = deployment.spec.gateway
    environment = {
        "TRAINWRIGHT_DEPLOYMENT": deployment.name,
        "TRAINWRIGHT_NAMESPACE": deployment.namespace,
        "TRAINWRIGHT_SERVER": deployment.spec.server.value,
        "TRAINWRIGHT_MODELS": MODELS_DIR,
        "TRAINWRIGHT_ROUTES": f"{ROUTES_DIR}/{ROUTES_FILE}",
    }
    if (secret := token(deployment, settings)) is not None:
        environment["TRAINWRIGHT_ADMIN_TOKEN_SHA256"] = hashlib.sha256(secret.encode()).hexdigest()
    name = {"name": "TRAINWRIGHT_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    routes = {"name": routes_name(deployment), "optional": True}
    container = {
        "name": Role.GATEWAY.value,
        "image": gateway.image or settings.image(GATEWAY),
        "command": ["trainwright-gateway"],
        "env": [name, *with_pod_address(environment)],
        "ports": [{"name": "http", "containerPort": CLIENT_PORT}, {"name": "metrics", "containerPort": METRICS_PORT}],
        "resources": _resources(gateway.resources),
        "volumeMounts": [models_mount(deployment), {"name": "routes", "mountPath": ROUTES_DIR, "readOnly": True}],
        # Ready without a live version, too: who asks is then told so, instead of nobody listening.
        "readinessProbe": {**http_get("/healthz", METRICS_PORT), "periodSeconds": PROBE_SECONDS, "timeoutSeconds": 2},
        "livenessProbe": {
            **http_get("/healthz", METRICS_PORT),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "initialDelaySeconds": 15,
        },
    }
    return _deployment(
        deployment,
        gateway_name(deployment.name),
        pod_labels(deployment, Role.GATEWAY),
        gateway.replicas,
        container,
        [models_volume(deployment), {"name": "routes", "configMap": routes}],
        (METRICS_PORT, "/metrics"),
    )


def launch_of(deployment: ModelDeployment, version: Version | None) -> Launch:
    """What servers of one version, or of all, are to serve."""
    return Launch(
        model=deployment.name,
        models=MODELS_DIR,
        batching=deployment.spec.batching,
        version=version.version if version else None,
        record=version.record if version else None,
    )


def config_name(deployment: ModelDeployment) -> str:
    return f"{deployment.name}-serving"


def routes_name(deployment: ModelDeployment) -> str:
    return f"{deployment.name}-routes"


def models_volume(deployment: ModelDeployment) -> Object:
    claim = deployment.spec.storage.claim or models_claim_name(deployment.name)
    return {"name": "models", "persistentVolumeClaim": {"claimName": claim}}


def models_mount(deployment: ModelDeployment, *, writable: bool = False) -> Object:
    folder = {"subPath": deployment.name} if deployment.spec.storage.claim else {}
    return {"name": "models", "mountPath": MODELS_DIR} | folder | ({} if writable else {"readOnly": True})


def with_pod_address(values: dict[str, str]) -> list[Object]:
    """An environment, and in it the address to listen on."""
    address = {"name": "TRAINWRIGHT_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return [address, *({"name": name, "value": value} for name, value in values.items())]


def _resources(asked: ServingResources) -> Object:
    amounts = {name: value for name, value in (("cpu", asked.cpu), ("memory", asked.memory)) if value}
    amounts |= {GPU: str(asked.gpus)} if asked.gpus else {}
    return {"requests": amounts, "limits": amounts} if amounts else {}


def _deployment(
    deployment: ModelDeployment,
    name: str,
    labels: dict[str, str],
    replicas: int,
    container: Object,
    volumes: list[Object],
    scrape: tuple[int, str],
    **placement: Any,
) -> Object:
    """A Deployment that never has fewer ready pods than asked for while it changes."""
    port, path = scrape
    told = {"scrape": "true", "port": str(port), "path": path}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(deployment, name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {f"{SCRAPE_ANNOTATIONS}{key}": value for key, value in told.items()},
                },
                "spec": confined(
                    {
                        # A gateway drains, and finishes requests with their retries; a server outlives what is asked of it.
                        "terminationGracePeriodSeconds": 2 * deployment.spec.gateway.timeout_seconds + 15,
                        "containers": [container],
                        "volumes": volumes,
                        **placement,
                    }
                ),
            },
        },
    }
