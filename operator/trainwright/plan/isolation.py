"""Who may reach the pods that we make, as NetworkPolicies: its own gang, the operator and Prometheus, and nobody else.

Only what comes in is held back: training reads data from wherever it is. Nodes reach their own pods whatever a policy says.
"""

from __future__ import annotations

from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.job import TrainingJob
from trainwright.api.names import CLIENT_PORT, JOB_LABEL, METRICS_PORT, gateway_name, publisher_name, server_name, service_name
from trainwright.observe.serving import Role
from trainwright.plan.metadata import labels, owner
from trainwright.plan.serving.metadata import metadata, pod_labels

Object = dict[str, Any]
OPERATOR = {"app.kubernetes.io/name": "trainwright", "app.kubernetes.io/component": "operator"}
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}


def of_job(job: TrainingJob, operator_namespace: str) -> Object:
    """Workers of a job."""
    gang = {JOB_LABEL: job.name}
    rules = [{"from": [_pods(gang)]}, {"from": [_operator(operator_namespace), _PROMETHEUS], "ports": [_port(METRICS_PORT)]}]
    made = {
        "name": service_name(job.name),
        "namespace": job.namespace,
        "labels": labels(job),
        "ownerReferences": [owner(job)],
    }
    return _policy(made, gang, rules)


def of_deployment(deployment: ModelDeployment, operator_namespace: str) -> list[Object]:
    """Servers, gateways and the publisher of a deployment. Clients ask gateways alone."""
    servers, gateways, publishers = (pod_labels(deployment, role) for role in (Role.SERVER, Role.GATEWAY, Role.PUBLISHER))
    to_servers: list[Object] = [{"from": [_pods(gateways), _PROMETHEUS]}]
    to_gateways: list[Object] = [
        {"ports": [_port(CLIENT_PORT)]},
        {
            "from": [_pods(gateways), _operator(operator_namespace), _PROMETHEUS],
            "ports": [_port(METRICS_PORT)],
        },
    ]
    return [
        _policy(metadata(deployment, server_name(deployment.name, None)), servers, to_servers),
        _policy(metadata(deployment, gateway_name(deployment.name)), gateways, to_gateways),
        _policy(metadata(deployment, publisher_name(deployment.name)), publishers, []),
    ]


def _policy(made: Object, selected: dict[str, str], rules: list[Object]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": made,
        "spec": {"podSelector": {"matchLabels": selected}, "policyTypes": ["Ingress"], "ingress": rules},
    }


def _pods(selected: dict[str, str]) -> Object:
    """In the same namespace."""
    return {"podSelector": {"matchLabels": selected}}


def _operator(namespace: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}, **_pods(OPERATOR)}


_PROMETHEUS: Object = {"namespaceSelector": {}, **_pods(PROMETHEUS)}


def _port(number: int) -> Object:
    return {"protocol": "TCP", "port": number}
